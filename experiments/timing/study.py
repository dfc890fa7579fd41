"""A figure whose records are measurements."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from experiments import ExperimentError
from experiments.study import Exhibit
from experiments.timing.workload import Workload


@dataclass(frozen=True)
class TimingTier:
    """How thoroughly the workloads are measured.

    Attributes:
        heights: of the towers, by workload.
        texts: other optimizers that are timed beside them (`experiments.optimizers`).
        rounds: how many times each contender has its turn.
        block_seconds: about how long its turn lasts.
        processes: how many measure the memory of a contender; they differ by some percent.
        about: what this tier is for and how long it takes, in one line.
    """

    heights: Mapping[str, Sequence[int]]
    rounds: int
    block_seconds: float
    processes: int
    about: str
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class TimingStudy(Exhibit):
    """A figure of run time and memory.

    Attributes:
        workloads: by name.
    """

    tiers: dict[str, TimingTier]
    workloads: dict[str, Workload]

    def command(self, tier: str) -> str:
        return f"python -m experiments time {self.name} --tier {tier}"

    def select(self, tier: str, only: str = "*") -> dict[Workload, Sequence[int]]:
        """The tier's workloads whose name matches the pattern `only`, with their heights."""
        chosen = {
            self.workloads[name]: heights
            for name, heights in self.tier(tier).heights.items()
            if fnmatchcase(name, only)
        }
        if not chosen:
            raise ExperimentError(
                f"no workload matches {only!r}; there are {', '.join(self.tier(tier).heights)}"
            )
        return chosen
