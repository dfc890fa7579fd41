"""The hyperparameters of every level, and the levels that learn them."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gdtuo.cell import Cell, Store
from gdtuo.core import Inputs, Level, update
from gdtuo.errors import GdtuoError
from gdtuo.layout import coordinates, encoded, structure
from gdtuo.rule import State
from gdtuo.safeguards import Safeguards

# For each part of a group that has hyperparameters of its own: its columns, and its shape if these
# are more than one.
Parts = dict[Any, tuple[int | slice, torch.Size | None]]

# Of a tower's state; a change that older states can't be read with adds 1, and `gdtuo.loading` has
# what makes a new one of an old one. 2: where `Level.lags` is False, no gradient is kept.
FORMAT = 2

BEGUN = "level0.begun"  #: in a store: 1 once all have moved, where the first step is to be in range
MOVED = "level0.moved"  #: which copies had, until then

#: In a store: the steps that a guard has skipped, by their causes, in all and in a row until now;
#: and how many steps there were.
COUNTS = ("guard.causes", "guard.skipped", "guard.in_a_row", "guard.tries")


@dataclasses.dataclass
class HyperStep:
    """What a step makes of the learned hyperparameters of one level; nothing is written yet."""

    cell: Cell  #: of the level above
    inputs: Inputs  #: of its update
    hypergradient: Tensor
    learned: Tensor  #: the new coordinates
    state: State  #: of the level above, after its update


@dataclasses.dataclass
class Learner:
    """One copy of a tower above the parameters, level 0's hyperparameters included.

    All that changes is in ``store``, a plain dictionary of tensors and numbers (a parameter group
    of the optimizer, so that it is saved with it): ``level{i}.learned`` and ``level{i}.constant``,
    the coordinates of level i's hyperparameters, ``level{i}.hypergradient`` of the learned ones,
    ``level{i}.frozen``, a bit for each learned name and above these one more, whether that has
    changed since the level's last step, and from level 1 up what a `Cell` keeps.
    Where level 0 has several copies of its hyperparameters, so have all that are learned: each
    vector has a column for each copy.
    """

    levels: tuple[Level, ...]
    store: Store
    safeguards: Safeguards  # without a default: compilers before torch 2.13 can't take one

    def initialize(self, dtype: torch.dtype, device: torch.device, copies: int | None) -> None:
        """Start; ``copies`` of everything that is learned, or None for a single one."""
        self.store["format"] = FORMAT
        self.store["steps"] = 0
        self.store["tower"] = encoded(structure(self.levels))
        self.store["coordinates"] = encoded(coordinates(self.levels))
        for i, level in enumerate(self.levels):
            learned = level.initial(level.learned, dtype, device)
            constant = level.initial(level.constant, dtype, device)
            if copies is not None:
                learned = learned[:, None].repeat(1, copies)
                constant = constant[:, None] if i > 0 else constant
            self.store[f"level{i}.learned"] = learned
            self.store[f"level{i}.constant"] = constant
            self.store[f"level{i}.hypergradient"] = torch.zeros_like(learned)
            self.store[f"level{i}.frozen"] = 0
        self.add_start()
        for i in itertools.takewhile(lambda i: self.levels[i].learned, range(len(self.levels))):
            self._cell_above(i).initialize(dtype)

    def is_new(self) -> bool:
        """Whether all values are those of the rule, to the precision they are kept in."""
        anew, (learned, constant) = Learner(self.levels, {}, self.safeguards), self.coordinates(0)
        anew.initialize(learned.dtype, constant.device, None)
        pairs = zip(self._all_coordinates(), anew._all_coordinates(), strict=True)
        return self.store["steps"] == 0 and all(torch.equal(x, y) for x, y in pairs)

    def _all_coordinates(self) -> list[Tensor]:
        return [x for i in range(len(self.levels)) for x in self.coordinates(i)]

    def add_start(self) -> None:
        """What `gdtuo.strides` keeps, where it isn't there yet."""
        if self.safeguards.start is not None:
            learned = self.coordinates(0)[0]
            self.store.setdefault(BEGUN, int(self.store["steps"] > 0))
            self.store.setdefault(MOVED, learned.new_zeros(learned.shape[1:]).bool())

    def start_counts(self) -> None:
        """Of the steps that a guard skips: all, those in a row until now, and by their causes, the
        loss gradient and each learned entry."""
        entries = 1 + sum(len(level.entries()) for level in self.levels)
        causes, skipped, in_a_row, tries = COUNTS
        for key, shape in ((causes, (entries,)), (skipped, ()), (in_a_row, ())):
            self.store[key] = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self.store[tries] = 0

    def share(self) -> None:
        """Keep no more than what is not another's: the structure, and level 0's constants."""
        for key in [key for key in self.store if key.startswith(("level", "guard."))]:
            if key != "level0.constant":
                del self.store[key]

    @property
    def device(self) -> torch.device:
        return self.coordinates(0)[0].device

    def coordinates(self, i: int) -> tuple[Tensor, Tensor]:
        """Level i's: of its learned hyperparameters, and of its constants."""
        return self.store[f"level{i}.learned"], self.store[f"level{i}.constant"]

    def cells(self) -> list[Cell]:
        """Of level 1 and above, as far up as anything is learned and not frozen."""
        cells: list[Cell] = []
        while len(cells) < len(self.levels) - 1 and self.is_learning(len(cells)):
            cells.append(self._cell_above(len(cells)))
        return cells

    def _cell_above(self, i: int) -> Cell:
        """What steps level i's learned coordinates."""
        learned, guard = self.coordinates(i)[0], self.safeguards.guard
        return Cell(self.levels[i + 1], [learned], [self.store], f"level{i + 1}.", guard=guard)

    def is_learning(self, i: int) -> bool:
        """Whether any of level i's hyperparameters is learned at present."""
        return self.store["steps"] >= self.safeguards.delay and self.is_free(i)

    def is_free(self, i: int) -> bool:
        """Whether any of level i's hyperparameters is learned and not frozen."""
        everything = (1 << len(self.levels[i].learned)) - 1
        return bool(self.store[f"level{i}.frozen"] & everything != everything)

    def learned_at(self, i: int) -> tuple[str, ...]:
        """The hyperparameters of level i that are learned; none where there is no such level."""
        return self.levels[i].learned if isinstance(i, int) and 0 <= i < len(self.levels) else ()

    def check_learned(self, i: int, names: Iterable[str]) -> None:
        """Raise `GdtuoError` unless level i is there and all of ``names`` are learned at it."""
        learned = self.learned_at(i)
        unknown = {x if isinstance(x, str) else repr(x) for x in names} - set(learned)
        if unknown or not learned:
            raise GdtuoError(
                f"Level {i} of {self.levels[0].rule} learns {', '.join(learned) or 'nothing'}, not "
                f"{', '.join(sorted(unknown)) or 'anything that could be frozen'}. Name "
                "hyperparameters that are learned, and a level beneath the top."
            )

    def freeze(self, i: int, names: Iterable[str], frozen: bool) -> None:
        """Stop or go on learning ``names`` of level i, or all that are learned there."""
        learned = self.levels[i].learned
        for name in names or learned:
            bit = 1 << learned.index(name)
            if bool(self.store[f"level{i}.frozen"] & bit) != frozen:
                self.store[f"level{i}.frozen"] ^= bit | bit << len(learned)

    def _free(self, i: int, last: bool = False) -> Tensor | None:
        """Which learned entries of level i are not frozen, or were not in the level's ``last``
        step: a flag for each row. None: all of them."""
        level, bits = self.levels[i], self.store[f"level{i}.frozen"]
        if last:
            bits ^= bits >> len(level.learned)
        if bits == 0:
            return None
        flags = [
            not bits >> j & 1
            for j, name in enumerate(level.learned)
            for _ in range(level.size(name))
        ]
        learned = self.coordinates(i)[0]
        return torch.tensor(flags, device=learned.device).view(-1, *[1] * (learned.dim() - 1))

    def _without_frozen(self, i: int, v: Tensor, last: bool = False) -> Tensor:
        """``v``, a row for each learned entry of level i, with 0 in the rows that are not free."""
        free = self._free(i, last)
        return v if free is None else torch.where(free, v, 0.0)

    def propose(self, v: Tensor) -> list[HyperStep]:
        """The step of all levels, level 0's first, given ``v``, the hypergradient of level 0's."""
        steps: list[HyperStep] = []
        for i, cell in enumerate(self.cells(), 1):  # up: the hypergradient of each level
            learned, constant = self.coordinates(i)
            along = self._without_frozen(i - 1, v, last=True)  # what moved in the update kept
            v_above, state = cell.catch_up(learned, constant, along)
            v = self._without_frozen(i - 1, v)
            inputs = cell.next(self.safeguards.tamed(v), state)
            steps.append(HyperStep(cell, inputs, v, self.coordinates(i - 1)[0], state))
            v = torch.zeros_like(learned) if v_above is None else v_above
        for i in range(len(steps), 0, -1):  # down: each with the hyperparameters just learned
            learned, constant = self.coordinates(i)
            above = steps[i].learned if i < len(steps) else learned
            made = steps[i - 1]
            step, made.state = update(self.levels[i], above, constant, made.inputs)
            moved = self.levels[i - 1].bounded(made.learned - step)
            free = self._free(i - 1)
            made.learned = moved if free is None else torch.where(free, moved, made.learned)
        return steps

    def commit(self, steps: list[HyperStep], ok: Tensor | None = None) -> None:
        """Write what was proposed; with ``ok``, a flag on the device, only where that is true."""
        for i, made in enumerate(steps):
            made.cell.save(made.inputs, made.state, ok)
            made.cell.count(ok)
            new = {f"level{i}.learned": made.learned, f"level{i}.hypergradient": made.hypergradient}
            for key, value in new.items():
                self.write(key, value, ok)
            self.store[f"level{i}.frozen"] &= (1 << len(self.levels[i].learned)) - 1
        self.rest(len(steps), ok)
        self.store["steps"] += 1

    def rest(self, start: int, ok: Tensor | None) -> None:
        """Nothing was pulled back to the levels from ``start`` up."""
        for i in range(start, len(self.levels) - 1):
            key = f"level{i}.hypergradient"
            self.write(key, torch.zeros_like(self.store[key]), ok)

    def write(self, key: str, value: Tensor, ok: Tensor | None) -> None:
        """Keep ``value``; with ``ok``, a flag on the device, only where that is true."""
        self.store[key] = value if ok is None else torch.where(ok, value, self.store[key])

    def values(self, parts: Parts | None) -> list[dict[str, Any]]:
        """The values of each level in their own units; by part where there are copies."""
        vectors = (level.values(*self.coordinates(i)) for i, level in enumerate(self.levels))
        return [
            {
                name: _readable(level, name, getattr(h, name), parts)
                for name in level.rule.hyperparameters
                if hasattr(h, name)  # an optional one that is left out is not there
            }
            for level, h in zip(self.levels, vectors, strict=True)
        ]

    def hypergradients(self, parts: Parts | None) -> list[dict[str, Any]]:
        """The last hypergradients of each level that is learned, with respect to coordinates."""
        result = []
        for i, level in enumerate(self.levels):
            h = level.split(level.learned, self.store[f"level{i}.hypergradient"])
            result.append({name: _readable(level, name, row, parts) for name, row in h.items()})
        return result[:-1]


def _readable(level: Level, name: str, value: Tensor, parts: Parts | None) -> Any:
    if level.lr_for is None:
        return _plain(value, parts if name in level.learned else None)
    rows = [_plain(row, parts if name in level.learned else None) for row in value]
    return dict(zip(level.lr_for, rows, strict=True)) if name == "lr" else rows[0]


def _plain(value: Tensor, parts: Parts | None) -> Any:
    """A float; with ``parts``, for each of these a float or a tensor of its shape."""
    if parts is None:
        return value.item()
    return {
        label: value[at].item() if shape is None else value[at].view(shape).clone()
        for label, (at, shape) in parts.items()
    }
