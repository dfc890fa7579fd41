"""Beside the paper: the default on tasks that nothing of it was chosen on."""

from collections.abc import Iterator

from experiments.studies.tower_sweeps import decades
from experiments.studies.tuning import (
    FAR,
    HELD_OUT,
    OWN,
    PLAIN,
    RIVAL_NAMES,
    SEEDS,
    TINY_HELD_OUT,
    USUAL,
    Trials,
    name,
    optimizer,
)
from experiments.study import Cell, Study

# Adam's constant step sizes; the best is what the default is to come up to.
GRID = decades(-5, -1)

TIERS = {
    "smoke": Trials(
        "digits", 2, "small networks on embedded data: half a minute", tasks=TINY_HELD_OUT
    ),
    "small": Trials("fashion", 3, "3 seeds: 40 minutes on 2 cores", tasks=HELD_OUT),
    "paper": Trials("fashion", SEEDS, "5 seeds: an hour on 2 cores", tasks=HELD_OUT),
}


def cells(tier: Trials) -> Iterator[Cell]:
    starts = {OWN: FAR, PLAIN: GRID} | dict.fromkeys(RIVAL_NAMES, (USUAL,))
    for seed in range(tier.seeds):
        for training in tier.tasks:
            for contender, guesses in starts.items():
                for guess in guesses:
                    run = training.run(optimizer(contender, guess, training), seed)
                    yield Cell(name(training, contender, guess), run)


STUDY = Study(
    "heldout",
    "Beside the paper: the default on tasks that nothing of it was chosen on",
    TIERS,
    cells,
    data="fashion",
    metric="train_loss",
)
