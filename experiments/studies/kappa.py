"""How much the top optimizer's own step size (the paper's kappa) matters, for each row of Table 1.

The paper has one value a row. JessHua159's reproduction of the published code varied it for four
rows; those grids are taken over, so that the numbers can be laid side by side, and where a grid
lacks the paper's own value it is added. The other rows get two decades either way.
"""

import dataclasses
from collections.abc import Iterator

import gdtuo
from experiments.run import Run
from experiments.studies.table1 import EPOCHS, ROWS
from experiments.study import Cell, Study, Tier

# By the optimizer at the bottom, where the top is SGD.
GRIDS = {
    "SGD": (0.01, 0.1, 1.0, 10.0, 50.0, 75.0, 1000.0),
    "Adam": (1e-5, 1e-4, 1e-3, 5e-3, 1e-2),
    "AdaGrad": (0.01, 1.0, 5.0),
    "RMSProp": (1e-4, 1e-2, 2.5e-2),
}
FACTORS = (0.01, 0.1, 1.0, 10.0, 100.0)

TIERS = {
    "smoke": Tier("digits", 2, "the same towers on scikit-learn's digits: a minute"),
    # Five, so that an interval means something.
    "paper": Tier("mnist", 5, "MNIST at the lengths of Table 1, 5 seeds: about an hour"),
}


def grid(row: str) -> dict[float, str]:
    """The towers of a row of Table 1 by kappa; the paper's own value is among them."""
    rule = gdtuo.parse(row)
    top = rule.optimizer
    if isinstance(top, gdtuo.SGD):
        values = sorted({*GRIDS[type(rule).__name__], top.lr})
    else:
        values = [float(f"{top.lr * factor:.6g}") for factor in FACTORS]
    return {
        value: str(dataclasses.replace(rule, optimizer=dataclasses.replace(top, lr=value)))
        for value in values
    }


# The rows with a tower, and the baselines that they start from.
TOWERS = tuple(str(gdtuo.parse(row)) for row in ROWS if "/" in row)
BASELINES = tuple(str(gdtuo.parse(row)) for row in ROWS if "/" not in row)


def name(row: str, kappa: float) -> str:
    """The name of a cell: a point on the line of a row."""
    return f"{row}, kappa {kappa:g}"


def cells(tier: Tier) -> Iterator[Cell]:
    for row in BASELINES:
        for seed in range(tier.seeds):
            yield Cell(row, Run("mlp", tier.data, row, seed, EPOCHS[row]))
    for row in TOWERS:
        for kappa, tower in grid(row).items():
            for seed in range(tier.seeds):
                yield Cell(name(row, kappa), Run("mlp", tier.data, tower, seed, EPOCHS[row]))


STUDY = Study(
    "kappa",
    "Beside the paper: Table 1 by kappa, the step size of the top optimizer",
    TIERS,
    cells,
)
