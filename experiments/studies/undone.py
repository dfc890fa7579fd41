"""What a set-up of the paper leaves open, undone one by one: how much hangs on each choice?"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.run import Run
from experiments.study import Cell, Tier


@dataclass(frozen=True)
class Choice:
    """One choice, and the other one.

    Attributes:
        made: what is done, and on what grounds.
        otherwise: the other choice, in a few words.
        rows: those that are trained both ways, for it could matter to them.
        options: of the task, otherwise.
        epochs: otherwise; 0: the row's own.
        towers: the optimizers of rows, otherwise, where they have another one.
    """

    made: str
    otherwise: str
    rows: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    towers: Mapping[str, str] = field(default_factory=dict)

    def undone(self, row: str, run: Run) -> Run:
        """What `run`, that of `row`, is otherwise."""
        return replace(
            run,
            tower=self.towers.get(row, run.tower),
            epochs=self.epochs or run.epochs,
            options={**dict(run.options), **self.options},
        )


@dataclass(frozen=True)
class Choices:
    """Choices by a short name, and what they are made for.

    Attributes:
        of: the table or figure of the paper.
        all: the choices.
        run: of a tier, a row and a seed, as chosen.
    """

    of: str
    all: Mapping[str, Choice]
    run: Callable[[Tier, str, int], Run]

    def said(self, choice: str = "") -> str:
        """How a row is trained: as chosen, or with one choice undone."""
        return self.all[choice].otherwise if choice else f"as in {self.of}"

    def name(self, row: str, choice: str = "") -> str:
        """The name of a cell."""
        return f"{row}, {self.said(choice)}"

    def cells(self, tier: Tier) -> Iterator[Cell]:
        rows = dict.fromkeys(row for choice in self.all.values() for row in choice.rows)
        seeds = range(tier.seeds)
        runs = {(row, seed): self.run(tier, row, seed) for row in rows for seed in seeds}
        for (row, _), run in runs.items():
            yield Cell(self.name(row), run)
        for key, choice in self.all.items():
            for row in choice.rows:
                for seed in seeds:
                    yield Cell(self.name(row, key), choice.undone(row, runs[row, seed]))
