import os

import pytest
import torch


@pytest.fixture(autouse=True)
def _as_in_a_training_run():
    """All cores, of which the tests take one; denormals, which are ten times slower, flushed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_flush_denormal(True)
    yield
    torch.set_num_threads(threads)


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.pop("node", None)  # the host's name is no measurement
