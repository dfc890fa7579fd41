"""A whole step as one compiled graph: the hypergradients, every level, the parameters' new values.

What is traced is the very code of an eager step (`gdtuo.stepping`), on stores that hold tensors
alone and cells of one tensor each. Counts, factors and flags go in as tensors too, so that nothing
is compiled anew when a hyperparameter, a step count, a schedule or the size of a tensor changes.
Compiled is the ordinary step; one in which something starts, is left out or is frozen is eager.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import types
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gdtuo import guard, stepping
from gdtuo.cell import Cell, Store
from gdtuo.core import Level, arithmetic_dtype
from gdtuo.learner import Learner
from gdtuo.safeguards import Safeguards
from gdtuo.stepping import Draft, Gathered, Work

log = logging.getLogger("gdtuo")

#: of a cell; slices can't be hashed
Copies = int | tuple[int, int] | types.EllipsisType | None
Tensors = dict[str, Tensor]
#: steps of the parameters, and what has changed in the stores of cells and of groups
Result = tuple[list[Tensor], list[Tensors], list[Tensors]]


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a graph is compiled for; groups are told apart by their place in a list."""

    learners: tuple[tuple[tuple[Level, ...], Safeguards, int], ...]
    works: tuple[tuple[tuple[Level, Copies, int], ...], ...]  #: of each learner
    kinds: tuple[tuple[torch.dtype, torch.device, int, bool], ...]

    def function(self) -> Callable[..., Result]:
        """The step as a function of the tensors in the stores of cells and groups."""

        def step(cells: list[Tensors], groups: list[Tensors]) -> Result:
            stores = [{**group, **self._numbers(i)} for i, group in enumerate(groups)]
            before = [dict(cell) for cell in cells], [dict(store) for store in stores]
            rest: list[Store] = list(cells)
            drafts: list[Draft] = []
            steps: list[Tensor] = []
            for (levels, safeguards, at), of_learner in zip(self.learners, self.works, strict=True):
                counting = dataclasses.replace(safeguards, guard=safeguards.guard or 1)
                works = []
                for level, copies, group in of_learner:
                    store = rest.pop(0)
                    store |= {"step": 0, "is_kept": int(bool(level.learned))}
                    cell = Cell(level, [store["w"]], [store], "", _slice(copies), counting.guard)
                    g, along = store["g"], store.get("along")
                    works.append(Work(stores[group], cell, g, along, store["lr_factor"]))
                drafts.append(stepping.draft(Learner(levels, stores[at], counting), works, []))

            def keep(_: Learner, cell: Cell, made: Tensor) -> None:
                steps.append(made)

            if self.learners[0][1].guard:
                guard.commit(drafts, keep)
            else:
                for made in drafts:
                    stepping.commit(made, None, keep)
            return steps, _changed(cells, before[0]), _changed(stores, before[1])

        # The compiler keeps few versions of a function, told apart by its code: a code of its own.
        code = step.__code__.replace()
        return types.FunctionType(code, step.__globals__, closure=step.__closure__)

    def _numbers(self, group: int) -> Store:
        """What learners ask of their stores that is no tensor, as it is in an ordinary step."""
        numbers: Store = {}
        for levels, safeguards, at in self.learners:
            if at == group:
                numbers["steps"] = safeguards.delay
                for i, level in enumerate(levels):
                    kept = int(bool(level.learned))
                    numbers |= {f"level{i}.{key}": 0 for key in ("frozen", "step")}
                    numbers[f"level{i}.is_kept"] = kept
        return numbers


def _changed(stores: list[Store], before: list[Store]) -> list[Tensors]:
    return [
        {k: v for k, v in store.items() if isinstance(v, Tensor) and v is not old[k]}
        for store, old in zip(stores, before, strict=True)
    ]


def _slice(copies: Copies) -> int | slice | types.EllipsisType | None:
    return slice(*copies) if isinstance(copies, tuple) else copies


def _copies(cell: Cell) -> Copies:
    return (cell.copies.start, cell.copies.stop) if isinstance(cell.copies, slice) else cell.copies


def _counts(store: Store, prefix: str, guarded: bool, device: torch.device) -> Tensors:
    """How often was skipped, from a count of steps that is 0, and whether what is kept is valid."""
    steps = store[prefix + "step"]
    if guarded:
        skipped, is_valid = store[prefix + "skipped"] - steps, store[prefix + "is_valid"]
    else:
        skipped = torch.full((), -steps, dtype=torch.int64, device=device)
        is_valid = torch.ones((), dtype=torch.bool, device=device)
    return {prefix + "skipped": skipped, prefix + "is_valid": is_valid}


