"""A whole training step over ``torch.optim.Adam``'s, the sides interleaved."""

from __future__ import annotations

import numpy as np
import pytest

from tests.benchmarks.models import WORKLOADS
from tests.benchmarks.race import Race
from tests.benchmarks.trainers import (
    COMPILED,
    DEFAULT,
    FUSED,
    HEIGHTS,
    PROMISED,
    PUBLISHED,
    TORCH,
    TOWERS,
    label,
    trainer,
)

ROUNDS = {"mlp": 30, "lstm": 20, "resnet20": 7}
OURS = (DEFAULT, *TOWERS)
CONTENDERS = (TORCH, FUSED, *OURS, *(name + COMPILED for name in OURS), PUBLISHED)


# torch warns of the cycle that create_graph=True makes, which the published loop asks for; loading
# the compiler warns of what torch has deprecated.
@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("workload", WORKLOADS)
def test_training_step(workload, benchmark):
    sides = {name: trainer(workload, name) for name in CONTENDERS}
    race = Race(sides, warm=workload != "resnet20")
    race.benchmark(benchmark, PROMISED, ROUNDS[workload])
    info = race.info(over=TORCH)
    benchmark.extra_info |= {"workload": workload, **info}
    if workload == "mlp":
        kinds = {"eager": "", "compiled": COMPILED}
        benchmark.extra_info["percent_a_level"] = {
            kind: percent_a_level(info["milliseconds"], suffix) for kind, suffix in kinds.items()
        }
    assert info["ratio"][PROMISED] <= WORKLOADS[workload].at_most


def percent_a_level(milliseconds: dict[str, float], suffix: str) -> float:
    """What one more level of SGD costs, in percent of the step of a tower of height 1."""
    heights = [height for height in HEIGHTS if height in (1, 3, 8, 20)]
    times = [milliseconds[label(height) + suffix] for height in heights]
    return round(100 * float(np.polyfit(heights, times, 1)[0]) / times[0], 2)
