"""The guard: a step in which something is not finite is not taken, is counted, and is told of.

Whether it is taken is decided on the device, by a flag; reading it would make every step wait. So
the counts are tensors, and are read where values are read anyway, or once in as many steps as may
be skipped in a row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from gdtuo import errors, stepping
from gdtuo.errors import GdtuoError
from gdtuo.learner import Learner
from gdtuo.stepping import Apply, Draft, subtract


def finite(made: Draft) -> Tensor:
    """For the loss gradient and each learned entry of each level, whether it was finite, its
    hypergradient and its new value. What comes after something that was not is not to blame."""
    learner, steps = made.learner, made.hyper_steps
    assert made.fine is not None  # there is a guard
    fine: Tensor = made.fine
    gradient = fine.view(1)
    entries = [fine.new_ones(len(level.entries())) for level in learner.levels]

    def look(i: int, *tensors: Tensor) -> None:
        nonlocal fine
        rows = torch.stack(tensors, 1).flatten(1).isfinite().all(1) | ~fine
        entries[i] = entries[i] & rows
        fine = fine & rows.all()

    for i, step in enumerate(steps):  # a hypergradient is the cotangent of the next level's
        assert step.inputs.g is not None  # of the update to come
        look(i, step.hypergradient, step.inputs.g.square())
    for i, step in reversed(list(enumerate(steps))):  # a new value makes the step beneath
        kept = [value.expand_as(step.learned) for value in step.state.values()]
        look(i, step.learned, learner.levels[i].usable(step.learned), *kept)
    return torch.cat([gradient, *entries])


def commit(drafts: Sequence[Draft], apply: Apply = subtract) -> None:
    """Commit all drafts, or none where anything in any of them is not finite."""
    everything = [finite(made) for made in drafts]
    at = drafts[0].learner.device
    ok = torch.stack([flags.all().to(at) for flags in everything]).all()
    for made, flags in zip(drafts, everything, strict=True):
        store, here = made.learner.store, ok.to(made.learner.device)
        store["guard.causes"] = store["guard.causes"] + ~flags
        store["guard.skipped"] = store["guard.skipped"] + ~here
        store["guard.in_a_row"] = torch.where(here, 0, store["guard.in_a_row"] + 1)
        stepping.commit(made, here, apply)


def is_due(learners: Sequence[Learner], limit: int) -> bool:
    """Count a step, and return whether it is time to look at the counts."""
    store = learners[0].store
    store["guard.tries"] += 1
    return bool(store["guard.tries"] % limit == 0)


def skipped(learners: Sequence[Learner]) -> int:
    """How many steps were not taken."""
    return int(learners[0].store["guard.skipped"])


def report(learners: Sequence[Learner], limit: int, warn: bool) -> bool:
    """Whether any step was skipped; if so and ``warn``, warn.

    Raises:
        GdtuoError: the last ``limit`` steps were all skipped.
    """
    number = skipped(learners)
    if not number:
        return False
    causes = []
    for i, learner in enumerate(learners):
        names = [(0, "")]
        names += [(j, name) for j, level in enumerate(learner.levels) for name in level.entries()]
        for (level, name), times in zip(names, learner.store["guard.causes"].tolist(), strict=True):
            what = f"the hypergradient of level {level}'s {name}" if name else "the loss gradient"
            if times:
                where = f" in group {i}" if len(learners) > 1 else ""
                often = "once" if times == 1 else f"{times} times"
                causes.append(f"{what}{where} ({often})")
    in_a_row = int(learners[0].store["guard.in_a_row"])
    text = f"not finite: {', '.join(causes)}"
    if in_a_row >= limit:
        steps = "step was" if in_a_row == 1 else f"{in_a_row} steps were all"
        raise GdtuoError(
            f"The last {steps} skipped; {text}. Nothing is being trained. Go back to a checkpoint, "
            "with smaller step sizes, or mend the loss or the data."
        )
    if warn:
        steps = "1 step was" if number == 1 else f"{number} steps were"
        errors.warn(
            f"gdtuo: {steps} skipped and changed nothing; {text}. "
            "`Tower.skipped_steps` has the count; this is said once."
        )
    return True
