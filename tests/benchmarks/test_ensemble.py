"""A member's step in an ensemble over the step of one model alone with ``torch.optim.Adam``."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

import gdtuo
from tests.benchmarks.models import WORKLOADS
from tests.benchmarks.race import Race
from tests.benchmarks.trainers import PROMISED, TORCH, trainer

ROUNDS = 10


@pytest.mark.parametrize("members", [1, 16, 64])
def test_member(members, benchmark):
    torch.manual_seed(0)
    models = [WORKLOADS["mlp"].model() for _ in range(members)]
    ensemble = gdtuo.Ensemble(models, PROMISED)
    x, y = WORKLOADS["mlp"].batch()

    def step():
        ensemble.zero_grad()
        torch.vmap(cross_entropy, (0, None))(ensemble(x), y).sum().backward()
        ensemble.step()

    member = f"{PROMISED}, one of {members}"
    alone = {name: trainer("mlp", name) for name in (TORCH, PROMISED)}
    race = Race({**alone, member: step})
    race.benchmark(benchmark, member, ROUNDS)
    race.seconds[member] = [value / members for value in race.seconds[member]]
    info = race.info(over=TORCH)
    benchmark.extra_info |= {"members": members, "tower": PROMISED, **info}
    assert info["ratio"][member] <= 6.0
