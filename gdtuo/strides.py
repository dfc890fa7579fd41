"""How far all parameters move together, relative to their norm: what brings a step size that is far
off into range in the first step, and pulls one down that has become too large.

Neither is a derivative. Both are of a step size in log coordinates, which they change by a factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gdtuo.cell import Cell
from gdtuo.learner import BEGUN, EXCESS, MOVED, Learner
from gdtuo.ranks import Ranks

if TYPE_CHECKING:
    from gdtuo.stepping import Draft

SMALLEST = 0.01  #: the norm of parameters is taken as at least this a root of an element
PATIENCE = 100  #: steps in which what has not moved yet is waited for


def sums(learner: Learner) -> Tensor:
    """Of squares of a step, of squares of the parameters, and their number: nothing yet."""
    learned = learner.coordinates(0)[0]
    return learned.new_zeros((3, *learned.shape[1:]))


def add(total: Tensor, cell: Cell, step: Tensor) -> None:
    """Add those of the tensors of ``cell``, which are to take ``step``."""
    if not cell.counts:  # another rank does
        return
    by_member = cell.copies is ...
    squares, number = [], 0
    for tensors in ([step], cell.tensors):
        flat = [x.reshape(len(x), -1) if by_member else x.reshape(-1) for x in tensors]
        norms = [torch.linalg.vector_norm(x, dim=-1, dtype=total.dtype) for x in flat]
        squares.append(torch.stack([norm.square() for norm in norms]).sum(0))
        number = sum(x.shape[-1] for x in flat)
    both = torch.stack(squares).to(total.device)
    own = cell.of(total)
    own[:2].add_(both[..., None] if by_member else both)
    own[2:].add_(number)


def _relative(total: Tensor) -> Tensor:
    """The norm of the step over that of the parameters; 0 where there are none."""
    step, parameters, number = total.sqrt()
    relative: Tensor = step / torch.maximum(parameters, SMALLEST * number.clamp_min(1.0))
    return relative


def begin(drafts: Sequence[Draft], ranks: Ranks | None) -> None:
    """Bring the step size of what has not moved yet to where its step is in range, as if no
    schedule had a part in it.

    A step of length 0 says nothing of that: behind a layer that starts at 0 all gradients do.
    """
    for made in drafts:
        _mark_begun(made.learner)
    fresh = [made for made in drafts if _is_fresh(made.learner)]
    totals = []
    for made in fresh:
        total = sums(made.learner)
        learned = torch.zeros_like(made.learner.coordinates(0)[0])  # log lr: a step size of 1
        for work, _ in made.updates:
            for piece in work.pieces():
                inputs = piece.cell.next(piece.g, piece.cell.state())
                step, _ = piece.cell.update(learned, work.group["level0.constant"], inputs)
                add(total, piece.cell, step)
        totals.append(total)
    for made, total in zip(fresh, ranks.sums(totals) if ranks else totals, strict=True):
        if made.updates:
            _bring_into_range(made, _relative(total))


def _mark_begun(learner: Learner) -> None:
    """Keep that all have moved, so that the device is asked until then only."""
    store = learner.store
    if learner.safeguards.start is None or store[BEGUN]:
        return
    if not learner.is_free(0):  # what is frozen begins where it is
        store[BEGUN] = 1
    elif store["steps"] > 0:
        store[BEGUN] = int(store["steps"] >= PATIENCE or _have_all(store[MOVED]))


def _have_all(moved: Tensor) -> bool:
    """Read from the device, as a rule once: in the second step."""
    return bool(moved.all())


def _is_fresh(learner: Learner) -> bool:
    """Whether the first step is still to come, of some that are to begin in range."""
    return learner.safeguards.start is not None and not learner.store[BEGUN]


def _bring_into_range(made: Draft, relative: Tensor) -> None:
    learner, first = made.learner, made.hyper_steps[0] if made.hyper_steps else None
    assert learner.safeguards.start is not None
    low, high = learner.safeguards.start
    before = first.learned if first else learner.coordinates(0)[0]
    moves = (relative > 0) & relative.isfinite()
    moved = learner.store[MOVED]
    made.moves = moved | moves
    within = torch.minimum(torch.maximum(before, (low / relative).log()), (high / relative).log())
    after = learner.levels[0].bounded(torch.where(moves & ~moved, within, before))
    if first:
        first.learned = after
    else:
        made.before = learner.store["level0.learned"]
        learner.store["level0.learned"] = after


def note(drafts: Sequence[Draft], ranks: Ranks | None) -> None:
    """Keep, for the next step, what has moved, and by how much this one was too long."""
    for made in drafts:
        if made.moves is None:
            continue
        store = made.learner.store
        store[MOVED] = made.moves if made.ok is None else store[MOVED] | (made.moves & made.ok)
        if made.ok is not None and made.before is not None:  # a skipped step changes nothing
            store["level0.learned"] = torch.where(made.ok, store["level0.learned"], made.before)
    known = [(made, made.total) for made in drafts if made.total is not None]
    totals = [total for _, total in known]
    for (made, _), total in zip(known, ranks.sums(totals) if ranks else totals, strict=True):
        store, longest = made.learner.store, made.learner.safeguards.stride
        assert longest is not None
        if not made.updates:  # the next step that there is follows the last that there was
            continue
        excess = (_relative(total) / longest).log().clamp_min(0.0)
        if made.ok is not None:
            excess = torch.where(made.ok, excess, store[EXCESS])
        store[EXCESS] = excess
