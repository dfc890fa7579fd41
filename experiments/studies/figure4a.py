"""Fig. 4a: towers of SGD of growing height, every level started at the same step size."""

from experiments.studies.mlp_sweeps import mlp_sweep
from experiments.studies.presets import equal

STUDY = mlp_sweep(
    "figure4a", "Figure 4a: test error on MNIST by first step size, the same at every level", equal
)
