"""One run: what identifies it, how it is trained, and the record it leaves."""

import dataclasses
import hashlib
import io
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

import gdtuo
from experiments import ExperimentError, optimizers, tasks
from experiments.optimizers import Rule
from experiments.provenance import BITS, environment
from experiments.train import COSINE, Curves, Outcome, Training, last

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

    @property
    def key(self) -> str:
        """The run's name in a store: a hash of its fields and the versions of task and optimizer.

        Fields that runs gained later are left out while empty, so that older records keep theirs.
        """
        fields = dataclasses.asdict(self) | {"task_version": tasks.find(self.task).version}
        for name in ("options", "schedule"):
            if not fields[name]:
                del fields[name]
        if (version := optimizers.version(self.tower)) > 1:
            fields["optimizer_version"] = version
        text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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
            "mixed": of a run that was paused, in which of these its parts differ, if in any.
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


@dataclass(frozen=True)
class Pause:
    """When to break off; times are those of `time.time`, and no step is cut short.

    Attributes:
        deadline: nothing is started after this.
        every: for so many seconds at a time, so that there is something to go on from.
    """

    deadline: float = math.inf
    every: float = math.inf


NEVER = Pause()


class CheckpointError(ExperimentError):
    """It is impossible to go on from this payload."""


def rerun(run: Run) -> Run:
    """The plain optimizer at the bottom of `run`'s tower, to start from the values it learned."""
    bottom = dataclasses.replace(gdtuo.parse(run.tower), optimizer=None, learn=None)
    return dataclasses.replace(run, tower=str(bottom), parent=run.key)


def execute(
    run: Run,
    parent: Record | None = None,
    device: str = "cpu",
    source: dict[str, Any] | None = None,
) -> Record:
    """Train `run` alone: `execute_all` of one."""
    return execute_all([run], [parent], device, source)[0]  # type: ignore[return-value]


def execute_all(
    runs: Sequence[Run],
    parents: Sequence[Record | None],
    device: str = "cpu",
    source: dict[str, Any] | None = None,
    pause: Pause = NEVER,
    payload: bytes | None = None,
) -> list[Record | Unfinished]:
    """Train `runs` and return the record of each, whatever happens: an error is a record too.

    Several are trained as one ensemble; if that raises, each is trained alone, so that an error
    is that of the run it belongs to. Runs that are paused return as `Unfinished`, those that
    were not started not at all.

    Args:
        runs: one, or several that can share an ensemble (`experiments.batches`).
        parents: for each, the record of the run that it starts from; None unless it is a rerun.
        device: where to train.
        source: the state of the source code (`experiments.provenance.source`).
        pause: when to break off.
        payload: of the `Unfinished` from which to go on.

    Raises:
        CheckpointError: it is impossible to go on from `payload`.
    """
    if time.time() >= pause.deadline:
        return []
    until = min(pause.deadline, time.time() + pause.every)
    # Denormals slow a step down tenfold, and one thread makes runs repeat to the bit.
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    outcomes = [Outcome(started=run.tower) for run in runs]
    before = _unpack(payload) if payload else None
    here = {**environment(device), **(source or {})}
    begin = time.perf_counter()
    members: list[tuple[Run, Rule, Outcome]] = []
    for run, parent, outcome in zip(runs, parents, outcomes, strict=True):
        with _noted(outcome):
            rule = optimizers.parse(run.tower)
            if run.parent is not None:
                rule = _start(rule, run, parent)
            outcome.started = str(rule)
            members.append((run, rule, outcome))
    paused: Training | None = None
    if len(members) > 1:
        try:
            paused = _train(members, device, until, before)
        except CheckpointError:
            raise
        except Exception:
            pairs = zip(runs, parents, strict=True)
            alone = [execute_all([r], [parent], device, source, pause) for r, parent in pairs]
            return [found for each in alone for found in each]
    elif members:
        with _noted(members[0][2]):
            paused = _train(members, device, until, before)
    seconds = time.perf_counter() - begin + (before["seconds"] if before else 0)
    mixed = _mixed(before, here)
    if paused:
        buffer = io.BytesIO()
        training = {"here": here, "mixed": mixed, "seconds": seconds, "training": paused.state()}
        torch.save(training, buffer)
        return [Unfinished(tuple(runs), paused.epoch, paused.batch, buffer.getvalue())]
    together = {"ensemble": len(members)} if len(members) > 1 else {}
    return [
        Record(
            run=run,
            key=run.key,
            status=outcome.status,
            message=outcome.message,
            started=outcome.started,
            curves=outcome.curves,
            final=last(outcome.curves) if outcome.status == "ok" else None,
            lr_last_epoch=outcome.lr_last_epoch,
            steps=outcome.steps,
            seconds=round(seconds / len(runs), 3),
            provenance={
                **here,
                **(together if outcome.fingerprint else {}),
                **({"mixed": mixed} if mixed else {}),
                "data": outcome.fingerprint,
                **({"data_note": outcome.note} if outcome.note else {}),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        for run, outcome in zip(runs, outcomes, strict=True)
    ]


def _unpack(payload: bytes) -> dict[str, Any]:
    try:
        return torch.load(io.BytesIO(payload), weights_only=True)
    except Exception as error:
        raise CheckpointError(f"it is no checkpoint ({type(error).__name__}: {error})") from error


def _mixed(before: dict[str, Any] | None, here: dict[str, Any]) -> list[str]:
    """In what the parts of a run differ, of all that its numbers may depend on."""
    if before is None:
        return []
    differ = {name for name in (*BITS, "commit") if before["here"].get(name) != here.get(name)}
    return sorted(differ.union(before["mixed"]))


class _DivergedError(Exception):
    pass


@contextmanager
def _noted(outcome: Outcome) -> Iterator[None]:
    """What the block raises becomes the status of the run."""
    try:
        yield
    except _DivergedError as diverged:
        outcome.status, outcome.message = "diverged", str(diverged)
    except CheckpointError:
        raise
    except Exception as error:
        outcome.status, outcome.message = "failed", f"{type(error).__name__}: {error}"


def _start(rule: Rule, run: Run, parent: Record | None) -> Rule:
    """`rule` with the values that the run's parent learned."""
    if parent is None or parent.key != run.parent:
        raise ExperimentError(f"this run starts from run {run.parent}, whose record is missing")
    if parent.status == "failed":
        raise ExperimentError(f"the run it starts from, {parent.key}, failed: {parent.message}")
    if parent.final is None:
        raise _DivergedError("the run it starts from diverged, so it has learned no values")
    values = parent.final["hyperparameters"][0]
    try:
        return dataclasses.replace(rule, **values)
    except gdtuo.GdtuoError as error:
        raise _DivergedError(f"the learned values are no optimizer's: {error}") from error


def _train(
    members: Sequence[tuple[Run, Rule, Outcome]],
    device: str,
    until: float,
    before: dict[str, Any] | None,
) -> Training | None:
    """The training, if it has not come to its end by the time `until`."""
    runs, rules, outcomes = zip(*members, strict=True)
    made = [tasks.find(run.task)(run.data, run.seed, device, **dict(run.options)) for run in runs]
    training = Training(made, rules, runs[0].epochs, outcomes, runs[0].schedule)
    if before:
        try:
            training.restore(before["training"])
        except Exception as error:
            raise CheckpointError(f"{type(error).__name__}: {error}") from error
    return None if training.run(until) else training
