"""Fig. 4c: ResNet-20 on CIFAR-10 by the first step size and the height of the tower."""

from functools import partial

from experiments.studies.figure2a import FAST, FASTER, TINY
from experiments.studies.presets import scaled
from experiments.studies.tower_sweeps import decades, sweep
from experiments.study import Tier

TIERS = {
    "smoke": Tier("digits", 2, "a narrow network on scikit-learn's digits: a minute", 2, TINY),
    "small": Tier(
        "cifar10", 1, "CIFAR-10, 3 epochs, 1 seed: an hour and a half on 2 cores", 3, FAST, True
    ),
    # The paper doesn't say how long. In Fig. 2a plain SGD at 0.1 ends near 13 %, as here; it comes
    # close to that in 100 epochs, half of that figure's.
    "paper": Tier("cifar10", 3, "CIFAR-10, 100 epochs, 3 seeds: for a GPU", 100, FASTER),
}

sweep_resnet = partial(
    sweep,
    task="resnet20",
    # He et al.'s optimizer. Of it the step size is learned: the scheme has one number a level, and
    # a step that suits an lr of 1e-8 does not suit a momentum of 0.9.
    bottom="SGD{learn}({lr}, momentum=0.9, weight_decay=0.0001)",
    levels=scaled,
    step_sizes=decades(-8, 0),
    small=decades(-8, -4),
    tiers=TIERS,
    data="cifar10",
)

STUDY = sweep_resnet(
    "figure4c",
    "Figure 4c: ResNet-20 on CIFAR-10 by first step size, upper levels by the paper's scheme",
)
