"""Interleaved timing: all sides share the machine's moods, so that their ratios don't."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

WARM_UP = 5  #: a tower's first steps are eager; the ordinary ones that follow are compiled


class Race:
    """Calls each side in turn, a round at a time.

    Args:
        sides: what is timed, by name.
        warm: call each once more before it is timed, so that it finds its own data in the caches
            and not its predecessor's: for what is quick.

    Attributes:
        seconds: of each side, round by round.
    """

    def __init__(self, sides: Mapping[str, Callable[[], Any]], warm: bool = True) -> None:
        self.sides = sides
        self.warm = warm
        self.seconds: dict[str, list[float]] = {name: [] for name in sides}
        for side in sides.values():
            for _ in range(WARM_UP):
                side()

    def run(self, rounds: int) -> Race:
        for _ in range(rounds):
            for name in self.sides:
                self.time(name)
        return self

    def time(self, name: str) -> None:
        if self.warm:
            self.sides[name]()
        start = time.perf_counter()
        self.sides[name]()
        self.seconds[name].append(time.perf_counter() - start)

    def minimum_ratio(self, name: str, over: str) -> float:
        return min(self.seconds[name]) / min(self.seconds[over])

    def benchmark(self, benchmark: Any, timed: str, rounds: int) -> None:
        """Run with one side under pytest-benchmark, and the others before each of its rounds."""

        def others() -> None:
            for name in self.sides:
                if name != timed:
                    self.time(name)
            if self.warm:
                self.sides[timed]()

        benchmark.pedantic(self.sides[timed], setup=others, rounds=rounds)
        self.seconds[timed] += benchmark.stats.stats.data

    def info(self, over: str) -> dict[str, Any]:
        """What a record says of it: medians and minima, and their ratios to one of the sides."""
        medians = {name: statistics.median(values) for name, values in self.seconds.items()}
        minima = {name: min(values) for name, values in self.seconds.items()}
        return {
            "over": over,
            "ratio": {name: round(value / medians[over], 3) for name, value in medians.items()},
            "minimum_ratio": {name: round(x / minima[over], 3) for name, x in minima.items()},
            "milliseconds": {name: round(1e3 * value, 4) for name, value in medians.items()},
            "minimum_milliseconds": {name: round(1e3 * x, 4) for name, x in minima.items()},
            "rounds": len(self.seconds[over]),
            **settings(),
        }


def settings() -> dict[str, Any]:
    """What times depend on beside the machine."""
    return {"threads": torch.get_num_threads(), "torch": torch.__version__}
