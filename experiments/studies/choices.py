"""How much hangs on what Table 1's text leaves open, or says otherwise than the published code.

Each choice is undone by itself, for a plain optimizer and a tower that it could matter to.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from experiments.run import Run
from experiments.studies.table1 import EPOCHS, LONG, SHORT
from experiments.study import Cell, Study, Tier


@dataclass(frozen=True)
class Choice:
    """One choice of Table 1's, and the other one.

    Attributes:
        made: what is done, and on what grounds.
        otherwise: the other choice, in a few words.
        rows: those of Table 1 that are trained both ways.
        options: of the task, otherwise.
        epochs: otherwise; 0: the row's own.
        beta2: of Adam at the bottom, otherwise; 0: its default.
    """

    made: str
    otherwise: str
    rows: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    beta2: float = 0.0

    def tower(self, row: str) -> str:
        """The optimizer of `row`, otherwise."""
        return row.replace("Adam", f"Adam(beta2={self.beta2!r})", 1) if self.beta2 else row


PAIRS = ("SGD", "SGD / SGD", "Adam", "Adam / SGD(1e-05)")

CHOICES = {
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
        beta2=0.99,
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


def name(row: str, choice: str = "") -> str:
    """The name of a cell: a row as in Table 1, or with one choice undone."""
    return f"{row}, {CHOICES[choice].otherwise if choice else 'as in Table 1'}"


def cells(tier: Tier) -> Iterator[Cell]:
    for row in dict.fromkeys(row for choice in CHOICES.values() for row in choice.rows):
        for seed in range(tier.seeds):
            yield Cell(name(row), Run("mlp", tier.data, row, seed, EPOCHS[row]))
    for key, choice in CHOICES.items():
        for row in choice.rows:
            for seed in range(tier.seeds):
                run = Run(
                    "mlp",
                    tier.data,
                    choice.tower(row),
                    seed,
                    choice.epochs or EPOCHS[row],
                    options=choice.options,
                )
                yield Cell(name(row, key), run)


STUDY = Study(
    "choices", "Beside the paper: Table 1 with what it leaves open done otherwise", TIERS, cells
)
