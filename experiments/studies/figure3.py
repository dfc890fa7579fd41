"""Fig. 3: the character LSTM on War and Peace from three step sizes, learned by a tower or not.

The paper names neither the optimizer above Adam nor batch, sequence, embedding, clipping and split.
The notation, a step size for each hyperparameter, is that of SGD; the rest is torch-rnn's.
"""

from collections.abc import Iterator

from experiments.run import Run
from experiments.studies.presets import kappa_lstm
from experiments.study import Cell, Study, Tier

STEP_SIZES = (1e-4, 2e-3, 1e-2)
KINDS = ("learned", "constant")
# On a processor half the time of full precision; after 1,000 steps the losses and perplexities of
# the two agree to a fifth of a percent.
FAST = {"autocast": "bfloat16"}
TINY = {"batch": 8, "sequence": 16, "hidden": 16, "epoch_steps": 20}

TIERS = {
    "smoke": Tier("sonnets", 2, "a small LSTM on a few sonnets: a minute", 3, TINY),
    # Epochs of 500 steps.
    "small": Tier("tolstoy", 3, "15,000 steps, 3 seeds: about an hour on 2 cores", 30, FAST, True),
    # The paper's 50,000 steps; it doesn't say how many runs. Five, so that an interval means
    # something.
    "paper": Tier("tolstoy", 5, "50,000 steps, 5 seeds: for a GPU", 100),
}


def name(lr: float, kind: str) -> str:
    """The name of a cell: a line of the figure."""
    return f"lr {lr:g}, {kind}"


def tower(lr: float, kind: str) -> str:
    """The optimizer of a line."""
    return f"Adam({lr!r})" + (f" / {kappa_lstm(lr)}" if kind == "learned" else "")


def run(tier: Tier, lr: float, kind: str, seed: int) -> Run:
    return Run("char_rnn", tier.data, tower(lr, kind), seed, tier.epochs, options=tier.options)


def cells(tier: Tier) -> Iterator[Cell]:
    for lr in STEP_SIZES:
        for kind in KINDS:
            for seed in range(tier.seeds):
                yield Cell(name(lr, kind), run(tier, lr, kind, seed))


STUDY = Study(
    "figure3",
    "Figure 3: a character LSTM on War and Peace, Adam's hyperparameters learned or constant",
    TIERS,
    cells,
    data="tolstoy",
    metric="test_perplexity",
    guess=87.0,  # the perplexity of a guess among War and Peace's characters
)
