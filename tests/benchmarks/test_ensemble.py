"""A member's step in an ensemble over the step of one model alone with ``torch.optim.Adam``."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

import gdtuo
from tests.benchmarks.models import WORKLOADS
from tests.benchmarks.race import Race
from tests.benchmarks.trainers import COMPILED, PROMISED, TORCH, trainer

ROUNDS = 10


def step_of(members, compile):
    torch.manual_seed(0)
    models = [WORKLOADS["mlp"].model() for _ in range(members)]
    ensemble = gdtuo.Ensemble(models, PROMISED, compile=compile)
    x, y = WORKLOADS["mlp"].batch()

    def step():
        ensemble.zero_grad()
        torch.vmap(cross_entropy, (0, None))(ensemble(x), y).sum().backward()
        ensemble.step()

    return step


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as the compiler is loaded
@pytest.mark.parametrize("members", [1, 16, 64])
def test_member(members, benchmark):
    eager = f"{PROMISED}, one of {members}"
    compiled = eager + COMPILED
    together = {eager: step_of(members, False), compiled: step_of(members, True)}
    alone = {name: trainer("mlp", name) for name in (TORCH, PROMISED)}
    race = Race({**alone, **together})
    race.benchmark(benchmark, compiled, ROUNDS)
    for name in together:
        race.seconds[name] = [value / members for value in race.seconds[name]]
    info = race.info(over=TORCH)
    benchmark.extra_info |= {"members": members, "tower": PROMISED, **info}
    assert info["ratio"][compiled] <= 4.0
