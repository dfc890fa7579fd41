"""What a step goes by: gradients, and the tensors that are updated together with theirs."""

from __future__ import annotations

import collections
import dataclasses
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gdtuo import groups
from gdtuo.cell import PIECE, Cell, is_contiguous, parted
from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.groups import Granularity, Group, States
from gdtuo.learner import Learner
from gdtuo.ranks import Ranks
from gdtuo.rule import State
from gdtuo.sharded import cell_for, part_of, placed


@dataclasses.dataclass(frozen=True)
class Gradients:
    """What a step goes by: ``p.grad``, and what the hypergradients are taken along if not that."""

    maximize: bool = False
    along: Mapping[Tensor, Tensor | None] | None = None
    #: of the parameters that are spread over ranks, this rank's parts of the gradients
    parts: Mapping[Tensor, Tensor] = dataclasses.field(default_factory=dict)

    @classmethod
    def given(
        cls, parameters: list[Tensor], maximize: bool, cotangents: Iterable[Tensor | None] | None
    ) -> Gradients:
        """Those of a step of ``parameters``.

        Raises:
            GdtuoError: sparse ones, or another number of cotangents than of parameters.
        """
        if any(p.grad is not None and p.grad.layout != torch.strided for p in parameters):
            raise GdtuoError(
                "Tower.step: a gradient is sparse. Expected dense ones: build the layer with "
                "sparse=False."
            )
        parts = placed(parameters, (p.grad for p in parameters), "a gradient")
        if cotangents is None:
            return cls(maximize, None, parts)
        along = list(cotangents) if isinstance(cotangents, Iterable) else [cotangents]
        if len(along) != len(parameters):
            raise GdtuoError(
                f"Tower.step: {len(along)} cotangents for {len(parameters)} parameters. Give one "
                "for each parameter, in the order of the groups, or None in its place."
            )
        for p, c in zip(parameters, along, strict=True):
            if c is not None and not _fits(c, p):
                is_tensor = isinstance(c, Tensor)
                given = f"of shape {list(c.shape)}, {c.dtype}, {c.device}" if is_tensor else repr(c)
                raise GdtuoError(
                    f"Tower.step: a cotangent {given} for a parameter of shape {list(p.shape)}, "
                    f"{p.dtype}, {p.device}. Give a dense gradient of the same shape, in the order "
                    "of the groups, or None."
                )
        by_parameter = dict(zip(parameters, along, strict=True))
        by_parameter.update(placed(parameters, along, "a cotangent"))
        return cls(maximize, by_parameter, parts)

    def of(self, cell: Cell, copy: bool) -> Tensor:
        """The gradients, those of what is minimized."""
        gradients = [p.grad for p in cell.parameters]
        if self.parts:
            gradients = [self.parts.get(p, p.grad) for p in cell.parameters]
        return self._joined(cell, gradients, copy)

    def cotangent(self, cell: Cell, g: Tensor) -> Tensor:
        """What the hypergradients are taken along, where the gradient is ``g``."""
        if self.along is None:
            return g
        return self._joined(cell, [self.along[p] for p in cell.parameters], copy=False)

    def _joined(self, cell: Cell, gradients: list[Tensor | None], copy: bool) -> Tensor:
        pairs = zip(gradients, cell.tensors, strict=True)
        g = cell.join([torch.zeros_like(p) if g is None else g for g, p in pairs], copy=copy)
        return g.neg() if self.maximize else g.detach()


def _fits(cotangent: Any, p: Tensor) -> bool:
    if not isinstance(cotangent, Tensor) or not cotangent.is_floating_point():
        return False
    alike = cotangent.shape == p.shape and cotangent.device == p.device
    return alike and cotangent.layout == torch.strided


@dataclasses.dataclass
class Work:
    """What a step is to be made of: a cell, its gradient, and what goes with them."""

    group: Group
    cell: Cell
    g: Tensor
    along: Tensor | None  #: what its hypergradient is taken along; None: it has none
    lr_factor: float | Tensor

    def pieces(self) -> Iterator[Work]:
        """That of a large tensor, by parts; what is done in each is in the caches."""
        if not self.cell.in_pieces:
            yield self
            return
        g = self.g.reshape(-1)  # once: it may take a copy
        along = None if self.along is None else self.along.reshape(-1)
        for cell, at in self.cell.pieces():
            part = None if along is None else along[at]
            yield Work(self.group, cell, g[at], part, self.lr_factor)

    def catch_up(self, learned: Tensor, along: Tensor | None) -> tuple[Tensor | None, State]:
        constant, factor = self.group["level0.constant"], self.group["previous_lr_factor"]
        return self.cell.catch_up(learned, constant, along, factor)


