"""Beside the paper: what each part of the default is worth, by leaving it out."""

from collections.abc import Iterator

from experiments.rivals import PARTS
from experiments.studies.tuning import FAR, OWN, SEEDS, TASKS, TINY, Trials, name, optimizer
from experiments.study import Cell, Study

# By what it is without: its name in a cell, and its text.
VARIANTS = {"": OWN} | {part: f"{OWN}({part}=False)" for part in PARTS}

TIERS = {
    "smoke": Trials("digits", 2, "small networks on embedded data: half a minute", tasks=TINY),
    "small": Trials("mnist", 3, "3 seeds: an hour on 2 cores", tasks=TASKS),
    "paper": Trials("mnist", SEEDS, "5 seeds: two hours on 2 cores", tasks=TASKS),
}


def without(part: str) -> str:
    return f"without {part.replace('_', ' ')}"


def variant(part: str) -> str:
    """What the default without `part` is called; without nothing, if that is empty."""
    return f"{OWN} {without(part)}" if part else OWN


def cells(tier: Trials) -> Iterator[Cell]:
    for seed in range(tier.seeds):
        for training in tier.tasks:
            for part, text in VARIANTS.items():
                for guess in FAR:
                    run = training.run(optimizer(text, guess, training), seed)
                    yield Cell(name(training, variant(part), guess), run)


STUDY = Study(
    "ingredients",
    "Beside the paper: the default without each of its parts",
    TIERS,
    cells,
    metric="train_loss",
)
