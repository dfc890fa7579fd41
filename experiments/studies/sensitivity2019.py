"""The 2019 version's Fig. 3: test accuracy on MNIST by first step size, towers of SGD to height 5.

That version has a single run. The order of the images is fixed, so seeds differ in weights alone.
"""

from collections.abc import Iterator

from experiments.studies import mnist2019
from experiments.study import Cell, Study, Tier

# 20 values from 1e-7 to 1e3, evenly spaced in the logarithm.
STEP_SIZES = tuple(float(f"{10 ** (-7 + 10 * i / 19):.6g}") for i in range(20))
# The figure has 0 to 3; the text says that from 5 or 6 levels on nothing changes.
HEIGHTS = (0, 1, 2, 3, 4, 5)

TIERS = {
    # The fewest seeds with an interval.
    "smoke": Tier("digits", 2, "the same towers on scikit-learn's digits: a minute"),
    "paper": Tier("mnist", 5, "MNIST, 5 seeds: about ten minutes"),
}


def name(height: int, lr: float) -> str:
    """The name of a cell: a point of the figure."""
    return f"height {height}, lr {lr:.3g}"


def cells(tier: Tier) -> Iterator[Cell]:
    for height in HEIGHTS:
        for lr in STEP_SIZES:
            for seed in range(tier.seeds):
                yield Cell(name(height, lr), mnist2019.run(tier.data, lr, height, seed))


STUDY = Study(
    "sensitivity2019",
    "Figure 3 of 2019: test accuracy on MNIST by first step size, towers of SGD to height 5",
    TIERS,
    cells,
)
