"""The hyperparameters of every level, and the levels that learn them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from gdtuo.cell import Cell, Store
from gdtuo.core import Inputs, Level, pull_back, structure, update
from gdtuo.errors import GdtuoError

FORMAT = 1  # of a tower's state; a change that older states can't be read with adds 1


@dataclasses.dataclass
class Learner:
    """One copy of a tower above the parameters, level 0's hyperparameters included.

    All that changes is in ``store``, a plain dictionary of tensors and numbers (a parameter group
    of the optimizer, so that it is saved with it): ``level{i}.learned`` and ``level{i}.constant``,
    the coordinates of level i's hyperparameters, and from level 1 up what a `Cell` keeps.
    """

    levels: tuple[Level, ...]
    store: Store

    def initialize(self, dtype: torch.dtype, device: torch.device) -> None:
        self.store["format"] = FORMAT
        # Numbers and tensors alone can be saved everywhere, so the text is one.
        text = structure(self.levels).encode()
        self.store["tower"] = torch.tensor(list(text), dtype=torch.uint8)
        for i, level in enumerate(self.levels):
            self.store[f"level{i}.learned"] = level.initial(level.learned, dtype, device)
            self.store[f"level{i}.constant"] = level.initial(level.constant, dtype, device)
        for cell in self._cells():
            cell.initialize(dtype)

    def coordinates(self, i: int) -> tuple[Tensor, Tensor]:
        """Level i's: of its learned hyperparameters, and of its constants."""
        return self.store[f"level{i}.learned"], self.store[f"level{i}.constant"]

    def _cells(self) -> list[Cell]:
        """Of level 1 and above, as far up as anything is learned."""
        learning = itertools.takewhile(
            lambda pair: pair[0].learned, itertools.pairwise(self.levels)
        )
        return [
            Cell(level, [self.coordinates(i)[0]], [self.store], f"level{i + 1}.")
            for i, (_, level) in enumerate(learning)
        ]

    def step(self, v: Tensor) -> None:
        """Step the hyperparameters of all levels, given ``v``, the hypergradient of level 0's."""
        cells, inputs = self._cells(), list[Inputs]()
        for i, cell in enumerate(cells, 1):  # up: the hypergradient of each level
            learned, constant = self.coordinates(i)
            v_above, state = torch.zeros_like(learned), cell.state()
            if cell.is_kept:
                v_above, state = pull_back(cell.level, learned, constant, cell.previous(), v)
            inputs.append(cell.next(v, state))
            v = v_above
        for i in range(len(cells), 0, -1):  # down: each with the hyperparameters just learned
            step, state_after = update(self.levels[i], *self.coordinates(i), inputs[i - 1])
            cells[i - 1].save(inputs[i - 1], state_after)
            self.store[f"level{i - 1}.learned"] = self.store[f"level{i - 1}.learned"] - step

    def values(self) -> Iterator[dict[str, Any]]:
        """The values of each level in their own units, as floats."""
        for i, level in enumerate(self.levels):
            h = vars(level.values(*self.coordinates(i)))
            yield {name: _readable(level, name, h[name]) for name in level.rule.hyperparameters}

    def check_state(self, saved: Store) -> None:
        """Raise `GdtuoError` unless ``saved`` is the state of a tower of this structure."""
        if "tower" not in saved:
            raise GdtuoError("This is not the state of a gdtuo.Tower. Load it where it was saved.")
        if saved["format"] > FORMAT:
            raise GdtuoError(
                f"The state has format {saved['format']}; this version of gdtuo reads up to "
                f"{FORMAT}. Upgrade gdtuo."
            )
        theirs, ours = (bytes(each["tower"].tolist()).decode() for each in (saved, self.store))
        if theirs != ours:
            raise GdtuoError(
                f"The state is that of another tower.\n  saved: {theirs}\n  here:  {ours}\n"
                "Build the tower from the rule it was saved with; initial values may differ."
            )


def _readable(level: Level, name: str, value: Tensor) -> Any:
    if name == "lr" and level.lr_for is not None:
        return dict(zip(level.lr_for, value.reshape(-1).tolist(), strict=True))
    return value.item()
