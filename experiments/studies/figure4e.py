"""Fig. 4e: a pretrained ResNet-152 on Caltech-256 by first step size and height of the tower.

Of this experiment the paper says the three step sizes and the heights, and nothing else.
"""

from experiments.studies.presets import scaled
from experiments.studies.tower_sweeps import sweep
from experiments.study import Tier

TIERS = {
    "smoke": Tier(
        "digits", 2, "an untrained ResNet-18 on scikit-learn's digits: minutes", 2,
        {"network": "resnet18", "pretrained": False, "batch": 128},
    ),
    # Fine-tuning; with more epochs the plain optimizer would get further from 1e-6 than it does.
    "paper": Tier("caltech256", 3, "Caltech-256, 5 epochs, 3 seeds: for a GPU", 5),
}  # fmt: skip

STUDY = sweep(
    "figure4e",
    "Figure 4e: a pretrained ResNet-152 on Caltech-256, upper levels by the paper's scheme",
    task="resnet152",
    # The plain line is at its best at 1e-4, where SGD would hardly move: it is Adam's. Of it the
    # step size is learned, as in Fig. 4d.
    bottom="Adam{learn}({lr})",
    levels=scaled,
    step_sizes=(1e-6, 1e-4, 1e-2),
    # There one level ends where the plain optimizer does from its best start, and two no lower.
    small=(1e-6,),
    heights=(0, 1, 2),
    helping=(1,),
    tiers=TIERS,
    data="caltech256",
    guess=99.6,  # among 257 categories
)
