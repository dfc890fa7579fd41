from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from tests.distributed.processes import Processes

if not torch.distributed.is_available():
    collect_ignore_glob = ["*"]


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    if hasattr(torch.cpu.Stream, "record_event"):
        return
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="this torch has FSDP2 for GPUs alone"))


@pytest.fixture(scope="package")
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()
