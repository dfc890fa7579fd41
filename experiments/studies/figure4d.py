"""Fig. 4d: the character LSTM by the first step size and the height of the tower."""

from functools import partial

from experiments.studies.figure3 import FAST, TINY
from experiments.studies.presets import scaled
from experiments.studies.tower_sweeps import decades, sweep
from experiments.study import Tier

TIERS = {
    "smoke": Tier("sonnets", 2, "a small LSTM on a few sonnets: a minute", 3, TINY),
    # Epochs of 500 steps.
    "small": Tier(
        "tolstoy", 1, "8,000 steps, 1 seed, 3 for a few: 90 minutes on 2 cores", 16, FAST, True
    ),
    # The paper doesn't say how long; Fig. 3's 50,000 steps.
    "paper": Tier("tolstoy", 3, "50,000 steps, 3 seeds: for a GPU", 100),
}
STEP_SIZES = decades(-7, -2)

sweep_lstm = partial(
    sweep,
    task="char_rnn",
    # Fig. 3's optimizer. Of it the step size is learned: the scheme has one number a level, and the
    # betas' coordinates would need another.
    bottom="Adam{learn}({lr})",
    levels=scaled,
    step_sizes=STEP_SIZES,
    small=decades(-7, -4),
    tiers=TIERS,
    # The two ends and the middle show how far seeds differ.
    repeated={STEP_SIZES[0]: 3, STEP_SIZES[3]: 3, STEP_SIZES[-1]: 3},
    data="tolstoy",
    metric="test_perplexity",
    unit="",
    guess=87.0,  # the perplexity of a guess among War and Peace's characters
    fails=20.0,
    label="test perplexity",
)

STUDY = sweep_lstm(
    "figure4d",
    "Figure 4d: perplexity on War and Peace by first step size, upper levels by the paper's scheme",
)
