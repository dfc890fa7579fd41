"""Fig. 4b: towers of SGD of growing height, upper levels started by the paper's scheme."""

from experiments.studies import tower_sweeps
from experiments.studies.presets import scaled

STUDY = tower_sweeps.study(
    "figure4b",
    "Figure 4b: test error on MNIST by first step size, upper levels by the paper's scheme",
    scaled,
)
