"""A member's step in an ensemble over the step of one model alone with ``torch.optim.Adam``."""

from __future__ import annotations

import statistics
import time

import pytest
import torch
from torch.nn.functional import cross_entropy

import gdtuo
from tests.benchmarks.models import WORKLOADS
from tests.benchmarks.trainers import TORCH, trainer

ROUNDS = 10
TOWER = "Adam / SGD(1e-05)"


@pytest.fixture
def flushed():
    """Denormals slow a step down tenfold, those of any member."""
    torch.set_flush_denormal(True)
    yield
    torch.set_flush_denormal(False)


@pytest.mark.usefixtures("flushed")
@pytest.mark.parametrize("members", [1, 16, 64])
def test_step(members, benchmark):
    alone = {name: trainer("mlp", name) for name in (TORCH, TOWER)}
    torch.manual_seed(0)
    models = [WORKLOADS["mlp"].model() for _ in range(members)]
    ensemble = gdtuo.Ensemble(models, TOWER)
    x, y = WORKLOADS["mlp"].batch()

    def step():
        ensemble.zero_grad()
        torch.vmap(cross_entropy, (0, None))(ensemble(x), y).sum().backward()
        ensemble.step()

    seconds = {name: [] for name in alone}

    def others():  # before each timed one: all sides share the machine's moods
        for name, single in alone.items():
            single()  # a large ensemble has left nothing of it in the caches
            start = time.perf_counter()
            single()
            seconds[name].append(time.perf_counter() - start)

    benchmark.pedantic(step, setup=others, rounds=ROUNDS, warmup_rounds=2)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    a_member = benchmark.stats.stats.median / members
    over = {name: round(a_member / median, 3) for name, median in medians.items()}
    benchmark.extra_info |= {
        "members": members,
        "tower": TOWER,
        "milliseconds_a_member": round(1e3 * a_member, 3),
        "ratio_a_member": over,
        "rounds": ROUNDS,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    assert over[TORCH] <= 6.0
