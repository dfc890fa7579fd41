"""Fig. 4b: towers of SGD of growing height, upper levels started by the paper's scheme."""

from experiments.studies.mlp_sweeps import mlp_sweep
from experiments.studies.presets import scaled

STUDY = mlp_sweep(
    "figure4b",
    "Figure 4b: test error on MNIST by first step size, upper levels by the paper's scheme",
    scaled,
)
