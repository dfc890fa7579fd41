from collections.abc import Iterator

import pytest
import torch

from tests.distributed.processes import Processes

if not torch.distributed.is_available():
    collect_ignore_glob = ["*"]


@pytest.fixture(scope="package")
def processes() -> Iterator[Processes]:
    started = Processes()
    yield started
    started.close()
