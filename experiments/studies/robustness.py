"""Beside the paper: how an optimizer ends from initial step sizes of twelve decades.

The default is to end where Adam ends at its best constant step size, from any of them.
"""

from collections.abc import Iterator

from experiments.studies.tower_sweeps import decades
from experiments.studies.tuning import (
    OWN,
    PLAIN,
    RIVAL_NAMES,
    SEEDS,
    SGD,
    TASKS,
    TINY,
    TOWERS,
    Training,
    Trials,
    half_decades,
    name,
    optimizer,
)
from experiments.study import Cell, Study

GUESSES = decades(-8, 4)
# Where Adam's best constant step size may lie: it is looked for at each half decade, always, as
# `peers` does.
SOUGHT = half_decades(-5, -1)
FIRST = (OWN, PLAIN)
# In the order in which they are trained, so that what is left off last is what is asked last.
GROUPS = (FIRST, tuple(TOWERS), (*RIVAL_NAMES, SGD))

TIERS = {
    "smoke": Trials(
        "digits", 2, "small networks on embedded data, every sixth decade: half a minute",
        tasks=TINY, apart=6,
    ),
    # Reckoned from the mean seconds of the runs on record, where there is AVX-512.
    "small": Trials("mnist", 3, "every decade, 3 seeds: nine hours on 2 cores", tasks=TASKS),
    "paper": Trials("mnist", SEEDS, "the same, 5 seeds: fourteen hours on 2 cores", tasks=TASKS),
}  # fmt: skip


def contenders(training: Training) -> tuple[str, ...]:
    """Those on a task, the default and Adam first; SGD where runs are cheap."""
    all_of_them = tuple(contender for group in GROUPS for contender in group)
    return all_of_them if training.task == "mlp" else all_of_them[:-1]


def guesses(tier: Trials) -> tuple[float, ...]:
    """The initial step sizes that every contender starts from."""
    return GUESSES[:: tier.apart]


def cells(tier: Trials) -> Iterator[Cell]:
    for group in GROUPS:
        for seed in range(tier.seeds):
            for training in tier.tasks:
                for contender in (c for c in group if c in contenders(training)):
                    points = guesses(tier)
                    if contender == PLAIN:
                        points = tuple(sorted({*points, *SOUGHT}))
                    for guess in points:
                        text = optimizer(contender, guess, training)
                        yield Cell(name(training, contender, guess), training.run(text, seed))


STUDY = Study(
    "robustness",
    "Beside the paper: training loss by initial step size, from 1e-8 to 1e4",
    TIERS,
    cells,
    metric="train_loss",
)
