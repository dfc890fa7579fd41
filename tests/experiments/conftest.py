"""Made-up records, so that most tests train nothing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.run import Record, Run

PROVENANCE = {
    "gdtuo": "0", "python": "3", "torch": "2", "device": "cpu", "threads": 1, "platform": "Linux",
    "machine": "m", "processor": "p", "vector_unit": "v", "commit": "c", "clean": True,
    "data": "d", "finished": "2022-11-28T00:00:00+00:00",
}  # fmt: skip


@pytest.fixture
def make_record() -> Callable[..., Record]:
    """A record of `run` with some fields replaced."""

    def make(run: Run, **fields: Any) -> Record:
        record = Record(
            run=run,
            key=run.key,
            status="ok",
            message="",
            started=run.tower,
            curves={"train_loss": [1.0], "test_error": [5.0], "hyperparameters": [{"lr": [0.1]}]},
            final={"train_loss": 1.0, "test_error": 5.0, "hyperparameters": [{"lr": 0.1}]},
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
def path(tmp_path: Path) -> Path:
    return tmp_path / "study" / "tier.jsonl"
