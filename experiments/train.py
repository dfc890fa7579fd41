"""The one training loop, for a run alone and for several at once."""

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import MultiStepLR

import gdtuo
from experiments.tasks import Task
from experiments.tasks.task import Figures

CHECK_EVERY = 64  # steps between two looks at whether losses are finite: a look costs a sync

Curves = dict[str, Any]
Levels = list[dict[str, float]]


@dataclass
class Outcome:
    """What is known of a run so far, so that one that breaks off still leaves it."""

    started: str
    status: str = "ok"
    message: str = ""
    curves: Curves = dataclasses.field(default_factory=dict)
    lr_last_epoch: list[float] = dataclasses.field(default_factory=list)
    steps: int = 0
    fingerprint: str | None = None
    note: str = ""


def flat(levels: list[dict[str, Any]]) -> Levels:
    """`levels` with a number for each name: of a step size for each hyperparameter beneath, such as
    {"lr": {"momentum": 1e-6}}, one is "lr.momentum"."""
    plain: Levels = []
    for level in levels:
        parts = {name: x if isinstance(x, dict) else {"": x} for name, x in level.items()}
        named = (
            (f"{name}.{key}".rstrip("."), x)
            for name, part in parts.items()
            for key, x in part.items()
        )
        plain.append(dict(named))
    return plain


class Alone:
    """The model of one task under a `gdtuo.Tower`."""

    def __init__(self, tasks: Sequence[Task], rules: Sequence[gdtuo.Rule]) -> None:
        self.tasks = tasks
        (self.task,), (rule,) = tasks, rules
        self.optimizer = gdtuo.Tower(self.task.model.parameters(), rule)

    def parameters(self) -> Iterator[Tensor]:
        return self.task.model.parameters()

    def losses(self, step: int) -> Tensor:
        """The loss of each member for its batch `step` of this epoch."""
        return self.task.loss(step)[None]

    def figures(self) -> list[Figures]:
        """The task's figures of each member."""
        return [self.task.evaluate()]

    def levels(self, member: int) -> Levels:
        """The hyperparameters of a member, level 0 first."""
        return flat(self.optimizer.hyperparameters())

    def finite(self) -> list[bool]:
        """Whether all weights of a member are finite, of each."""
        return [all(bool(p.isfinite().all()) for p in self.task.model.parameters())]


class Together:
    """The models of several stackable tasks as a `gdtuo.Ensemble`, each with its own batches."""

    def __init__(self, tasks: Sequence[Task], rules: Sequence[gdtuo.Rule]) -> None:
        self.tasks = tasks
        self.optimizer = gdtuo.Ensemble([task.model for task in tasks], rules)

    def parameters(self) -> Iterator[Tensor]:
        return self.optimizer.parameters()

    def losses(self, step: int) -> Tensor:
        first = self.tasks[0]
        inputs, targets = first.examples(torch.stack([task.batch(step) for task in self.tasks]))
        return torch.vmap(first.criterion)(self.optimizer(inputs, separate=True), targets)

    @torch.no_grad()
    def figures(self) -> list[Figures]:
        first = self.tasks[0]
        return [first.score(outputs) for outputs in self.optimizer(first.test_inputs)]

    def levels(self, member: int) -> Levels:
        return flat(self.optimizer.hyperparameters(member))

    def finite(self) -> list[bool]:
        tensors = [p.isfinite().flatten(1).all(dim=1) for p in self.optimizer.parameters()]
        return torch.stack(tensors).all(dim=0).tolist()


def train(
    tasks: Sequence[Task],
    rules: Sequence[gdtuo.Rule],
    epochs: int,
    outcomes: Sequence[Outcome],
    schedule: Sequence[int] = (),
) -> None:
    """Train each task's model under the tower of its rule, and write down what becomes of it.

    A member that is no longer finite is recorded up to the epoch in which that is seen; the
    others go on.

    Args:
        tasks: one to train alone, or several stackable ones of one kind, data set and device.
        rules: one for each task; those of several differ in initial values alone.
        epochs: the length.
        outcomes: one for each task, filled in on the way.
        schedule: the epochs after which the step size is divided by ten; for a run alone.
    """
    trainee = (Alone if len(tasks) == 1 else Together)(tasks, rules)
    for member, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True)):
        levels = trainee.levels(member)
        outcome.fingerprint = task.fingerprint
        outcome.note = task.note
        outcome.curves = {
            "train_loss": [],
            "hyperparameters": [{name: [] for name in level} for level in levels],
        }
    drops = MultiStepLR(trainee.optimizer, schedule) if schedule else None
    live = dict(enumerate(outcomes))
    for epoch in range(1, epochs + 1):
        means = _epoch(trainee, live, follow=epoch == epochs and len(rules[0].levels) > 1)
        figures, finite = trainee.figures(), trainee.finite()
        for member, outcome in list(live.items()):
            shown = {"train_loss": means[member], **figures[member]}
            _append(outcome.curves, shown, trainee.levels(member))
            if not _all_finite(last(outcome.curves)) or not finite[member]:
                outcome.status = "diverged"
                outcome.message = (
                    f"no longer finite in epoch {epoch}, at step {outcome.steps} or before"
                )
                del live[member]
        if not live:
            break
        if drops:
            drops.step()


def _epoch(trainee: Alone | Together, live: dict[int, Outcome], follow: bool) -> dict[int, float]:
    """Train one epoch; the mean loss of each live member, up to where it was seen to diverge.

    With `follow`, the lr of level 0 is noted after every step.
    """
    total: Tensor | None = None
    means: dict[int, float] = {}

    def leave(member: int) -> None:
        means[member] = total[member].item() / batch
        live[member].steps += batch

    for task in trainee.tasks:
        task.begin()
    for batch in range(1, trainee.tasks[0].steps + 1):
        losses = trainee.losses(batch - 1)
        trainee.optimizer.zero_grad()
        losses.sum().backward()
        if (clip := trainee.tasks[0].clip) is not None:
            torch.nn.utils.clip_grad_value_(trainee.parameters(), clip)
        trainee.optimizer.step()
        total = losses.detach() if total is None else total + losses.detach()
        for member in [m for m in live if m not in means] if follow else ():
            lr = trainee.levels(member)[0]["lr"]
            if math.isfinite(lr):
                live[member].lr_last_epoch.append(float(f"{lr:.6g}"))
            else:
                leave(member)
        if batch % CHECK_EVERY == 0:
            for member, value in enumerate(total.tolist()):
                if member in live and member not in means and not math.isfinite(value):
                    leave(member)
        if len(means) == len(live):
            break
    for member in live.keys() - means.keys():
        leave(member)
    return means


def _append(curves: Curves, figures: dict[str, float], levels: Levels) -> None:
    for name, value in figures.items():
        curves.setdefault(name, []).append(_finite(value))
    for curve, level in zip(curves["hyperparameters"], levels, strict=True):
        for name, value in level.items():
            curve[name].append(_finite(value))


def last(curves: Curves) -> dict[str, Any]:
    """The last value of each curve."""
    levels = [
        {name: values[-1] for name, values in level.items()} for level in curves["hyperparameters"]
    ]
    plain = {name: values[-1] for name, values in curves.items() if name != "hyperparameters"}
    return {**plain, "hyperparameters": levels}


def _all_finite(node: Any) -> bool:
    if isinstance(node, dict):
        node = list(node.values())
    return all(map(_all_finite, node)) if isinstance(node, list) else node is not None


def _finite(value: float) -> float | None:
    """`value` as JSON can hold it."""
    return value if math.isfinite(value) else None
