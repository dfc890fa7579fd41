"""Beside the paper: the default on tasks that nothing of it was chosen on, and on others.

The others, which it was tried on while it was designed, are trained after them, and told apart.
"""

from collections.abc import Iterator

from experiments.studies.tuning import (
    FAR,
    HELD_OUT,
    OWN,
    PLAIN,
    RIVAL_NAMES,
    SEEDS,
    SEEN,
    TINY_HELD_OUT,
    TINY_SEEN,
    USUAL,
    Trials,
    half_decades,
    name,
    optimizer,
)
from experiments.study import Cell, Study

# Adam's constant step sizes; the best is what the default is to come up to.
GRID = tuple(sorted(half_decades(-5, -1)))

ALL = {"tasks": HELD_OUT, "seen": SEEN}
TINY = {"tasks": TINY_HELD_OUT, "seen": TINY_SEEN}
TIERS = {
    "smoke": Trials("digits", 2, "small networks on embedded data: half a minute", **TINY),
    "small": Trials("mnist", 3, "3 seeds: two hours on 2 cores", **ALL),
    "paper": Trials("mnist", SEEDS, "5 seeds: three hours on 2 cores", **ALL),
}


def cells(tier: Trials) -> Iterator[Cell]:
    starts = {OWN: FAR, PLAIN: GRID} | dict.fromkeys(RIVAL_NAMES, (USUAL,))
    for trainings in (tier.tasks, tier.seen):
        for seed in range(tier.seeds):
            for training in trainings:
                for contender, guesses in starts.items():
                    for guess in guesses:
                        run = training.run(optimizer(contender, guess, training), seed)
                        yield Cell(name(training, contender, guess), run)


STUDY = Study(
    "heldout",
    "Beside the paper: the default on held-out tasks, and on those that it was tried on",
    TIERS,
    cells,
    metric="train_loss",
)
