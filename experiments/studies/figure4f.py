"""Fig. 4f: run time and memory of a training step by the height of the tower, for three tasks.

The paper says neither which optimizers it timed nor where. Each task has the one it is trained by
elsewhere in the paper. The first values change no cost; they are so small that the weights hardly
move, however often the one batch comes.
"""

from functools import partial

import torch
from torch import Tensor

from experiments.tasks import networks
from experiments.timing.study import TimingStudy, TimingTier
from experiments.timing.workload import Workload


def _classified(*shape: int, classes: int = 10) -> tuple[Tensor, Tensor]:
    """Images, or the like, with their classes."""
    return torch.rand(shape), torch.randint(classes, shape[:1])


def _text(batch: int, length: int, characters: int) -> tuple[Tensor, Tensor]:
    """Characters, and for each the next one."""
    text = torch.randint(characters, (batch, length + 1))
    return text[:, :-1], text[:, 1:].flatten()


WORKLOADS = [
    Workload(
        "mlp",
        "MLP 784-128-10, batch 256",
        networks.mlp,
        partial(_classified, 256, 784),
        # The towers of Figs. 4a and 4b, and of the 2019 version's figure to height 50; what a level
        # adds is bookkeeping whatever the bottom is, and the LSTM shows Adam.
        bottom="SGD(1e-5)",
        above="SGD(1e-8)",
        plain=partial(torch.optim.SGD, lr=1e-5),
    ),
    Workload(
        "resnet20",
        "ResNet-20, batch 128",
        networks.resnet20,
        partial(_classified, 128, 3, 32, 32),
        # Section 3.3.1: SGD with momentum, both learned by SGD.
        bottom="SGD(1e-5, momentum=0.9)",
        above="SGD(1e-8)",
        plain=partial(torch.optim.SGD, lr=1e-5, momentum=0.9),
    ),
    Workload(
        "lstm",
        "LSTM 2x128, batch 50, sequence 50",
        networks.CharLSTM,
        partial(_text, 50, 50, 87),
        # Section 3.3.2 has Adam. Of the rules that the levels above may have, Adam costs most.
        bottom="Adam(1e-5)",
        above="Adam(1e-8)",
        plain=partial(torch.optim.Adam, lr=1e-5),
    ),
]

# Those of the paper's figure.
HEIGHTS = (0, 1, 2, 3)
# The 2019 version goes to 50.
HIGH = (0, 1, 2, 3, 5, 10, 20, 35, 50)

TIERS = {
    # Enough to see that everything works.
    "smoke": TimingTier(
        {"mlp": (0, 1, 3, 10), "resnet20": (0, 1), "lstm": (0, 1)},
        rounds=3,
        block_seconds=0.02,
        processes=1,
        about="few heights and rounds, to see that it works: two minutes",
    ),
    # So many rounds that the intervals are some percent of the effect; blocks long enough for a
    # clock, short enough that a disturbance stays in one.
    "paper": TimingTier(
        {"mlp": HIGH, "resnet20": HEIGHTS, "lstm": HEIGHTS},
        rounds=30,
        block_seconds=0.1,
        processes=3,
        about="the paper's heights, and 50 for the MLP: about a quarter of an hour on 2 cores",
    ),
}

STUDY = TimingStudy(
    "figure4f",
    "Figure 4f: run time and memory by the height of the tower",
    TIERS,
    {workload.name: workload for workload in WORKLOADS},
)
