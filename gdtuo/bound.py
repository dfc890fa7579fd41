"""A step with all that it reads and writes at hand, to be taken again and again."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gdtuo import groups, stepping
from gdtuo.cell import Store
from gdtuo.core import arithmetic_dtype
from gdtuo.gathering import Gradients, Work
from gdtuo.groups import Group
from gdtuo.learner import MOVED, Learner
from gdtuo.ranks import Ranks
from gdtuo.sharded import part_of

#: What a graph is given of a cell beside what is kept: by keys that no rule's state has.
GRADIENT, ALONG, WEIGHT, LR_FACTOR = "given.g", "given.along", "given.w", "given.lr_factor"

Tensors = dict[str, Tensor]
Graph = Callable[[list[Tensors], list[Tensors]], list[Tensor]]


#: For each vector, by its key: the key of each of its parts, its size, and whether it has shape ().
Layout = tuple[tuple[str, tuple[tuple[str, int, bool], ...]], ...]


def packed(tensors: Tensors, dims: int) -> tuple[Tensors, Layout, Tensors]:
    """``tensors`` as a graph is given them: those of up to ``dims`` dimensions as parts of a vector
    for each kind; how these are laid out; and the parts, views of the vectors.

    A graph takes microseconds for each tensor that it is given. And the compiler (torch 2.13) loses
    what is written into one of shape () and float64.
    """
    small = {key: x for key, x in tensors.items() if x.dim() <= dims}
    given = {key: x for key, x in tensors.items() if key not in small}
    layout, parts = [], dict[str, Tensor]()
    # What never changes is apart from what is written anew.
    kinds = {key: f"{x.dtype} {key.endswith('.constant')}" for key, x in small.items()}
    for kind in dict.fromkeys(kinds.values()):
        own = {key: x for key, x in small.items() if kinds[key] == kind}
        vector = torch.cat([x.reshape(-1) for x in own.values()])
        pieces = torch.split(vector, [x.numel() for x in own.values()])
        parts |= {k: piece.view(own[k].shape) for k, piece in zip(own, pieces, strict=True)}
        given[kind] = vector
        entries = tuple((key, x.numel(), x.dim() == 0) for key, x in own.items())
        layout.append((kind, entries))
    return given, tuple(layout), parts


def unpacked(given: Tensors, layout: Layout) -> Tensors:
    """All that `packed` was given, in a graph."""
    tensors = dict(given)
    for vector, entries in layout:
        pieces = torch.split(tensors.pop(vector), [size for _, size, _ in entries])
        for (key, _, is_scalar), piece in zip(entries, pieces, strict=True):
            tensors[key] = piece[0] if is_scalar else piece
    return tensors


def write(given: Tensors, layout: Layout, before: Tensors, after: Mapping[str, Any]) -> None:
    """Write what has changed since `unpacked` into ``given``, in a graph."""
    parts = dict(layout)
    for key, tensor in given.items():
        names = [name for name, *_ in parts[key]] if key in parts else [key]
        if any(after[name] is not before[name] for name in names):
            new = [after[name].reshape(-1) for name in names] if key in parts else [after[key]]
            tensor.copy_(torch.cat(new) if key in parts else new[0])


class Entries:
    """Entries of stores that are looked up together, at every step: without a loop of our own."""

    def __init__(self, entries: Sequence[tuple[Store, str, Any]]) -> None:
        self.stores = [store for store, *_ in entries]
        self.keys = [key for _, key, _ in entries]
        self.values = [value for *_, value in entries]

    def now(self) -> Iterator[Any]:
        """What is in the stores; None where there is nothing any more."""
        return map(dict.get, self.stores, self.keys)

    def restore(self) -> None:
        """Put the values back."""
        for store, key, value in zip(self.stores, self.keys, self.values, strict=True):
            store[key] = value


class BoundStep:
    """What a graph is called with stays the same from step to step, gradients aside: so it is
    looked up once, and then only seen to be still there.

    Args:
        every: the parameter groups of the optimizer.
        learners, works: what the step is made of.
        stores: the groups that these refer to.
        capturable: count on the device too, for steps that the host knows nothing of.
        ranks: over which the parameters are spread, if they are.
    """

    graph: Graph  #: takes the step in place; see `gdtuo.compiled.Plan.function`

    def __init__(
        self,
        every: Sequence[Group],
        learners: Sequence[Learner],
        works: Sequence[Work],
        stores: Sequence[Store],
        capturable: bool,
        ranks: Ranks | None,
    ) -> None:
        # The gradients of now are not held for the next step.
        self.works = [dataclasses.replace(w, g=w.g.new_empty(0), along=None) for w in works]
        self.stores, self.ranks = stores, ranks
        self.safeguards = learners[0].safeguards
        self.learner = learners[0]
        self.factors = [work.lr_factor for work in works]
        of_cells = [self._of_cell(work) for work in works]
        of_groups = [
            self._of_group(store, learners, capturable and i == 0) for i, store in enumerate(stores)
        ]
        self.taken = of_groups[0][2].get("taken")
        self.cells = [given for given, *_ in of_cells]
        self.groups = [given for given, *_ in of_groups]
        self.layouts = tuple(layout for _, layout, _ in (*of_cells, *of_groups))
        self.lr_factors = [parts[LR_FACTOR] for *_, parts in of_cells]
        self.counters = [(store, "step") for work in works for store in work.cell.stores]
        for learner in learners:
            if any(work.group is learner.store for work in works) or len(learners) == 1:
                self.counters += [(c.stores[0], c.prefix + "step") for c in learner.cells()]
                self.counters.append((learner.store, "steps"))
        self._remember(every)
        self.is_new = True

    def _of_cell(self, work: Work) -> tuple[Tensors, Layout, Tensors]:
        cell, device = work.cell, work.g.device
        tensors = cell.joined()
        if "t" in cell.level.inputs or cell.guard:
            tensors["step"] = torch.tensor(cell.steps, device=device)
        dtype = arithmetic_dtype(work.g.dtype)
        tensors[LR_FACTOR] = torch.full((), float(work.lr_factor), dtype=dtype, device=device)
        given, layout, parts = packed(tensors, 0)
        for store in cell.stores:
            store |= {key: part for key, part in parts.items() if key not in ("step", LR_FACTOR)}
        return given, layout, parts

    def _of_group(
        self, store: Store, learners: Sequence[Learner], counts: bool
    ) -> tuple[Tensors, Layout, Tensors]:
        unread = ("tower", "coordinates", MOVED)
        tensors = {k: v for k, v in store.items() if isinstance(v, Tensor) and k not in unread}
        constant = store["level0.constant"]
        if counts:
            tensors["taken"] = torch.zeros((), dtype=torch.int64, device=constant.device)
        for cell in (cell for each in learners if each.store is store for cell in each.cells()):
            if "t" in cell.level.inputs or cell.guard:
                steps = torch.tensor(cell.steps, device=constant.device)
                tensors[cell.prefix + "step"] = steps
        if not self.safeguards.guard:
            factor = store["previous_lr_factor"]
            tensors["previous_lr_factor"] = constant.new_full((), factor)
        given, layout, parts = packed(tensors, 1)
        store |= {key: part for key, part in parts.items() if isinstance(store.get(key), Tensor)}
        return given, layout, parts

    def _remember(self, every: Sequence[Group]) -> None:
        """What must still be there the next time."""
        kept = 2 * self.safeguards.guard or 1
        tensors: list[tuple[Store, str, Any]] = []
        kept_numbers: list[tuple[Store, str, Any]] = []
        frozen: list[tuple[Store, str, Any]] = []
        for work in self.works:
            cell = work.cell
            for store in cell.stores:
                here = [(key, value) for key, value in store.items() if isinstance(value, Tensor)]
                tensors += [(store, key, value) for key, value in here]
                kept_numbers.append((store, "is_kept", kept if cell.level.learned else 0))
        for store in self.stores:
            for key, value in store.items():
                if isinstance(value, Tensor):
                    tensors.append((store, key, value))
                elif key.endswith(".frozen"):
                    frozen.append((store, key, value))
        self.tensors, self.frozen = Entries(tensors), Entries(frozen)
        self.kept = Entries(kept_numbers)  #: after any step
        self.counts = Entries([(store, key, store[key]) for store, key in self.counters])
        self.first_counts = self.counts.values
        stepped = [(work.g.dtype, work.g.device, work.cell) for work in self.works]
        self.parameters = [
            (p, dtype, device) for dtype, device, cell in stepped for p in cell.parameters
        ]
        pairs = [
            pair for *_, cell in stepped for pair in zip(cell.parameters, cell.tensors, strict=True)
        ]
        self.parts = [(p, part) for p, part in pairs if p is not part]
        self.written = [cell.tensors[0] for *_, cell in stepped if cell.in_place]
        known = {id(p) for p, *_ in self.parameters}
        self.others = [p for group in every for p in group["params"] if id(p) not in known]
        self.sizes = [len(group["params"]) for group in every]
        self.order = [p for group in every for p in group["params"]]

    def is_current(self, every: Sequence[Group]) -> bool:
        """Whether the step to come is of the same kind, on the same tensors."""
        return (
            all(
                p.grad is not None
                and p.grad.layout is torch.strided
                and p.dtype is dtype
                and p.device == device
                for p, dtype, device in self.parameters
            )
            and all(p.grad is None for p in self.others)
            and all(part_of(p) is part for p, part in self.parts)
            and all(p.is_contiguous() for p in self.written)  # or what is written is a copy
            and all(map(operator.is_, self.tensors.now(), self.tensors.values))
            and all(
                list(each.now()) == each.values for each in (self.kept, self.frozen, self.counts)
            )
            and [len(group["params"]) for group in every] == self.sizes
        )

    def run(self, gradients: Gradients) -> None:
        """Take the step."""
        self.on_the_device(gradients)
        self._count([count + 1 for count in self.counts.values])
        for work in self.works if not self.safeguards.guard else ():
            work.group["previous_lr_factor"] = groups.lr_factor(work.group)

    def settle(self) -> None:
        """Count what was taken on the device alone, by replays of a CUDA graph."""
        if self.taken is not None:
            taken = int(self.taken)
            self._count([first + taken for first in self.first_counts])

    def _count(self, counts: list[int]) -> None:
        self.counts.values = counts
        self.counts.restore()
        self.kept.restore()

    def on_the_device(self, gradients: Gradients) -> None:
        """All of the step that a CUDA graph takes."""
        for i, (work, tensors) in enumerate(zip(self.works, self.cells, strict=True)):
            cell = work.cell
            g = gradients.of(cell, copy=False)
            tensors[GRADIENT] = cell.flat(g)
            if gradients.along is not None and cell.level.learned:
                tensors[ALONG] = cell.flat(gradients.cotangent(cell, g))
            if cell.in_place:
                tensors[WEIGHT] = cell.flat(cell.tensors[0].detach())
            elif "w" in cell.level.inputs or self.safeguards.stride is not None:
                tensors[WEIGHT] = cell.join([p.detach() for p in cell.tensors])
            factor = groups.lr_factor(work.group)
            if factor != self.factors[i]:
                self.lr_factors[i].fill_(factor)
                self.factors[i] = factor
        if self.is_new:
            for tensor in (x for tensors in (*self.cells, *self.groups) for x in tensors.values()):
                torch._dynamo.maybe_mark_dynamic(tensor, list(range(tensor.dim())))
            self.is_new = False
        steps = self.graph(self.cells, self.groups)
        for tensors in self.cells:
            for key in (GRADIENT, ALONG, WEIGHT):
                tensors.pop(key, None)
        cells = [work.cell for work in self.works]
        if self.ranks is not None and self.safeguards.cap is not None:
            held = list(zip(cells, steps, strict=True))
            self.ranks.subtract(self.safeguards, held, self.order)
            return
        for cell, step in zip((cell for cell in cells if not cell.in_place), steps, strict=True):
            stepping.subtract(self.learner, cell, step)
