"""Towers of SGD to height 50, as the 2019 version timed them: what do that many levels learn?

Its Fig. 4 shows the time of a step alone (that is in `figure4f`), and its text that three or four
levels are enough. Here are the errors that the same heights end with.
"""

from collections.abc import Iterator

from experiments.studies import mnist2019
from experiments.studies.tower_sweeps import name as name
from experiments.study import Cell, Study, Tier

HEIGHTS = (0, 1, 2, 3, 5, 10, 20, 35, 50)
# Where its towers of height 1 to 4 begin to work, one decade either way, and where all work.
STEP_SIZES = (1e-5, 1e-4, 1e-3, 1e-1)

TIERS = {
    "smoke": Tier("digits", 2, "the same towers on scikit-learn's digits: half a minute"),
    "paper": Tier("mnist", 5, "MNIST, 5 seeds: some minutes"),
}


def cells(tier: Tier) -> Iterator[Cell]:
    for lr in STEP_SIZES:
        for height in HEIGHTS:
            for seed in range(tier.seeds):
                yield Cell(name(height, lr), mnist2019.run(tier.data, lr, height, seed))


STUDY = Study(
    "heights2019",
    "Towers of SGD to height 50 (2019): test error on MNIST by height",
    TIERS,
    cells,
)
