"""Beside the paper: optimizers that are to need no tuning, against each other and tuned ones.

Rivals are used as their authors recommend. Adam and SGD are tuned: their step size is the best of
a grid, which costs as many trainings as it has points. What one training buys is its first point.
"""

from collections.abc import Iterator

from experiments.studies.tuning import (
    OWN,
    PLAIN,
    RIVAL_NAMES,
    SEEDS,
    SGD,
    TASKS,
    TINY,
    USUAL,
    Trials,
    half_decades,
    name,
    optimizer,
)
from experiments.study import Cell, Study
from experiments.train import COSINE

SCHEDULED = "Adam, cosine"
# Tuned from the middle outwards: around Adam's default, and torch's examples' for SGD.
GRIDS = {
    PLAIN: half_decades(-5, -1),
    # A schedule whose peak is tuned too; it bears a larger one than a constant step size. (The last
    # two came when the best of the others was seen to be the largest, on two of the three tasks.)
    SCHEDULED: (1e-3, 3.16e-3, 1e-2, 3.16e-2, 1e-1),
    SGD: half_decades(-3, 1),
}

TIERS = {
    "smoke": Trials(
        "digits", 2, "small networks on embedded data: half a minute", tasks=TINY, few=3
    ),
    "small": Trials("mnist", 3, "3 seeds: an hour and a half on 2 cores", tasks=TASKS),
    "paper": Trials("mnist", SEEDS, "5 seeds: two hours and a half on 2 cores", tasks=TASKS),
}


def untuned(tier: Trials) -> Iterator[Cell]:
    """The default and the rivals, as recommended."""
    for seed in range(tier.seeds):
        for training in tier.tasks:
            for contender in (OWN, *RIVAL_NAMES):
                run = training.run(optimizer(contender, USUAL, training), seed)
                yield Cell(name(training, contender), run)


def tuned(tier: Trials, contender: str) -> Iterator[Cell]:
    """The grid of a contender."""
    plain, schedule = (PLAIN, COSINE) if contender == SCHEDULED else (contender, "")
    for seed in range(tier.seeds):
        for training in tier.tasks:
            for step_size in grid(tier, contender):
                run = training.run(optimizer(plain, step_size, training), seed, schedule)
                yield Cell(name(training, contender, step_size), run)


def grid(tier: Trials, contender: str) -> tuple[float, ...]:
    """The step sizes that a contender is tried with, in order."""
    return GRIDS[contender][: tier.few]


def cells(tier: Trials) -> Iterator[Cell]:
    yield from untuned(tier)
    for contender in GRIDS:
        yield from tuned(tier, contender)


STUDY = Study(
    "peers",
    "Beside the paper: optimizers that are to need no tuning, and tuned ones",
    TIERS,
    cells,
    metric="train_loss",
)
