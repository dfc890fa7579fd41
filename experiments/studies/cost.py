"""Beside the paper: what a whole training step takes, of the default and its rivals.

The models are those of the paper's tasks, at its sizes, in full precision. What counts is the time
over that of `torch.optim.Adam`, which all of them are compared with.
"""

from dataclasses import replace

import torch

from experiments.studies import figure4f
from experiments.studies.tuning import OWN, RIVAL_NAMES
from experiments.timing.study import TimingStudy, TimingTier
from experiments.timing.workload import COMPILED

COMPILED_OWN = f"{OWN}({COMPILED})"
# Adam for all of them: what the default is to replace. Weights move as they will, which changes no
# cost once denormals are flushed.
WORKLOADS = {
    each.name: replace(each, bottom="Adam", plain=torch.optim.Adam) for each in figure4f.WORKLOADS
}
NO_TOWERS: dict[str, tuple[int, ...]] = dict.fromkeys(WORKLOADS, ())

TIERS = {
    "smoke": TimingTier(
        {"mlp": ()},
        rounds=3,
        block_seconds=0.02,
        processes=0,
        about="one model, few rounds, nothing compiled, to see that it works: seconds",
        texts=(OWN, *RIVAL_NAMES),
    ),
    # As few rounds as are judged; blocks as for Fig. 4f.
    "paper": TimingTier(
        NO_TOWERS,
        rounds=20,
        block_seconds=0.2,
        processes=0,
        about="three models: about five minutes",
        texts=(OWN, COMPILED_OWN, *RIVAL_NAMES),
    ),
}

STUDY = TimingStudy(
    "cost",
    "Beside the paper: what a step costs, of the default and its rivals",
    TIERS,
    WORKLOADS,
)
