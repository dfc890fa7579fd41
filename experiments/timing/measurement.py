"""Records of contenders that were timed together, and their ratios."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments import store
from experiments.timing.record import SCHEMA, Timing
from experiments.timing.workload import tower
from experiments.words import fixed


@dataclass(frozen=True)
class Interval:
    """The median over rounds with its 95 % bootstrap interval, which is nan without two rounds."""

    median: float
    low: float
    high: float

    def text(self, digits: int = 2, unit: str = "") -> str:
        """Such as "1.31 [1.28, 1.34]"."""

        median, low, high = (fixed(x, digits) for x in (self.median, self.low, self.high))
        return f"{median}{unit}" + ("" if np.isnan(self.low) else f" [{low}, {high}]")


def interval(values: Sequence[float] | np.ndarray) -> Interval:
    """Of one value for each round."""
    sample = np.asarray(values)
    if len(sample) < 2:
        return Interval(float(np.median(sample)), np.nan, np.nan)
    from scipy import stats  # a quarter of the time that the command line takes to start

    # A percentile interval: the corrected ones are undefined where all values are equal.
    bounds = stats.bootstrap(
        (sample,), np.median, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    return Interval(float(np.median(sample)), float(bounds.low), float(bounds.high))


@dataclass(frozen=True)
class Measurement:
    """The contenders of a workload that were timed together, by name."""

    timings: dict[str, Timing]

    @classmethod
    def of(cls, timings: Iterable[Timing]) -> "Measurement":
        return cls({timing.contender: timing for timing in timings})

    @property
    def first(self) -> Timing:
        """One of them, for what all have in common."""
        return next(iter(self.timings.values()))

    @property
    def workload(self) -> str:
        return self.first.workload

    @property
    def device(self) -> str:
        return str(self.first.provenance["device"])

    @property
    def rounds(self) -> int:
        return len(self.first.seconds)

    def seconds(self, name: str) -> np.ndarray:
        return np.array(self.timings[name].seconds)

    def heights(self, compiled: bool = False) -> list[int]:
        """The heights that were timed, in order."""
        timed = self.timings.values()
        return sorted(t.height for t in timed if t.height is not None and t.fast == compiled)

    def milliseconds(self, name: str) -> Interval:
        return interval(1e3 * self.seconds(name))

    def ratio(self, name: str, to: str) -> Interval:
        """The time of `name` over that of `to`, round by round."""
        return interval(self.seconds(name) / self.seconds(to))

    def over(self, height: int, compiled: bool = False) -> Interval:
        """By how many percent a tower takes longer than that of height 0."""
        base = self.seconds(tower(0, compiled))
        return interval(100 * (self.seconds(tower(height, compiled)) / base - 1))

    def slope(self, heights: Sequence[int], compiled: bool = False) -> tuple[Interval, Interval]:
        """Of the line through the times at `heights`, a level: milliseconds, percent of height 0.

        A line for each round.
        """
        seconds = np.stack([self.seconds(tower(height, compiled)) for height in heights])
        slopes = np.polyfit(heights, seconds, 1)[0]
        return interval(1e3 * slopes), interval(100 * slopes / self.seconds(tower(0, compiled)))


def load(path: Path) -> list[Measurement]:
    """The whole measurements in `path`, the oldest first; none if there is no such file.

    One of which records are missing, because its writer was stopped, is left out.
    """
    found: dict[tuple[str, ...], list[Timing]] = defaultdict(list)
    for timing in store.entries(path, SCHEMA, lambda fields: Timing(**fields)):
        provenance = timing.provenance
        found[provenance["finished"], timing.workload, provenance["device"]].append(timing)
    measurements = [Measurement.of(timings) for _, timings in sorted(found.items())]
    return [each for each in measurements if len(each.timings) == each.first.together]


def latest(measurements: Iterable[Measurement]) -> dict[tuple[str, str], Measurement]:
    """The newest by device and workload, of measurements that come oldest first."""
    return {(each.device, each.workload): each for each in measurements}
