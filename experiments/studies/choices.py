"""How much hangs on what Table 1's text leaves open, or says otherwise than the published code.

Each choice is undone by itself, for a plain optimizer and a tower that it could matter to.
"""

from experiments.run import Run
from experiments.studies.table1 import EPOCHS, LONG, SHORT
from experiments.studies.undone import Choice, Choices
from experiments.study import Study, Tier

PAIRS = ("SGD", "SGD / SGD", "Adam", "Adam / SGD(1e-05)")

UNDONE = {
    "output": Choice(
        "The output layer is squashed by tanh too, as in the published code; the text has one "
        "hidden layer with tanh",
        "not squashed",
        PAIRS,
        options={"output_tanh": False},
    ),
    "beta2": Choice(
        "Adam's beta2 is 0.999, the published code's; the table's caption says 0.99",
        "beta2 0.99",
        PAIRS[2:],
        towers={row: row.replace("Adam", "Adam(beta2=0.99)", 1) for row in PAIRS[2:]},
    ),
    "epochs": Choice(
        f"AdaGrad trains for {LONG} epochs, like SGD; the text says {SHORT} of Adam and RMSProp, "
        "and nothing of AdaGrad",
        f"{SHORT} epochs",
        ("AdaGrad", "AdaGrad / SGD", "AdaGrad / AdaGrad"),
        epochs=SHORT,
    ),
    "order": Choice(
        "Batches are drawn anew in each epoch, as in the published code; the version of 2019 took "
        "the images as they come",
        "not shuffled",
        PAIRS,
        options={"shuffled": False},
    ),
}

TIERS = {
    "smoke": Tier("digits", 2, "the same towers on scikit-learn's digits: half a minute"),
    # Five, so that an interval means something.
    "paper": Tier(
        "mnist", 5, "MNIST at the lengths of Table 1, 5 seeds: about a quarter of an hour"
    ),
}


def _run(tier: Tier, row: str, seed: int) -> Run:
    return Run("mlp", tier.data, row, seed, EPOCHS[row])


CHOICES = Choices("Table 1", UNDONE, _run)
STUDY = Study(
    "choices",
    "Beside the paper: Table 1 with what it leaves open done otherwise",
    TIERS,
    CHOICES.cells,
)
