"""Fig. 2a: ResNet-20 on CIFAR-10 from a grid of step sizes and momenta, learned or constant.

He et al.'s procedure without its step schedule. The paper doesn't say what of it is its own: batch
128, crops and flips are He et al.'s, and their weight decay of 1e-4 is part of the update, so that
what it does to the weights is in the hypergradient too.
"""

from collections.abc import Iterator

from experiments.run import Run
from experiments.studies.presets import kappa_resnet
from experiments.study import Cell, Study, Tier

STEP_SIZES = (0.01, 0.1, 1.0)
MOMENTA = (0.09, 0.9, 0.99)
KINDS = ("constant", "learned")

# What a processor needs to get anywhere: half the time of full precision. Compiled it is a third,
# and on a GPU too it is less.
FAST = {"autocast": "bfloat16", "channels_last": True}
FASTER = {**FAST, "compile": True}
TINY = {"width": 4}
# In a shortened tier the corners of the grid are trained longer, to see what comes later.
CORNERS = 15

TIERS = {
    "smoke": Tier("digits", 2, "a narrow network on scikit-learn's digits: a minute", 2, TINY),
    "small": Tier(
        "cifar10", 1, "CIFAR-10, 5 epochs, corners 15, 1 seed: about 100 minutes on 2 cores", 5,
        FASTER, shortened=True,
    ),
    # The paper's 200 epochs; it says neither how many runs nor in what precision.
    "paper": Tier("cifar10", 3, "CIFAR-10, 200 epochs, 3 seeds: for a GPU", 200, FASTER),
}  # fmt: skip


def optimizer(lr: float, momentum: float, kind: str) -> str:
    """The optimizer of a cell, as text."""
    plain = f"SGD({lr!r}, momentum={momentum!r}, weight_decay=0.0001)"
    return plain if kind == "constant" else f"{plain} / {kappa_resnet(lr, momentum)}"


def name(lr: float, momentum: float, kind: str) -> str:
    """The name of a cell: a line in a panel of the figure."""
    return f"lr {lr:g}, momentum {momentum:g}, {kind}"


def cells(tier: Tier) -> Iterator[Cell]:
    for lr in STEP_SIZES:
        for momentum in MOMENTA:
            corner = lr in STEP_SIZES[::2] and momentum in MOMENTA[::2]
            epochs = CORNERS if tier.shortened and corner else tier.epochs
            for kind in KINDS:
                text = optimizer(lr, momentum, kind)
                for seed in range(tier.seeds):
                    run = Run("resnet20", tier.data, text, seed, epochs, options=tier.options)
                    yield Cell(name(lr, momentum, kind), run)


STUDY = Study(
    "figure2a",
    "Figure 2a: ResNet-20 on CIFAR-10, step size and momentum learned or constant",
    TIERS,
    cells,
    data="cifar10",
)
