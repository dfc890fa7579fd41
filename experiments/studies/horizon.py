"""Beside the paper: is the learned step size greedy? The best one for one step and for a thousand.

A tower lowers the loss of the next step. What lowers it most may be too small for the steps after
that (the short-horizon bias of Wu et al. 2018). So after a warm-up the network is trained by SGD
for 1, 10, 100 and 1000 steps at constant step sizes; the best for each horizon is laid beside what
a tower learns there. The loss is that of the test set: no step has seen it, and it has no noise of
batches.
"""

from collections.abc import Iterator

from experiments.run import Run
from experiments.study import Cell, Study, Tier
from experiments.words import counted

HORIZONS = (1, 10, 100, 1000)
# Two to a decade, from too small to see anything in 1000 steps to too large for one.
STEP_SIZES = tuple(float(f"{10 ** (i / 2):.3g}") for i in range(-6, 5))
# Table 1's, from the warm-up's step size.
TOWER = "SGD(0.1) / SGD(0.01)"
# For the longest horizon, from elsewhere too: does it come to the same, or stay where it began?
OTHERS = {0.01: "SGD(0.01) / SGD(0.01)", 1.0: "SGD(1.0) / SGD(0.01)"}

TIERS = {
    "smoke": Tier(
        "digits", 2, "the same on scikit-learn's digits: half a minute", 1, {"warmup": 30}
    ),
    # One pass through MNIST, so that the noise of batches is felt.
    "paper": Tier("mnist", 5, "MNIST, 5 seeds: five minutes", 1, {"warmup": 235}),
}


def name(horizon: int, lr: float | None = None) -> str:
    """The name of a cell: a point on the line of a horizon; None is the tower's."""
    return f"{counted(horizon, 'step')}, " + ("learned" if lr is None else f"lr {lr:g}")


def elsewhere(start: float) -> str:
    """The name of the cell of a tower that starts from another step size."""
    return f"{name(HORIZONS[-1])} from {start:g}"


def cells(tier: Tier) -> Iterator[Cell]:
    for horizon in HORIZONS:
        options = {**tier.options, "epoch_steps": horizon}
        for lr in (*STEP_SIZES, None):
            text = TOWER if lr is None else f"SGD({lr!r})"
            for seed in range(tier.seeds):
                run = Run("mlp", tier.data, text, seed, tier.epochs, options=options)
                yield Cell(name(horizon, lr), run)
    for start, text in OTHERS.items():
        for seed in range(tier.seeds):
            run = Run("mlp", tier.data, text, seed, tier.epochs, options=options)
            yield Cell(elsewhere(start), run)


STUDY = Study(
    "horizon",
    "Beside the paper: the best step size of SGD on MNIST for a horizon, and the learned one",
    TIERS,
    cells,
    metric="test_loss",
    guess=2.303,  # ln 10
)
