"""How much hangs on what Figure 3's text leaves open: batch, state, the optimizer above Adam.

Its perplexities are half as high again as those of the set-up that it names, torch-rnn's, or more.
"""

from experiments.run import Run
from experiments.studies import figure3
from experiments.studies.figure3 import FAST, KINDS, TINY
from experiments.studies.undone import Choice, Choices
from experiments.study import Study, Tier

LOW, EXPERT = 1e-4, 2e-3
ROWS = {figure3.name(lr, kind): (lr, kind) for lr in (LOW, EXPERT) for kind in KINDS}
EXPERTS = tuple(figure3.name(EXPERT, kind) for kind in KINDS)
ABOVE = figure3.name(EXPERT, "learned")

# The test text goes through as many streams as where a batch has 50: what is measured is the same.
ONE = {"batch": 1, "tested": 50}
UNDONE = {
    "batch": Choice(
        "A step sees 50 sequences, torch-rnn's batch",
        "one sequence",
        tuple(ROWS),
        options=ONE,
    ),
    "state": Choice(
        "The state is carried from one sequence of 50 characters to the next, in the test too, as "
        "in torch-rnn",
        "from a state of zero",
        EXPERTS,
        options={"carried": False},
    ),
    # As short programs that train a character RNN often do.
    "both": Choice(
        "A step sees 50 sequences, and the state is carried",
        "one sequence, from a state of zero",
        tuple(ROWS),
        options={**ONE, "carried": False},
    ),
    "above": Choice(
        "SGD is the optimizer above Adam, for the kappas are one for each hyperparameter",
        "Adam with the same step sizes",
        (ABOVE,),
        towers={ABOVE: figure3.tower(EXPERT, "learned").replace("/ SGD", "/ Adam")},
    ),
}

TIERS = {
    "smoke": Tier("sonnets", 2, "a small LSTM on a few sonnets: half a minute", 3, TINY),
    # Those as in Figure 3 are that study's own.
    "small": Tier(
        "tolstoy", 3, "15,000 steps, 3 seeds: an hour and a half on 2 cores", 30, FAST, True
    ),
    "paper": Tier("tolstoy", 5, "50,000 steps, 5 seeds: for a GPU", 100),
}


def _run(tier: Tier, row: str, seed: int) -> Run:
    return figure3.run(tier, *ROWS[row], seed)


CHOICES = Choices("Figure 3", UNDONE, _run)
STUDY = Study(
    "figure3_choices",
    "Beside the paper: Figure 3 with what it leaves open done otherwise",
    TIERS,
    CHOICES.cells,
    data="tolstoy",
    metric="test_perplexity",
    guess=figure3.STUDY.guess,
)
