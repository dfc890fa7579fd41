"""``step()`` alone, the gradients random and set once, over ``torch.optim.Adam``'s."""

from __future__ import annotations

import pytest

from tests.benchmarks.counts import bytes_of_a_step, kept_bytes
from tests.benchmarks.race import Race
from tests.benchmarks.trainers import (
    COMPILED,
    FUSED,
    LR_ONLY,
    PROMISED,
    TORCH,
    optimizer_of,
    with_gradients,
)

TENSORS = 8
ROUNDS = {100_000: 50, 8_000_000: 10, 50_000_000: 5}
TOWERS = (PROMISED, LR_ONLY)
CONTENDERS = (TORCH, FUSED, *TOWERS, *(name + COMPILED for name in TOWERS))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as the compiler is loaded
@pytest.mark.parametrize("size", ROUNDS)
def test_step_alone(size, benchmark):
    parameters = with_gradients([(size // TENSORS,)] * TENSORS)
    optimizers = {name: optimizer_of(name, parameters) for name in CONTENDERS}
    race = Race({name: optimizer.step for name, optimizer in optimizers.items()})
    race.benchmark(benchmark, PROMISED, ROUNDS[size])
    bytes_each = {
        "kept": {name: kept_bytes(each) / size for name, each in optimizers.items()},
        "while_stepping": {
            name: bytes_of_a_step(each.step) / size for name, each in optimizers.items()
        },
    }
    benchmark.extra_info |= {
        "parameters": size,
        "tensors": TENSORS,
        **race.info(over=TORCH),
        "bytes_for_each_parameter": {
            what: {name: round(value, 2) for name, value in values.items()}
            for what, values in bytes_each.items()
        },
    }
