"""Made-up records, so that most tests train nothing."""

import dataclasses
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import tasks
from experiments.execution import Pause, execute_all
from experiments.run import Record, Run, Unfinished
from experiments.timing.measurement import Measurement
from experiments.timing.record import Timing
from experiments.timing.workload import Contender, contenders

PROVENANCE = {
    "gdtuo": "0", "python": "3", "torch": "2", "device": "cpu", "threads": 1, "platform": "Linux",
    "machine": "m", "processor": "p", "vector_unit": "v", "commit": "c", "clean": True,
    "data": "d", "finished": "2022-11-28T00:00:00+00:00",
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_wait_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of records are made up, which need not outlive the machine."""
    monkeypatch.setattr(os, "fsync", lambda file: None)


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A record of `run` with some fields replaced."""

    def make(run: Run, **fields: Any) -> Record:
        figures = {"train_loss": 1.0, "test_error": 5.0, tasks.find(run.task).metric: 5.0}
        is_ok = fields.get("status", "ok") == "ok"
        record = Record(
            run=run,
            key=run.key,
            status="ok",
            message="",
            started=run.tower,
            curves={name: [x] for name, x in figures.items()}
            | {"hyperparameters": [{"lr": [0.1]}]},
            final=figures | {"hyperparameters": [{"lr": 0.1}]} if is_ok else None,
            lr_last_epoch=[],
            steps=1,
            seconds=1.0,
            provenance=PROVENANCE,
        )
        return dataclasses.replace(record, **fields)

    return make


@pytest.fixture
def run() -> Run:
    return Run("mlp", "digits", "SGD / SGD", seed=0, epochs=1)


@pytest.fixture
def results() -> Callable[[Record], list[Any]]:
    """What is the same in the records of a run that is repeated."""
    same = ("status", "message", "started", "curves", "final", "lr_last_epoch", "steps")
    return lambda record: [getattr(record, name) for name in same]


@pytest.fixture
def heeds_interrupts() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and pytest may be that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def step_by_step() -> Callable[[Sequence[Run]], tuple[list[Any], int]]:
    """The records of runs that are paused after every step, and how often they were."""

    def train(runs: Sequence[Run]) -> tuple[list[Any], int]:
        payload, pauses = None, 0
        while True:
            found = execute_all(runs, [None] * len(runs), pause=Pause(every=0), payload=payload)
            if not isinstance(found[0], Unfinished):
                return found, pauses
            payload, pauses = found[0].payload, pauses + 1

    return train


@pytest.fixture
def executor() -> Iterator[Executor]:
    """A worker in this process."""
    with ThreadPoolExecutor(1) as executor:
        yield executor


@pytest.fixture
def without_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """A torch that fails as it does where there is no compiler: at the first call."""

    def compiled(*_: Any) -> None:
        raise RuntimeError("none found\n\nSet TORCHDYNAMO_VERBOSE=1 for the internal stack trace")

    monkeypatch.setattr(torch, "compile", lambda function: compiled)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "tier.jsonl"


@pytest.fixture
def make_measurement() -> Callable[..., Measurement]:
    """A measurement in which a tower takes `percent[i]` longer than height 0, by height.

    `torch.optim` takes as long as height 0, and `moods` is how slow the machine is by round;
    `texts`: by how many percent other contenders take longer.
    """

    def make(
        workload: str,
        heights: Sequence[int] = (0, 1, 2, 3),
        percent: Sequence[float] = (0, 1, 2, 3),
        *,
        moods: Sequence[float] = (1,) * 20,
        scale: float = 1,
        finished: str = "2030-01-01",
        device: str = "cpu",
        megabytes: float = 0,
        texts: Mapping[str, float] | None = None,
    ) -> Measurement:
        texts = texts or {}
        extra = dict(zip(heights, percent, strict=True)) | {None: 0}
        sides = contenders(heights, texts=tuple(texts))

        def longer(side: Contender) -> float:
            return texts.get(side.name, extra[side.height]) / 100

        return Measurement.of(
            Timing(
                workload=workload,
                contender=side.name,
                rule="rule",
                height=side.height,
                fast=side.fast,
                seconds=[scale * 1e-3 * mood * (1 + longer(side)) for mood in moods],
                steps=7,
                peak_bytes=[
                    int(1e8 + 1e6 * megabytes * (side.height or 0) + more)
                    for more in (-1e6, 0, 2e6)
                ],
                state_bytes=4 * (side.height or 0),
                parameter_bytes=400,
                together=len(sides),
                provenance={**PROVENANCE, "device": device, "finished": finished, "threads": 2},
            )
            for side in sides
        )

    return make
