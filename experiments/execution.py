"""How runs are trained, alone or together, and become records."""

import dataclasses
import io
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

import gdtuo
from experiments import ExperimentError, interrupts, optimizers, tasks
from experiments.optimizers import Rule
from experiments.provenance import BITS, environment
from experiments.run import Record, Run, Unfinished
from experiments.train import Outcome, Training, last


@dataclass(frozen=True)
class Pause:
    """When to break off; times are those of `time.time`, and no step is cut short.

    Attributes:
        deadline: nothing is started after this.
        every: for so many seconds at a time, so that there is something to go on from.
    """

    deadline: float = math.inf
    every: float = math.inf

    @property
    def is_due(self) -> bool:
        """Whether nothing more is to be started: the time is up, or someone asks for a stop."""
        return time.time() >= self.deadline or interrupts.asked()


NEVER = Pause()


class CheckpointError(ExperimentError):
    """It is impossible to go on from this payload."""


def execute(
    run: Run,
    parent: Record | None = None,
    device: str = "cpu",
    source: dict[str, Any] | None = None,
) -> Record:
    """Train `run` alone: `execute_all` of one."""
    found = execute_all([run], [parent], device, source)
    if not found:
        raise ExperimentError("the worker was told to stop")
    return found[0]  # type: ignore[return-value]


def execute_all(
    runs: Sequence[Run],
    parents: Sequence[Record | None],
    device: str = "cpu",
    source: dict[str, Any] | None = None,
    pause: Pause = NEVER,
    payload: bytes | None = None,
    capture: bool = False,
) -> list[Record | Unfinished]:
    """Train `runs` and return the record of each, whatever happens: an error is a record too.

    Several are trained as one ensemble; if that raises, each is trained alone, so that an error
    is that of the run it belongs to. (Where they go on from a `payload` it is the error of all of
    them: that is not to be lost, for the error may be one that passes.) Runs that are paused
    return as `Unfinished`, those that were not started not at all.

    Args:
        runs: one, or several that can share an ensemble (`experiments.batches`).
        parents: for each, the record of the run that it starts from; None unless it is a rerun.
        device: where to train.
        source: the state of the source code (`experiments.provenance.source`).
        pause: when to break off.
        payload: of the `Unfinished` from which to go on.
        capture: whether steps are captured in a CUDA graph, where they can be (`Training`).

    Raises:
        CheckpointError: it is impossible to go on from `payload`.
    """
    if pause.is_due:
        return []
    until = min(pause.deadline, time.time() + pause.every)
    # Denormals slow a step down tenfold, and one thread makes runs repeat to the bit.
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = capture  # the batches that are replayed are of one size
    outcomes = [Outcome(started=run.tower) for run in runs]
    before = _unpack(payload) if payload else None
    here = {**environment(device), **(source or {})}
    if before and "clean" in here:  # as every part was
        here["clean"] = before["here"].get("clean") and here["clean"]
    begin = time.perf_counter()
    members: list[tuple[Run, Rule, Outcome]] = []
    for run, parent, outcome in zip(runs, parents, outcomes, strict=True):
        with _noted(outcome):
            rule = optimizers.parse(run.tower)
            if run.parent is not None:
                rule = _start(rule, run, parent)
            outcome.started = str(rule)
            members.append((run, rule, outcome))
    training: Training | None = None
    if len(members) > 1:
        error = ""
        try:
            training = _train(members, device, until, before, capture)
        except CheckpointError:
            raise
        except Exception as caught:
            error = f"{type(caught).__name__}: {caught}"
        if error and before:
            for *_, outcome in members:
                outcome.status, outcome.message = "failed", error
        elif error:  # after the block, which held the whole ensemble by its traceback
            pairs = zip(runs, parents, strict=True)
            rest = (device, source, pause, None, capture)
            alone = [execute_all([r], [parent], *rest) for r, parent in pairs]
            return [found for each in alone for found in each]
    elif members:
        with _noted(members[0][2]):
            training = _train(members, device, until, before, capture)
    seconds = time.perf_counter() - begin + (before["seconds"] if before else 0)
    if training and training.captured and training.captured.graph:
        here["captured"] = True
    mixed = _mixed(before, here)
    if training and not training.has_ended:
        buffer = io.BytesIO()
        state = {"here": here, "mixed": mixed, "seconds": seconds, "training": training.state()}
        torch.save(state, buffer)
        return [Unfinished(tuple(runs), training.epoch, training.batch, buffer.getvalue())]
    if interrupts.asked() and any(outcome.status == "failed" for outcome in outcomes):
        return []  # what asked may have ended a compiler too: that is no result
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
        return torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:
        raise CheckpointError(f"it is no checkpoint ({type(error).__name__}: {error})") from error


def _mixed(before: dict[str, Any] | None, here: dict[str, Any]) -> list[str]:
    """In what the parts of a run differ, of all that its numbers may depend on."""
    if before is None:
        return []
    compared = (*BITS, "commit", "captured")
    differ = {name for name in compared if before["here"].get(name) != here.get(name)}
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
    capture: bool,
) -> Training:
    """The training, to its end or up to the time `until`."""
    runs, rules, outcomes = zip(*members, strict=True)
    made = [tasks.find(run.task)(run.data, run.seed, device, **dict(run.options)) for run in runs]
    training = Training(made, rules, runs[0].epochs, outcomes, runs[0].schedule, capture)
    if before:
        try:
            training.restore(before["training"])
        except Exception as error:
            raise CheckpointError(f"{type(error).__name__}: {error}") from error
    training.run(until)
    return training
