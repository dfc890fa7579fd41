"""A whole step as one compiled graph: the hypergradients, every level, the parameters, in place.

What is traced is the very code of an eager step (`gdtuo.stepping`), on stores that hold tensors
alone and cells of one tensor each. Counts and factors go in as tensors too, so that nothing is
compiled anew when a hyperparameter, a step count, a schedule or the size of a tensor changes.
Compiled is the ordinary step; one in which something starts, is left out or is frozen is eager.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gdtuo import errors, guard, stepping, strides
from gdtuo.bound import (
    ALONG,
    GRADIENT,
    LR_FACTOR,
    WEIGHT,
    BoundStep,
    Layout,
    Tensors,
    unpacked,
    write,
)
from gdtuo.cell import PIECE, Cell, Store
from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.gathering import Gathered, Gradients, Work
from gdtuo.groups import Group
from gdtuo.learner import BEGUN, Learner
from gdtuo.passes import options
from gdtuo.ranks import Ranks
from gdtuo.safeguards import Safeguards
from gdtuo.sharded import placed
from gdtuo.stepping import Draft

log = logging.getLogger("gdtuo")

#: Elements: a tensor of more is read and written where it is; copying smaller ones together costs
#: less than going to each. So are no more than the largest few, for each makes the graph longer, by
#: seconds of the compiler's time.
ALONE, FEW = 2**16, 16

#: of a cell; slices can't be hashed
Copies = int | tuple[int, int] | types.EllipsisType | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """All that a graph is compiled for; groups are told apart by their place in a list."""

    learners: tuple[tuple[tuple[Level, ...], Safeguards, int], ...]
    works: tuple[tuple[tuple[Level, Copies, int, bool, bool], ...], ...]  #: of each learner
    kinds: tuple[tuple[torch.dtype, torch.device, int, bool], ...]
    layouts: tuple[Layout, ...]  #: of the tensors of each cell, then of each group
    ranks: Ranks | None

    @classmethod
    def of(
        cls,
        learners: Sequence[Learner],
        gathered: Sequence[Gathered],
        bound: BoundStep,
    ) -> Plan:
        """The plan of a step that is bound."""
        at = [id(store) for store in bound.stores]
        return cls(
            learners=tuple((x.levels, x.safeguards, at.index(id(x.store))) for x in learners),
            works=tuple(
                tuple(
                    (
                        w.cell.level,
                        _copies(w.cell),
                        at.index(id(w.group)),
                        w.cell.in_place,
                        w.cell.counts,
                    )
                    for w in works
                )
                for works, _ in gathered
            ),
            kinds=tuple(
                (w.g.dtype, w.g.device, w.cell.flat(w.g).dim(), w.along is w.g)
                for works, _ in gathered
                for w in works
            ),
            layouts=bound.layouts,
            ranks=bound.ranks,
        )

    def function(self) -> Callable[[list[Tensors], list[Tensors]], list[Tensor]]:
        """The step as a function of the tensors in the stores of cells and groups, into which it
        writes. Returned are the steps of the parameters that are not among them."""

        def step(cells: list[Tensors], groups: list[Tensors]) -> list[Tensor]:
            given = [*cells, *groups]
            before = [unpacked(x, how) for x, how in zip(given, self.layouts, strict=True)]
            of_cells: list[Store] = [dict(x) for x in before[: len(cells)]]
            stores: list[Store] = [
                {**self._numbers(i), **x} for i, x in enumerate(before[len(cells) :])
            ]
            rest = list(of_cells)
            drafts: list[Draft] = []
            steps: list[Tensor] = []
            for (levels, safeguards, at), of_learner in zip(self.learners, self.works, strict=True):
                works = []
                for level, copies, group, alone, counts in of_learner:
                    store = rest.pop(0)
                    store.setdefault("step", 1)
                    store["is_kept"] = int(bool(level.learned))
                    g: Tensor = store[GRADIENT]
                    w, guarded = store.get(WEIGHT, g), safeguards.guard
                    cell = Cell(
                        level,
                        [w],
                        [store],
                        "",
                        _slice(copies),
                        guarded,
                        in_place=alone,
                        counts=counts,
                    )
                    along = store.get(ALONG, g) if level.learned else None
                    works.append(Work(stores[group], cell, g, along, store[LR_FACTOR]))
                drafts.append(stepping.draft(Learner(levels, stores[at], safeguards), works, []))

            stepping.complete(drafts, self.ranks)
            strides.limit(drafts, self.ranks)
            # A cap needs norms over all ranks before any tensor can move.
            capped = self.ranks is not None and self.learners[0][1].cap is not None

            def keep(learner: Learner, cell: Cell, made: Tensor) -> None:
                if cell.in_place and not capped:
                    stepping.subtract(learner, cell, made)
                else:
                    steps.append(made)

            if self.learners[0][1].guard:
                guard.commit(drafts, keep)
            else:
                for made in drafts:
                    stepping.commit(made, None, keep)
            if "taken" in stores[0]:
                stores[0]["taken"] = stores[0]["taken"] + 1
            for each in zip(given, self.layouts, before, (*of_cells, *stores), strict=True):
                write(*each)
            return steps

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
                    numbers[f"level{i}.frozen"] = 0
                    numbers[f"level{i}.step"] = 1
                    numbers[f"level{i}.is_kept"] = int(bool(level.learned))
        return numbers


def _slice(copies: Copies) -> int | slice | types.EllipsisType | None:
    return slice(*copies) if isinstance(copies, tuple) else copies


def _copies(cell: Cell) -> Copies:
    return (cell.copies.start, cell.copies.stop) if isinstance(cell.copies, slice) else cell.copies


@functools.lru_cache(maxsize=64)
def _graph(plan: Plan, backend: str | Callable[..., Any]) -> Callable[..., list[Tensor]]:
    """One for all towers of the same plan, whatever the sizes of their tensors."""
    rules = " and ".join(str(levels[0].rule) for levels, *_ in plan.learners)
    log.info("compiling the step of %s for %s", rules, backend)
    # Sizes are said to vary tensor by tensor (`BoundStep`): dynamic=True would make inputs of the
    # rules' constants too.
    return torch.compile(plan.function(), backend=backend, fullgraph=True, options=options(backend))


class CompiledStep:
    """Takes the ordinary steps of a tower, each kind by a graph of its own.

    Args:
        backend: one of `torch.compile`'s, by its name or itself.
        capturable: steps may be captured in a CUDA graph, whose replays `settle` counts.
    """

    def __init__(self, backend: str | Callable[..., Any], capturable: bool) -> None:
        self.backend, self.capturable = backend, capturable
        self._has_failed = False
        self._bound: BoundStep | None = None
        self._is_along = False  #: cotangents were given to that step: its graph is another

    def settle(self) -> None:
        """Bring the host's counts up to the device's."""
        if self._bound is not None:
            self._bound.settle()

    def forget(self) -> None:
        """The stores are other ones now: the next step is looked at anew."""
        self._bound = None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_bound": None}

    def alone_from(self, groups: Sequence[Group]) -> int:
        """A tensor of more elements is updated by itself."""
        if self._has_failed:
            return PIECE
        sizes: list[int] = sorted(
            (p.numel() for group in groups for p in group["params"]), reverse=True
        )
        return max([ALONE, *sizes[FEW : FEW + 1]])

    def again(self, groups: Sequence[Group], maximize: bool) -> bool:
        """Take the very kind of step that was taken last, if it still is one; whether it was."""
        if self._bound is None or self._is_along or not self._bound.is_current(groups):
            return False
        parts = {}
        if self._bound.parts:
            order = self._bound.order
            parts = placed(order, (p.grad for p in order), "a gradient")
        self._bound.run(Gradients(maximize, None, parts))
        return True

    def take(
        self,
        groups: Sequence[Group],
        learners: Sequence[Learner],
        gathered: Sequence[Gathered],
        gradients: Gradients,
        ranks: Ranks | None = None,
    ) -> bool:
        """Take a step, if it is an ordinary one; return whether it was taken."""
        self._bound = None
        if (
            self.capturable
            and torch.cuda.is_available()
            and torch.cuda.is_current_stream_capturing()
        ):
            raise GdtuoError(
                "Tower.step: this step can't be captured in a CUDA graph, for it is not like the "
                "one before. Take three ordinary steps with the same parameters first, and freeze, "
                "load or give cotangents outside of the capture."
            )
        if self._has_failed or not all(map(_is_ordinary, learners, gathered)):
            return False
        works = [work for of_learner, _ in gathered for work in of_learner]
        every = [*(work.group for work in works), *(learner.store for learner in learners)]
        stores = list({id(group): group for group in every}.values())
        bound = BoundStep(groups, learners, works, stores, self.capturable, ranks)
        bound.graph = _graph(Plan.of(learners, gathered, bound), self.backend)
        try:
            bound.run(gradients)
        except torch._dynamo.exc.TorchDynamoException as error:
            self._has_failed = True
            errors.warn(f"gdtuo: steps can't be compiled here, and are eager from now on. {error}")
            return False
        self._bound, self._is_along = bound, gradients.along is not None
        return True


def _is_ordinary(learner: Learner, gathered: Gathered) -> bool:
    """Whether everything has a kept update, has begun and learns."""
    works, absent = gathered
    if not works:  # a group without any gradient
        return not absent
    store, learning = learner.store, range(len(learner.levels) - 1)
    return (
        not absent
        and all(work.cell.is_kept or not work.cell.level.learned for work in works)
        # The first pull-back is eager, which refuses an update that has no derivative.
        and all(work.cell.steps > 1 for work in works)
        and (learner.safeguards.start is None or store[BEGUN])
        and not any(store[f"level{i}.frozen"] for i in learning)
        and all(learner.is_learning(i) for i in learning if learner.levels[i].learned)
        and all(cell.is_kept for cell in learner.cells() if cell.level.learned)
    )
