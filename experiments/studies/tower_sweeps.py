"""What Figs. 4a and 4b have in common: towers of SGD on the MNIST network, by first step size."""

from collections.abc import Callable, Iterator

from experiments.run import Run
from experiments.study import Cell, Study, Tier

# The bottom level's first step size: the paper's, a decade apart.
STEP_SIZES = tuple(float(f"1e{exponent}") for exponent in range(-8, 3))
# Levels above the bottom; 0 is the plain optimizer.
HEIGHTS = (0, 1, 2, 3)
# The paper says neither the length nor the optimizer. Its plain line is that of SGD after the 30
# epochs of Table 1: 9.1 % at 0.01, where Table 1 has 8.99 %; Adam would be there at 1e-3 or less.
EPOCHS = 30

TIERS = {
    # The fewest seeds whose spread says anything.
    "smoke": Tier("digits", 3, "the same towers on scikit-learn's digits: a minute"),
    # Enough for the shape of the lines.
    "small": Tier("mnist", 2, "MNIST at full length, 2 seeds: about half an hour"),
    # The paper doesn't say how many; with five an interval means something.
    "paper": Tier("mnist", 5, "MNIST at full length, 5 seeds: about an hour"),
}


def name(height: int, lr: float) -> str:
    """The name of a cell: a point of the figure."""
    return f"height {height}, lr {lr:g}"


def study(figure: str, title: str, levels: Callable[[float, int], list[float]]) -> Study:
    """The sweep in which `levels(lr, height)` are the first step sizes of a tower's levels."""

    def cells(tier: Tier) -> Iterator[Cell]:
        for height in HEIGHTS:
            for lr in STEP_SIZES:
                tower = " / ".join(f"SGD({value!r})" for value in levels(lr, height))
                for seed in range(tier.seeds):
                    yield Cell(name(height, lr), Run("mlp", tier.data, tower, seed, EPOCHS))

    return Study(figure, title, TIERS, cells)
