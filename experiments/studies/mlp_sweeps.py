"""What Figs. 4a and 4b have in common: the MNIST network."""

from collections.abc import Callable

from experiments.studies.tower_sweeps import TowerSweep, decades, sweep
from experiments.study import Tier

# The paper says neither the length nor the optimizer. Its plain line is that of SGD after the 30
# epochs of Table 1: 9.1 % at 0.01, where Table 1 has 8.99 %; Adam would be there at 1e-3 or less.
# SGD is what learns, too: with Adam or RMSProp above it the first line would be far lower at 1e-8.
EPOCHS = 30

TIERS = {
    # The fewest seeds whose spread says anything.
    "smoke": Tier("digits", 3, "the same towers on scikit-learn's digits: a minute", EPOCHS),
    # Enough for the shape of the lines.
    "small": Tier("mnist", 2, "MNIST at full length, 2 seeds: about half an hour", EPOCHS),
    # The paper doesn't say how many; with five an interval means something.
    "paper": Tier("mnist", 5, "MNIST at full length, 5 seeds: about an hour", EPOCHS),
}


def mlp_sweep(figure: str, title: str, levels: Callable[[float, int], list[float]]) -> TowerSweep:
    """The sweep in which `levels(lr, height)` are the first step sizes of a tower's levels."""
    return sweep(
        figure,
        title,
        task="mlp",
        bottom="SGD({lr})",
        levels=levels,
        step_sizes=decades(-8, 2),
        small=decades(-8, -4),
        good=10.0,  # SGD's in Table 1, in round numbers
        tiers=TIERS,
    )
