"""One step of parameter groups that go by one copy of the hyperparameters: drafted, then committed.

A draft changes nothing, so that everything can be looked at before anything is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from gdtuo.cell import Cell
from gdtuo.core import Inputs, arithmetic_dtype
from gdtuo.gathering import Work
from gdtuo.groups import Group
from gdtuo.learner import MOVED, HyperStep, Learner
from gdtuo.ranks import Ranks
from gdtuo.rule import State


@dataclasses.dataclass
class Draft:
    """A step of one learner and its groups, all but the parameters' own update."""

    learner: Learner
    v: Tensor  #: the hypergradient of level 0
    fine: Tensor | None = None  #: whether all gradients were finite, where a guard asks
    moves: Tensor | None = None  #: which copies have moved then, where the first step is in range
    changed: Tensor | None = None  #: ``learned``, where it was set though nothing is learned now
    hyper_steps: list[HyperStep] = dataclasses.field(default_factory=list)
    #: with the state before the update; None: it is made once more, for it is large
    updates: list[tuple[Work, State | None]] = dataclasses.field(default_factory=list)
    left_out: list[tuple[Cell, State]] = dataclasses.field(default_factory=list)

    @property
    def learned(self) -> Tensor:
        """Level 0's learned coordinates, as this step has them."""
        if self.hyper_steps:
            return self.hyper_steps[0].learned
        return self.learner.coordinates(0)[0] if self.changed is None else self.changed

    def relearn(self, value: Tensor) -> None:
        """Set `learned`. (Not as a property's setter: torch 2.11's tracer passes that over.)"""
        if self.hyper_steps:
            self.hyper_steps[0].learned = value
        else:
            self.changed = value

    def pieces(self, work: Work, before: State | None) -> Iterator[tuple[Work, Inputs]]:
        """Those of one of the ``updates``, with the inputs of each."""
        last = self.learner.coordinates(0)[0]
        for piece in work.pieces():
            state = piece.catch_up(last, None)[1] if before is None else before
            yield piece, piece.cell.next(piece.g, state, work.lr_factor)


def draft(learner: Learner, works: Iterable[Work], absent: Iterable[tuple[Group, Cell]]) -> Draft:
    """Pull the last update back along the gradients."""
    learned = learner.coordinates(0)[0]
    v = torch.zeros_like(learned)
    works = list(works)
    made = Draft(learner, v)
    for group, cell in absent:  # left alone; what is kept of their last update is dropped
        constant, factor = group["level0.constant"], group["previous_lr_factor"]
        made.left_out.append((cell, cell.catch_up(learned, constant, None, factor)[1]))
    for work in works:
        large = work.cell.in_pieces
        state = None
        for piece in work.pieces() if not large or work.along is not None else ():
            pulled, state = piece.catch_up(learned, piece.along)
            if pulled is not None and piece.cell.counts:
                piece.cell.of(v).add_(pulled)
        made.updates.append((work, None if large else state))
    if learner.safeguards.guard:  # last: it is held no longer than need be
        made.fine = _all_finite(learner, works)
    return made


def _all_finite(learner: Learner, works: list[Work]) -> Tensor:
    # A norm that overflows is as bad: the squares that adaptive rules take would.
    gradients = [work.g for work in works]
    norms = [torch.linalg.vector_norm(g, dtype=arithmetic_dtype(g.dtype)) ** 2 for g in gradients]
    fine = torch.ones((), dtype=torch.bool, device=learner.device)
    for norm in norms:
        fine = fine & norm.isfinite().to(learner.device)
    return fine


def complete(drafts: Sequence[Draft], ranks: Ranks | None = None) -> None:
    """Propose the step of every level above, from sums over all ``ranks``."""
    if ranks is not None:
        learning = [made for made in drafts if made.learner.is_learning(0)]
        guarded = [(made, made.fine) for made in drafts if made.fine is not None]
        bad = [(~fine).to(made.v.dtype) for made, fine in guarded]
        whole = ranks.sums([*(made.v for made in learning), *bad])
        for made in learning:
            made.v = whole.pop(0)
        for made, _ in guarded:
            made.fine = whole.pop(0) == 0
    for made in drafts:
        if made.updates:
            made.hyper_steps = made.learner.propose(made.v)


def subtract(learner: Learner, cell: Cell, step: Tensor) -> None:
    """w <- w - step, in place."""
    torch._foreach_sub_(cell.tensors, learner.safeguards.capped(cell.tensors, cell.split(step)))


Apply = Callable[[Learner, Cell, Tensor], None]


def commit(made: Draft, ok: Tensor | None = None, apply: Apply = subtract) -> None:
    """Write a draft, and ``apply`` the step to the parameters; with ``ok``, a flag on the device,
    only where that is true."""
    learner = made.learner
    for cell, state in made.left_out:
        cell.drop(state, _at(ok, cell))
    for work, before in made.updates:
        flag, constant = _at(ok, work.cell), work.group["level0.constant"]
        for piece, inputs in made.pieces(work, before):
            cell = piece.cell
            step, state_after = cell.update(made.learned, constant, inputs)
            cell.save(inputs, state_after, flag)
            apply(learner, cell, step if flag is None else torch.where(flag, step, 0.0))
        work.cell.count(flag)
    for work, _ in made.updates:
        factor, before = work.lr_factor, work.group["previous_lr_factor"]
        work.group["previous_lr_factor"] = factor if ok is None else torch.where(ok, factor, before)
    if made.updates:
        learner.commit(made.hyper_steps, ok)
    elif made.left_out:  # the first step of no gradient at all
        learner.rest(0, ok)
    for key, after in (("level0.learned", made.changed), (MOVED, made.moves)):
        if after is not None:
            learner.write(key, after, ok)


def _at(ok: Tensor | None, cell: Cell) -> Tensor | None:
    return None if ok is None else ok.to(cell.tensors[0].device)
