"""What Figs. 4a to 4e have in common: towers of growing height by the bottom's first step size."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from experiments.run import Run
from experiments.study import Cell, Study, Tier


@dataclass(frozen=True)
class TowerSweep(Study):
    """One of these figures.

    Attributes:
        step_sizes: the bottom level's first step sizes, all as far apart.
        small: those of them that are far too small for the plain optimizer.
        heights: levels above the bottom; 0 is the plain optimizer.
        helping: the levels that the paper shows to help from there.
        unit: of the metric, as it follows a number.
        label: the metric in words.
        fails: a mean above this is no success.
        good: a first step size that ends below this will do, whatever the best of its height;
            None: it isn't asked.
    """

    step_sizes: tuple[float, ...] = ()
    small: tuple[float, ...] = ()
    heights: tuple[int, ...] = (0, 1, 2, 3)
    helping: tuple[int, ...] = (1, 2, 3)
    unit: str = " %"
    label: str = "test error"
    fails: float = 20.0
    good: float | None = None

    @property
    def spacing(self) -> int:
        """How many decades one step size is from the next."""
        return spacing(*self.step_sizes[:2])


def spacing(low: float, high: float) -> int:
    """The decades between two step sizes."""
    return round(math.log10(high / low))


def name(height: int, lr: float) -> str:
    """The name of a cell: a point of the figure."""
    return f"height {height}, lr {lr:g}"


def decades(low: int, high: int) -> tuple[float, ...]:
    """1e`low` to 1e`high`."""
    return tuple(float(f"1e{exponent}") for exponent in range(low, high + 1))


def tower(bottom: str, step_sizes: Sequence[float], above: str = "SGD({lr})") -> str:
    """The text of a tower of `above` on `bottom` (as those of `sweep`), from their step sizes.

    >>> tower("Adam{learn}({lr})", [0.001, 1e-06])
    'Adam^lr(0.001) / SGD(1e-06)'
    """
    *learned, top = zip([bottom, *[above] * (len(step_sizes) - 1)], step_sizes, strict=True)
    texts = [rule.format(lr=repr(lr), learn="^lr") for rule, lr in learned]
    return " / ".join([*texts, top[0].format(lr=repr(top[1]), learn="")])


def sweep(
    figure: str,
    title: str,
    *,
    task: str,
    bottom: str,
    above: str = "SGD({lr})",
    levels: Callable[[float, int], list[float]],
    step_sizes: tuple[float, ...],
    tiers: dict[str, Tier],
    heights: tuple[int, ...] = (0, 1, 2, 3),
    repeated: Mapping[float, int] | None = None,
    **about: object,
) -> TowerSweep:
    """The sweep in which `levels(lr, height)` are the first step sizes of a tower's levels.

    Args:
        figure, title, task, step_sizes, tiers, heights: as in `TowerSweep` and `Run`.
        bottom: the optimizer of level 0, with {lr} where the step size goes, and {learn} where, in
            a tower, what is learned of it.
        above: the same of all levels above it.
        levels: such as those in `experiments.studies.presets`.
        repeated: in a tier of one seed, more seeds for some step sizes.
        about: other attributes of `TowerSweep` and `Study`.
    """

    def cells(tier: Tier) -> Iterator[Cell]:
        for height in heights:
            for lr in step_sizes:
                text = tower(bottom, levels(lr, height), above)
                seeds = (repeated or {}).get(lr, 1) if tier.seeds == 1 else tier.seeds
                for seed in range(seeds):
                    run = Run(task, tier.data, text, seed, tier.epochs, options=tier.options)
                    yield Cell(name(height, lr), run)

    return TowerSweep(figure, title, tiers, cells, step_sizes=step_sizes, heights=heights, **about)
