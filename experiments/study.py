"""What a study is: the runs behind one table or figure of the paper."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from experiments import ExperimentError
from experiments.run import Run

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Tier:
    """How much of a study is run.

    Attributes:
        data: the data set.
        seeds: how many seeds each cell has; they are 0, 1, ...
        about: what this tier is for and how long it takes, in one line.
        epochs: the length of a run, where the study doesn't say it elsewhere.
        options: of the task.
        shortened: whether runs are shorter than the paper's, so that what shows late can't be seen.
    """

    data: str
    seeds: int
    about: str
    epochs: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    shortened: bool = False


@dataclass(frozen=True)
class Cell:
    """One run of a study, and the row of the table or the curve of the figure that it is for."""

    row: str
    run: Run

    @property
    def name(self) -> str:
        """The row, and whether this is its rerun from learned values."""
        return f"{self.row}, rerun" if self.run.parent else self.row


@dataclass(frozen=True)
class Exhibit:
    """A table or figure of the paper, and where its records are.

    Attributes:
        name: its name on the command line and in `results/`.
        title: what it is, in one line.
        tiers: from the quickest to the paper's own protocol.
    """

    name: str
    title: str
    tiers: dict[str, Any]

    def tier(self, name: str) -> Any:
        if name not in self.tiers:
            raise ExperimentError(
                f"{self.name} has no tier {name!r}; it has {', '.join(self.tiers)}"
            )
        return self.tiers[name]

    def path(self, tier: str, results: Path = RESULTS) -> Path:
        """Where the records of a tier are."""
        return results / self.name / f"{tier}.jsonl"

    def command(self, tier: str) -> str:
        """What makes the records of a tier."""
        return f"python -m experiments run {self.name} --tier {tier}"


@dataclass(frozen=True)
class Study(Exhibit):
    """A table or figure of the paper as a list of runs.

    Attributes:
        cells: all cells of a tier; a rerun comes after the run it starts from.
        data: the paper's data set; what is found on another tests none of its claims.
        metric: the figure of the task that runs are judged by.
        guess: what a run that diverged counts as: the metric of one who knows nothing.
    """

    tiers: dict[str, Tier]
    cells: Callable[[Tier], Iterable[Cell]]
    data: str = "mnist"
    metric: str = "test_error"
    guess: float = 90.0

    def preferred(self, done: Mapping[str, Collection[str]]) -> list[str]:
        """The tiers of `done`, the keys of what is recorded of each, the fullest first.

        While a tier is still being run, a shorter one of the same data says more: one of which no
        seed is whole comes after those if of one of them some seed is.
        """
        whole = [name for name, keys in done.items() if self._has_whole_seed(name, keys)]

        def gives_way(name: str) -> bool:
            return name not in whole and self.tier(name).data in {self.tier(w).data for w in whole}

        return sorted((name for name in reversed(self.tiers) if name in done), key=gives_way)

    def _has_whole_seed(self, tier: str, done: Collection[str]) -> bool:
        """Whether there is a seed of which every cell has run."""
        cells = self.select(tier)
        names = {cell.name for cell in cells}
        by_seed: dict[int, set[str]] = {}
        for cell in cells:
            if cell.run.key in done:
                by_seed.setdefault(cell.run.seed, set()).add(cell.name)
        return names in by_seed.values()

    def select(self, tier: str, only: str = "*", seeds: int | None = None) -> list[Cell]:
        """The cells whose name matches the pattern `only`, and those that they start from.

        Args:
            tier: the tier's name.
            only: a shell pattern for the name of a cell, such as "Adam*" or "*, rerun".
            seeds: no more than so many seeds.
        """
        cells = self.cells(self.tier(tier))
        cells = [cell for cell in cells if seeds is None or cell.run.seed < seeds]
        chosen = [cell for cell in cells if fnmatchcase(cell.name, only)]
        if not chosen:
            names = {cell.name for cell in cells}
            nearest = "\n  ".join(get_close_matches(only, names, n=10, cutoff=0))
            raise ExperimentError(
                f"{self.name}: no cell of {len(names)} matches {only!r}; the nearest are\n  "
                f"{nearest}"
            )
        keys = {key for cell in chosen for key in (cell.run.key, cell.run.parent)}
        return [cell for cell in cells if cell.run.key in keys]
