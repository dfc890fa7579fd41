"""The one training loop, for a run alone and for several at once."""

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

import gdtuo
from experiments import ExperimentError, interrupts
from experiments.captured import Captured
from experiments.optimizers import Rule
from experiments.tasks import Task
from experiments.trainee import Alone, Levels, Together

CHECK_EVERY = 64  # steps between two looks at whether losses are finite: a look costs a sync
COSINE = "cosine"  # the schedule that takes the step size to 0 over the whole run, step by step

Curves = dict[str, Any]


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


class Training:
    """The training of each task's model under the optimizer of its rule, which can be paused.

    A member that is no longer finite is recorded up to the epoch in which that is seen; the
    others go on.

    Args:
        tasks: one to train alone, or several stackable ones of one kind, data set and device.
        rules: one for each task; those of several are towers that differ in initial values alone.
        epochs: the length.
        outcomes: one for each task, filled in on the way.
        schedule: the epochs after which the step size is divided by ten, or `COSINE`; for a run
            alone.
        capture: take the steps of a tower that trains alone, and not under `COSINE`, by replays of
            a CUDA graph; the device is a GPU.

    Attributes:
        epoch: the epoch it is in, from 1; one more than `epochs` at the end.
        batch: how many steps of that epoch are done.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        rules: Sequence[Rule],
        epochs: int,
        outcomes: Sequence[Outcome],
        schedule: Sequence[int] | str = (),
        capture: bool = False,
    ) -> None:
        self.tasks, self.outcomes, self.epochs = tasks, outcomes, epochs
        self.by_step = schedule == COSINE
        capture &= len(tasks) == 1 and isinstance(rules[0], gdtuo.Rule) and not self.by_step
        self.trainee = Alone(tasks, rules, capture) if len(tasks) == 1 else Together(tasks, rules)
        self.captured = Captured(self.device) if capture else None
        for member, (task, outcome) in enumerate(zip(tasks, outcomes, strict=True)):
            levels = self.trainee.levels(member)
            outcome.fingerprint = task.fingerprint
            outcome.note = task.note
            outcome.curves = {
                "train_loss": [],
                "hyperparameters": [{name: [] for name in level} for level in levels],
            }
        self.scheduler = self._scheduler(schedule) if schedule else None
        self.follows = isinstance(rules[0], gdtuo.Rule) and len(rules[0].levels) > 1
        self.epoch, self.batch = 1, 0
        self.live = dict(enumerate(outcomes))
        self.total: Tensor | None = None  # of each member's losses in this epoch
        self.means: dict[int, float] = {}  # of the members that have left this epoch

    def _scheduler(self, schedule: Sequence[int] | str) -> LRScheduler:
        if not self.by_step:
            return MultiStepLR(self.trainee.optimizer, schedule)
        half_turns = math.pi / (self.epochs * self.tasks[0].steps)
        return LambdaLR(self.trainee.optimizer, lambda step: (1 + math.cos(half_turns * step)) / 2)

    @property
    def has_ended(self) -> bool:
        return not self.live or self.epoch > self.epochs

    def run(self, until: float = math.inf) -> None:
        """Train to the end, or at least one step and up to the time `until` or an interrupt."""
        while not self.has_ended:
            if self.batch == 0:
                for task in self.tasks:
                    task.begin()
            self._step()
            if self.batch == self.tasks[0].steps or len(self.means) == len(self.live):
                self._end_epoch()
            if time.time() >= until or interrupts.asked():
                break

    def _step(self) -> None:
        """One step of all members.

        In the last epoch the lr of level 0 of a tower is noted after it.
        """
        inputs = self.trainee.inputs(self.batch)
        if self.captured:  # the factor of a schedule changes between epochs
            losses = self.captured(self._learn, *inputs, ordinary=self.batch == 0)
        else:
            losses = self._learn(*inputs)
        if self.scheduler and self.by_step:
            self.scheduler.step()
        self.total = losses.clone() if self.total is None else self.total + losses
        self.batch += 1
        if self.follows and self.epoch == self.epochs:
            for member in self.live.keys() - self.means.keys():
                lr = self.trainee.levels(member)[0]["lr"]
                if math.isfinite(lr):
                    self.live[member].lr_last_epoch.append(float(f"{lr:.6g}"))
                else:
                    self._leave(member)
        if self.batch % CHECK_EVERY == 0:
            for member, value in enumerate(self.total.tolist()):
                if member in self.live and member not in self.means and not math.isfinite(value):
                    self._leave(member)

    def _learn(self, *inputs: Tensor) -> Tensor:
        """One step of all members, and the loss of each before it."""
        losses = self.trainee.losses(*inputs)
        self.trainee.optimizer.zero_grad()
        losses.sum().backward()
        if (clip := self.tasks[0].clip) is not None:
            torch.nn.utils.clip_grad_value_(self.trainee.parameters(), clip)
        self.trainee.optimizer.step()
        return losses.detach()

    def _leave(self, member: int) -> None:
        self.means[member] = self.total[member].item() / self.batch
        self.live[member].steps += self.batch

    def _end_epoch(self) -> None:
        for member in self.live.keys() - self.means.keys():
            self._leave(member)
        figures, finite = self.trainee.figures(), self.trainee.finite()
        for member, outcome in list(self.live.items()):
            shown = {"train_loss": self.means[member], **figures[member]}
            _append(outcome.curves, shown, self.trainee.levels(member))
            if not _all_finite(last(outcome.curves)) or not finite[member]:
                outcome.status = "diverged"
                outcome.message = (
                    f"no longer finite in epoch {self.epoch}, at step {outcome.steps} or before"
                )
                del self.live[member]
        self.epoch, self.batch, self.total, self.means = self.epoch + 1, 0, None, {}
        if self.scheduler and not self.by_step and self.live:
            self.scheduler.step()

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from, to the bit: tensors, numbers and strings."""
        cuda = self.device.type == "cuda"
        return {
            "epoch": self.epoch,
            "batch": self.batch,
            "total": self.total,
            "means": self.means,
            "live": list(self.live),
            "outcomes": [dataclasses.asdict(outcome) for outcome in self.outcomes],
            "tasks": [task.state() for task in self.tasks],
            "trainee": self.trainee.state(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if cuda else None,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from the `state` of a training that was made in the same way.

        Raises:
            ExperimentError: its data were others.
        """
        for outcome, fields in zip(self.outcomes, state["outcomes"], strict=True):
            if fields["fingerprint"] != outcome.fingerprint:
                raise ExperimentError(
                    f"its data have the fingerprint {fields['fingerprint']}, and those here "
                    f"{outcome.fingerprint}"
                )
            for name, value in fields.items():
                setattr(outcome, name, value)
        for task, its_state in zip(self.tasks, state["tasks"], strict=True):
            task.restore(its_state)
        self.trainee.restore(state["trainee"])
        self.epoch, self.batch, self.means = state["epoch"], state["batch"], state["means"]
        self.total = None if state["total"] is None else state["total"].to(self.device)
        self.live = {member: self.outcomes[member] for member in state["live"]}
        if self.scheduler:
            steps = (self.epoch - 1) * self.tasks[0].steps + self.batch
            self.scheduler.last_epoch = steps if self.by_step else self.epoch - 1
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"], self.device)

    @property
    def device(self) -> torch.device:
        return next(self.trainee.parameters()).device


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
