"""One run: what identifies it, and the record it leaves."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import gdtuo
from experiments import ExperimentError, optimizers, tasks
from experiments.train import COSINE, Curves

SCHEMA = 1  # raised when the fields of a record change their meaning


@dataclass(frozen=True)
class Run:
    """Everything that the numbers of a run depend on, versions and machine aside.

    Attributes:
        task: the name of a task (`experiments.tasks`).
        data: the name of a data set (`experiments.data`).
        tower: the optimizer as text, such as "SGD / Adam(0.1)" or a rival's "Prodigy"
            (`experiments.optimizers`); kept in its canonical form.
        seed: decides initial weights and batch order.
        epochs: the length.
        parent: for a rerun, the key of the run whose final level-0 hyperparameters it starts from.
        options: what it chooses of the task's options, those at their defaults left out; given as
            a dict, kept as sorted pairs.
        schedule: the epochs after which the step size is divided by ten; or "cosine": it goes to 0
            along a cosine over the whole length, step by step.
    """

    task: str
    data: str
    tower: str
    seed: int
    epochs: int
    parent: str | None = None
    options: Mapping[str, Any] | tuple[tuple[str, Any], ...] = ()
    schedule: tuple[int, ...] | str = ()

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ExperimentError(f"epochs is {self.epochs}; a run has at least one")
        rule = optimizers.parse(self.tower)
        if self.parent is not None and not isinstance(rule, gdtuo.Rule):
            raise ExperimentError(f"{rule} is no tower: it can't start from learned values")
        object.__setattr__(self, "tower", str(rule))
        chosen = tasks.find(self.task).chosen(dict(self.options))
        object.__setattr__(self, "options", tuple(chosen.items()))
        if not isinstance(self.schedule, str):
            object.__setattr__(self, "schedule", tuple(self.schedule))
        elif self.schedule != COSINE:
            raise ExperimentError(f"schedule is {self.schedule!r}; expected epochs or {COSINE!r}")

    @cached_property
    def key(self) -> str:
        """The run's name in a store: a hash of its fields and the versions of task and optimizer.

        Fields that runs gained later are left out while empty, so that older records keep theirs.
        """
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["task_version"] = tasks.find(self.task).version
        for name in ("options", "schedule"):
            if not fields[name]:
                del fields[name]
        if (version := optimizers.version(self.tower)) > 1:
            fields["optimizer_version"] = version
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def is_compiled(self) -> bool:
        """Whether the task compiles its network, which takes a compiler."""
        return bool(dict(self.options).get("compile"))

    @property
    def mixed_precision(self) -> bool:
        """Whether the task computes its network in mixed precision."""
        return "autocast" in dict(self.options)  # the default is left out


@dataclass(frozen=True)
class Record:
    """What a run left behind.

    Attributes:
        run, key: the run and its key.
        status: "ok"; "diverged": a loss, weight or hyperparameter was no longer finite, or there
            was nothing to start from, which is a result and is kept; "failed": it is run again.
        message: why, unless "ok".
        started: the optimizer that trained; it differs from the run's tower for a rerun.
        curves: one value for each epoch: "train_loss" (mean over the batches), the task's figures,
            and "hyperparameters", for each level, 0 first, a list by name; of a rival that is no
            tower, one level with its step size as "lr". None: not finite.
        final: the last value of each curve; None unless "ok".
        lr_last_epoch: level 0's lr after each step of the last epoch, to six digits; empty unless
            the run has a tower and reached that epoch.
        steps: the optimizer's steps.
        seconds: wall-clock time of training and evaluation; for runs that were trained together,
            their time over their number.
        provenance: commit, versions, machine, data; "data_note": what must be said of the data, if
            anything; "ensemble": with how many members it was trained, absent for a run alone;
            "captured": where its steps were replays of a CUDA graph;
            "mixed": of a run that was paused, in which of these its parts differ, if in any;
            "clean": whether all its parts are of code that was just what was committed.
    """

    run: Run
    key: str
    status: str
    message: str
    started: str
    curves: Curves
    final: dict[str, Any] | None
    lr_last_epoch: list[float]
    steps: int
    seconds: float
    provenance: dict[str, Any]
    schema: int = SCHEMA


@dataclass(frozen=True)
class Unfinished:
    """Runs that were paused together.

    Attributes:
        runs: all of the batch.
        epoch, batch: the epoch that they are in, from 1, and how many of its steps are done.
        payload: what `execute_all` goes on from.
    """

    runs: tuple[Run, ...]
    epoch: int
    batch: int
    payload: bytes


def rerun(run: Run) -> Run:
    """The plain optimizer at the bottom of `run`'s tower, to start from the values it learned."""
    bottom = dataclasses.replace(gdtuo.parse(run.tower), optimizer=None, learn=None)
    return dataclasses.replace(run, tower=str(bottom), parent=run.key)