Gathered = tuple[list[Work], list[tuple[Group, Cell]]]


def gather(
    learner: Learner,
    members: Iterable[tuple[Group, Level]],
    states: States,
    per: Granularity,
    gradients: Gradients,
    alone_from: int,
    ranks: Ranks | None = None,
) -> Gathered:
    """The cells of groups that are to be updated, and those to be left alone; tensors of more than
    ``alone_from`` elements by themselves. ``ranks`` where they are spread over several."""
    learning = learner.is_learning(0)
    works, absent = list[Work](), list[tuple[Group, Cell]]()
    for group, level in members:
        factor = groups.lr_factor(group)
        present, left_out = _cells(group, level, states, per, learner, alone_from, ranks)
        absent += [(group, cell) for cell in left_out]
        for cell in present:
            g = gradients.of(cell, copy=not cell.in_place)  # which saving makes anyway
            along = gradients.cotangent(cell, g) if learning and cell.is_kept else None
            works.append(Work(group, cell, g, along, factor))
    return works, absent


def _cells(
    group: Group,
    level: Level,
    states: States,
    per: Granularity,
    learner: Learner,
    alone_from: int,
    ranks: Ranks | None,
) -> tuple[list[Cell], list[Cell]]:
    """Parameters that have a gradient, and those left out that had a kept update, in cells."""
    cells: dict[Any, Cell] = {}
    members: dict[Any, list[Tensor]] = collections.defaultdict(list)
    together = level.rule.elementwise and per not in ("tensor", "element")
    # A cap looks at a whole step, and of a piece it is not known which elements' copies it has.
    by_pieces = learner.safeguards.cap is None and per not in ("element", "member")
    guard = learner.safeguards.guard
    parameters: Sequence[Tensor] = group["params"]
    for i, (p, copies) in enumerate(zip(parameters, groups.copies(group, per), strict=True)):
        if p.grad is not None and p not in states:  # unfrozen since construction
            groups.initialize(p, states[p], level, guard)
        store = states.get(p, {})
        kept, steps, left_out = (store.get(key, 0) for key in ("is_kept", "step", "left_out"))
        if p.grad is not None or kept:
            part = part_of(p)
            counts = ranks is None or ranks.counts(p, level)
            alone = (
                level.rule.elementwise and part.numel() > alone_from and is_contiguous(part, store)
            ) and _takes(store, p)
            # Those that have taken as many steps go together. With a guard the host knows only how
            # many were tried; of these as many were taken if they are the same ones.
            alike = (p.dtype, p.device, steps, left_out, counts) if together and not alone else i
            key = (p.grad is not None, bool(kept), alike)
            if key not in cells:
                cells[key] = cell_for(p, level)(
                    level,
                    [],
                    [],
                    copies=copies,
                    guard=guard,
                    in_pieces=by_pieces and alone and part.numel() > PIECE,
                    in_place=alone,
                    parameters=members[key],
                    counts=counts,
                )
            cells[key].tensors.append(part)
            cells[key].stores.append(store)
            members[key].append(p)
        else:  # at rest
            for name, value in store.items():
                if isinstance(value, Tensor):
                    store[name] = parted(value)
        if guard and p.grad is None and steps:
            store["left_out"] = zlib.crc32(f"{left_out} {learner.store['steps']}".encode())
    present = [cell for (has_gradient, *_), cell in cells.items() if has_gradient]
    absent = [cell for (has_gradient, *_), cell in cells.items() if not has_gradient]
    return present, absent


def _takes(store: Mapping[str, Any], p: Tensor) -> bool:
    """Whether there is a gradient, and what is kept of it and of ``p`` is of their dtypes: after a
    cast it is made anew."""
    kept = (("previous_gradient", p.grad), ("previous_parameter", p))
    return p.grad is not None and all(
        key not in store or (x is not None and store[key].dtype == x.dtype) for key, x in kept
    )
