"""One thread, the same examples every time, and the default dtype as it was."""

from collections.abc import Iterator

import hypothesis
import pytest
import torch

torch.set_num_threads(1)
hypothesis.settings.register_profile(
    "stable", derandomize=True, deadline=None, database=None, max_examples=40
)
hypothesis.settings.load_profile("stable")


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    dtype = torch.get_default_dtype()
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(dtype)
    torch.set_flush_denormal(False)  # which a training run sets
