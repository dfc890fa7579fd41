"""Fig. 2b: ResNet-20 with a learned step size against He et al.'s schedule, 500 epochs."""

from collections.abc import Iterator

from experiments.run import Run
from experiments.studies.figure2a import FAST, FASTER, TINY, optimizer
from experiments.study import Cell, Study, Tier

START = (0.1, 0.9)  # He et al.'s step size and momentum
# The paper's figure divides the step size by ten after 100 and 150 of its 500 epochs.
EPOCHS, SCHEDULE = 500, (100, 150)
LINES = ("learned", "schedule", "constant")

TIERS = {
    "smoke": Tier("digits", 2, "a narrow network on scikit-learn's digits: a minute", 10, TINY),
    "small": Tier(
        "cifar10", 1, "CIFAR-10, 30 epochs, 1 seed: about an hour on 2 cores", 30, FAST, True
    ),
    "paper": Tier("cifar10", 3, "CIFAR-10, 500 epochs, 3 seeds: for a GPU", EPOCHS, FASTER),
}


def cells(tier: Tier) -> Iterator[Cell]:
    drops = tuple(epoch * tier.epochs // EPOCHS for epoch in SCHEDULE)
    for line in LINES:
        text = optimizer(*START, "learned" if line == "learned" else "constant")
        for seed in range(tier.seeds):
            yield Cell(
                line,
                Run(
                    "resnet20",
                    tier.data,
                    text,
                    seed,
                    tier.epochs,
                    options=tier.options,
                    schedule=drops if line == "schedule" else (),
                ),
            )


STUDY = Study(
    "figure2b",
    "Figure 2b: ResNet-20 on CIFAR-10, a learned step size against the step schedule",
    TIERS,
    cells,
    data="cifar10",
)
