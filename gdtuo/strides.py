"""How far all parameters that share a step size move together, relative to their norm: what brings
one that is far off into range in the first step, and brings down one that is too large before a
step is taken.

Neither is a derivative. Both are of a step size in log coordinates, which they change by a factor.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gdtuo.cell import Cell, Store
from gdtuo.learner import BEGUN, MOVED, Learner
from gdtuo.ranks import Ranks

if TYPE_CHECKING:
    from gdtuo.stepping import Draft

SMALLEST = 0.01  #: the norm of parameters is taken as at least this a root of an element
PATIENCE = 100  #: steps in which what has not moved yet is waited for
BEYOND = 88.0  #: log of the excess of a step whose square float32 can't hold: of all it can


def begin(drafts: Sequence[Draft], ranks: Ranks | None) -> None:
    """Bring the step size of what has not moved yet to where its step is in range, as if no
    schedule had a part in it.

    A step of length 0 says nothing of that: behind a layer that starts at 0 all gradients do.
    """
    for made in drafts:
        _mark_begun(made.learner)
    fresh = [made for made in drafts if _is_fresh(made.learner)]
    for made in fresh:
        if not made.learner.is_free(0):  # what is frozen begins where it is
            made.moves = torch.ones_like(made.learner.store[MOVED])
    plans = [  # log lr of 0: a step size of 1
        (made, torch.zeros_like(made.learned)) for made in fresh if made.moves is None
    ]
    for made, relative in _lengths(plans, ranks, is_scheduled=False):
        _bring_into_range(made, relative)


def limit(drafts: Sequence[Draft], ranks: Ranks | None) -> None:
    """Bring the step size down by as much as the step to come would be too long."""
    plans = [(made, made.learned) for made in drafts if _is_limited(made.learner)]
    for made, relative in _lengths(plans, ranks, is_scheduled=True):
        longest = made.learner.safeguards.stride
        assert longest is not None
        excess = (relative / longest).log().clamp_min(0.0).nan_to_num(nan=0.0, posinf=BEYOND)
        made.relearn(made.learner.levels[0].bounded(made.learned - excess))


def _lengths(
    plans: Sequence[tuple[Draft, Tensor]], ranks: Ranks | None, is_scheduled: bool
) -> Iterator[tuple[Draft, Tensor]]:
    """How far each draft that has a step would go with those coordinates, relatively."""
    totals = []
    for made, learned in plans:
        total = _nothing(made.learner)
        for work, before in made.updates:
            for piece, inputs in made.pieces(work, before):
                if not is_scheduled:
                    inputs = dataclasses.replace(inputs, lr_factor=1.0)
                step, _ = piece.cell.update(learned, work.group["level0.constant"], inputs)
                _add(total, piece.cell, step)
        totals.append(total)
    for (made, _), total in zip(plans, ranks.sums(totals) if ranks else totals, strict=True):
        if made.updates:
            yield made, _relative(total)


def _nothing(learner: Learner) -> Tensor:
    """Of squares of a step, of squares of the parameters, and their number: nothing yet."""
    learned = learner.coordinates(0)[0]
    return learned.new_zeros((3, *learned.shape[1:]))


def _add(total: Tensor, cell: Cell, step: Tensor) -> None:
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


def _mark_begun(learner: Learner) -> None:
    """Keep that all have moved, so that the device is asked until then only."""
    store = learner.store
    if _is_fresh(learner) and store["steps"] > 0:
        store[BEGUN] = int(_is_patience_over(store) or _have_all(store[MOVED]))


def _have_all(moved: Tensor) -> bool:
    """Read from the device, as a rule once: in the second step."""
    return bool(moved.all())


def _is_patience_over(store: Store) -> bool:
    tried = int(store["steps"])
    return tried >= PATIENCE and tried - int(store.get("guard.skipped", 0)) >= PATIENCE


def _is_fresh(learner: Learner) -> bool:
    """Whether the first step is still to come, of some that are to begin in range."""
    return learner.safeguards.start is not None and not learner.store[BEGUN]


def _is_limited(learner: Learner) -> bool:
    """Whether a step size may be brought down: what is frozen stays as it is."""
    return learner.safeguards.stride is not None and learner.is_free(0)


def _bring_into_range(made: Draft, relative: Tensor) -> None:
    learner, before = made.learner, made.learned
    assert learner.safeguards.start is not None
    low, high = learner.safeguards.start
    moves = (relative > 0) & relative.isfinite()
    moved = learner.store[MOVED]
    made.moves = moved | moves
    within = torch.minimum(torch.maximum(before, (low / relative).log()), (high / relative).log())
    made.relearn(learner.levels[0].bounded(torch.where(moves & ~moved, within, before)))
