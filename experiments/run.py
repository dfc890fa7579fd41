"""One run: what identifies it, how it is trained, and the record it leaves."""

import dataclasses
import hashlib
import json
import math
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import torch

import gdtuo
from experiments import ExperimentError, tasks
from experiments.provenance import environment
from experiments.tasks import Task

SCHEMA = 1  # raised when the fields of a record change their meaning
CHECK_EVERY = 64  # steps between two looks at whether the loss is finite: a look costs a sync

Curves = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """Everything that the numbers of a run depend on, versions and machine aside.

    Attributes:
        task: the name of a task (`experiments.tasks`).
        data: the name of a data set (`experiments.data`).
        tower: the optimizer as text, such as "SGD / Adam(0.1)"; kept in its canonical form.
        seed: decides initial weights and batch order.
        epochs: the length.
        parent: for a rerun, the key of the run whose final level-0 hyperparameters it starts from.
    """

    task: str
    data: str
    tower: str
    seed: int
    epochs: int
    parent: str | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ExperimentError(f"epochs is {self.epochs}; a run has at least one")
        object.__setattr__(self, "tower", str(gdtuo.parse(self.tower)))

    @property
    def key(self) -> str:
        """The run's name in a store: a hash of its fields and the version of its task."""
        fields = dataclasses.asdict(self) | {"task_version": tasks.find(self.task).version}
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
        curves: one value for each epoch: "train_loss" (mean over the batches), the task's metric,
            and "hyperparameters", for each level, 0 first, a list by name. None: not finite.
        final: the last value of each curve; None unless "ok".
        lr_last_epoch: level 0's lr after each step of the last epoch, to six digits; empty unless
            the run has a tower and reached that epoch.
        steps: the optimizer's steps.
        seconds: wall-clock time of training and evaluation.
        provenance: commit, versions, machine, data.
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
    """Train `run` and return its record, whatever happens: an error is a record too.

    Args:
        run: what to train.
        parent: the record of the run that `run` starts from, for a rerun.
        device: where to train.
        source: the state of the source code (`experiments.provenance.source`).
    """
    started, outcome = run.tower, _Outcome()
    begin = time.perf_counter()
    try:
        rule = gdtuo.parse(run.tower)
        if run.parent is not None:
            rule = _start(rule, run, parent)
        started = str(rule)
        # Denormals slow a step down tenfold, and one thread makes runs repeat to the bit.
        torch.set_flush_denormal(True)
        torch.set_num_threads(1)
        _train(run, rule, device, outcome)
    except _DivergedError as diverged:
        outcome.status, outcome.message = "diverged", str(diverged)
    except Exception as error:
        outcome.status, outcome.message = "failed", f"{type(error).__name__}: {error}"
    ok = outcome.status == "ok"
    return Record(
        run=run,
        key=run.key,
        status=outcome.status,
        message=outcome.message,
        started=started,
        curves=outcome.curves,
        final=_last(outcome.curves) if ok else None,
        lr_last_epoch=outcome.lr_last_epoch,
        steps=outcome.steps,
        seconds=round(time.perf_counter() - begin, 3),
        provenance={
            **environment(device),
            **(source or {}),
            "data": outcome.fingerprint,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        },
    )


class _DivergedError(Exception):
    pass


@dataclass
class _Outcome:
    """What is known of a run so far, so that one that breaks off still leaves it."""

    status: str = "ok"
    message: str = ""
    curves: Curves = dataclasses.field(default_factory=dict)
    lr_last_epoch: list[float] = dataclasses.field(default_factory=list)
    steps: int = 0
    fingerprint: str | None = None


def _start(rule: gdtuo.Rule, run: Run, parent: Record | None) -> gdtuo.Rule:
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


def _train(run: Run, rule: gdtuo.Rule, device: str, outcome: _Outcome) -> None:
    task = tasks.find(run.task)(run.data, run.seed, device)
    outcome.fingerprint = task.fingerprint
    optimizer = gdtuo.Tower(task.model.parameters(), rule)
    levels = optimizer.hyperparameters()
    outcome.curves = {
        "train_loss": [],
        task.metric: [],
        "hyperparameters": [{name: [] for name in level} for level in levels],
    }
    for epoch in range(1, run.epochs + 1):
        follow = epoch == run.epochs and len(levels) > 1
        total = torch.zeros((), device=device)
        for batch, loss in enumerate(task.losses(), 1):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()
            if follow:
                lr = optimizer.hyperparameters()[0]["lr"]
                if not math.isfinite(lr):
                    break
                outcome.lr_last_epoch.append(float(f"{lr:.6g}"))
            if batch % CHECK_EVERY == 0 and not math.isfinite(total.item()):
                break
        outcome.steps += batch
        _append(outcome.curves, total.item() / batch, task, optimizer.hyperparameters())
        if not _all_finite(_last(outcome.curves)) or not _weights_finite(task):
            raise _DivergedError(
                f"no longer finite in epoch {epoch}, at step {outcome.steps} or before"
            )


def _append(curves: Curves, loss: float, task: Task, levels: list[dict[str, float]]) -> None:
    curves["train_loss"].append(_finite(loss))
    curves[task.metric].append(_finite(task.evaluate()))
    for curve, level in zip(curves["hyperparameters"], levels, strict=True):
        for name, value in level.items():
            curve[name].append(_finite(value))


def _last(curves: Curves) -> dict[str, Any]:
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


def _weights_finite(task: Task) -> bool:
    return all(bool(parameter.isfinite().all()) for parameter in task.model.parameters())


def _finite(value: float) -> float | None:
    """`value` as JSON can hold it."""
    return value if math.isfinite(value) else None
