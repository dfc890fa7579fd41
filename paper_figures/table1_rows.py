"""The rows of Table 1, as the paper prints them."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """A row as the paper prints it: mean and deviation of the test error in percent, the values
    that were learned, and the error of the rerun from them."""

    error: tuple[float, float]
    learned: dict[str, float] = field(default_factory=dict)
    rerun: tuple[float, float] | None = None


PAPER = {
    "SGD": Row((8.99, 0.05)),
    "SGD / SGD": Row((4.81, 0.10), {"lr": 0.0769}, (5.44, 0.10)),
    "SGD / Adam(0.1)": Row((4.86, 0.06), {"lr": 0.4538}, (2.80, 0.09)),
    "SGD / AdaGrad": Row((4.85, 0.21), {"lr": 0.0836}, (5.17, 0.03)),
    "SGD / RMSProp(0.1)": Row((4.52, 0.02), {"lr": 0.5920}, (2.52, 0.07)),
    "Adam": Row((4.67, 0.06)),
    "Adam / SGD(1e-05)": Row(
        (3.03, 0.02), {"lr": 0.0040, "beta1": 0.899, "beta2": 0.999}, (3.11, 0.06)
    ),
    "Adam^lr / SGD(1e-05)": Row((3.12, 0.04), {"lr": 0.0021}, (3.47, 0.02)),
    "Adam / Adam": Row((3.05, 0.09), {"lr": 0.0038, "beta1": 0.870, "beta2": 0.999}, (3.24, 0.13)),
    "Adam^lr / Adam": Row((3.04, 0.08), {"lr": 0.0036}, (3.08, 0.12)),
    "AdaGrad": Row((7.40, 0.08)),
    "AdaGrad / SGD": Row((6.90, 0.16), {"lr": 0.0080}, (7.75, 0.02)),
    "AdaGrad / AdaGrad": Row((5.03, 0.23), {"lr": 0.0151}, (6.67, 0.08)),
    "RMSProp": Row((4.19, 0.47)),
    "RMSProp^lr / SGD(0.0001)": Row((3.55, 0.23), {"lr": 0.0030}, (3.93, 0.70)),
    "RMSProp^{lr,gamma} / SGD(0.0001)": Row(
        (3.33, 0.07), {"lr": 0.0032, "gamma": 0.9899}, (3.25, 0.09)
    ),
    "RMSProp^lr / RMSProp(0.0001)": Row((3.42, 0.45), {"lr": 0.0021}, (3.60, 0.04)),
    "RMSProp^{lr,gamma} / RMSProp(0.0001)": Row(
        (2.96, 0.11), {"lr": 0.0020, "gamma": 0.9962}, (3.65, 0.36)
    ),
}
FAMILIES = ("SGD", "Adam", "AdaGrad", "RMSProp")


def family(row: str) -> str:
    """The plain optimizer that a row's tower starts from."""
    return row.split(" / ")[0].split("^")[0]


def towers(baseline: str) -> list[str]:
    return [row for row in PAPER if family(row) == baseline and row != baseline]


def rerun(row: str) -> str:
    return f"{row}, rerun"