def _cell_inputs(work: Work, guarded: bool) -> Tensors:
    cell, g = work.cell, work.g
    tensors = {"g": g, "w": cell.joined_tensors() if "w" in cell.level.inputs else g}
    if work.along is not None:
        tensors["along"] = work.along
    tensors |= cell.kept() | _counts(cell.stores[0], "", guarded, g.device)
    dtype = arithmetic_dtype(g.dtype)
    tensors["lr_factor"] = torch.full((), float(work.lr_factor), dtype=dtype, device=g.device)
    return tensors


def _group_inputs(group: Store, guarded: bool) -> Tensors:
    texts = ("tower", "coordinates")
    tensors = {k: v for k, v in group.items() if isinstance(v, Tensor) and k not in texts}
    constant = group["level0.constant"]
    for key in group:
        prefix, _, what = key.rpartition(".")
        if what == "step":
            tensors |= _counts(group, prefix + ".", guarded, constant.device)
    if not guarded:
        factor = group["previous_lr_factor"]
        tensors["previous_lr_factor"] = constant.new_full((), factor)
    return tensors


@functools.lru_cache(maxsize=64)
def _graph(plan: Plan, backend: str | Callable[..., Any]) -> Callable[..., Result]:
    """One for all towers of the same plan, whatever the sizes of their tensors."""
    rules = " and ".join(str(levels[0].rule) for levels, *_ in plan.learners)
    log.info("compiling the step of %s for %s", rules, backend)
    return torch.compile(plan.function(), backend=backend, fullgraph=True, dynamic=True)


class CompiledStep:
    """Takes the ordinary steps of a tower, each kind by a graph of its own.

    Args:
        backend: one of `torch.compile`'s, by its name or itself.
    """

    def __init__(self, backend: str | Callable[..., Any]) -> None:
        self.backend = backend
        self._has_failed = False

    def take(self, learners: Sequence[Learner], gathered: Sequence[Gathered]) -> bool:
        """Take a step, if it is an ordinary one; return whether it was taken."""
        if self._has_failed or not all(map(_is_ordinary, learners, gathered)):
            return False
        works = [work for works, _ in gathered for work in works]
        guarded = learners[0].safeguards.guard > 0
        every = [*(work.group for work in works), *(learner.store for learner in learners)]
        groups = list({id(group): group for group in every}.values())
        at = {id(group): i for i, group in enumerate(groups)}
        plan = Plan(
            learners=tuple((x.levels, x.safeguards, at[id(x.store)]) for x in learners),
            works=tuple(
                tuple((w.cell.level, _copies(w.cell), at[id(w.group)]) for w in of_learner)
                for of_learner, _ in gathered
            ),
            kinds=tuple((w.g.dtype, w.g.device, w.g.dim(), w.along is None) for w in works),
        )
        try:
            steps, cells, stores = _graph(plan, self.backend)(
                [_cell_inputs(work, guarded) for work in works],
                [_group_inputs(group, guarded) for group in groups],
            )
        except torch._dynamo.exc.TorchDynamoException as error:
            self._has_failed = True
            warnings.warn(
                f"gdtuo: steps can't be compiled here, and are eager from now on. {error}",
                RuntimeWarning,
                stacklevel=4,
            )
            return False
        for work, step, changed in zip(works, steps, cells, strict=True):
            work.cell.write_back(changed)
            work.cell.count()
            stepping.subtract(learners[0], work.cell, step)
        for group, changed in zip(groups, stores, strict=True):
            for key, value in changed.items():
                prefix, _, what = key.rpartition(".")
                of_level = what == "skipped" and prefix != "guard"
                group[key] = value + group[f"{prefix}.step"] if of_level else value
        for learner, (of_learner, _) in zip(learners, gathered, strict=True):
            if of_learner:
                learner.count()
            for work in of_learner:
                if not guarded:
                    work.group["previous_lr_factor"] = work.lr_factor
        return True


def _is_ordinary(learner: Learner, gathered: Gathered) -> bool:
    """Whether everything has a kept update and learns."""
    works, absent = gathered
    if not works:  # a group without any gradient
        return not absent
    store, learning = learner.store, range(len(learner.levels) - 1)
    return (
        not absent
        and all(work.cell.is_kept or not work.cell.level.learned for work in works)
        # The first pull-back is eager, which refuses an update that has no derivative.
        and all(work.cell.steps > 1 for work in works)
        and not any(store[f"level{i}.frozen"] for i in learning)
        and all(learner.is_learning(i) for i in learning if learner.levels[i].learned)
        and all(cell.is_kept for cell in learner.cells() if cell.level.learned)
    )
