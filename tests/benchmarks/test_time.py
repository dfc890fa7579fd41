"""A whole training step over ``torch.optim.Adam``'s: ratios of medians, the sides interleaved."""

from __future__ import annotations

import statistics
import time

import pytest
import torch

from tests.benchmarks.models import WORKLOADS
from tests.benchmarks.trainers import PUBLISHED, TORCH, TOWERS, trainer

ROUNDS = 30
PROMISED = "Adam / SGD(1e-05)"


# torch warns of the cycle that create_graph=True makes, which the published loop asks for.
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.parametrize("workload", WORKLOADS)
def test_step(workload, benchmark):
    rivals = {name: trainer(workload, name) for name in (TORCH, *TOWERS, PUBLISHED)}
    for step in rivals.values():  # warm up
        step()
        step()
    promised = rivals.pop(PROMISED)
    seconds = {name: [] for name in rivals}

    def others():  # one step of each before each timed one: all sides share the machine's moods
        for name, step in rivals.items():
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)

    benchmark.pedantic(promised, setup=others, rounds=ROUNDS)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    medians[PROMISED] = benchmark.stats.stats.median
    ratios = {name: round(value / medians[TORCH], 3) for name, value in medians.items()}
    benchmark.extra_info |= {
        "workload": workload,
        "over": TORCH,
        "ratio": ratios,
        "rounds": ROUNDS,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    assert ratios[PROMISED] <= WORKLOADS[workload].at_most
