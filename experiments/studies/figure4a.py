"""Fig. 4a: towers of SGD of growing height, every level started at the same step size."""

from experiments.studies import tower_sweeps
from experiments.studies.presets import equal

STUDY = tower_sweeps.study(
    "figure4a", "Figure 4a: test error on MNIST by first step size, the same at every level", equal
)
