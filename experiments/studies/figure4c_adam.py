"""Beside the paper: Fig. 4c with Adam above ResNet-20's SGD, for the reason of `figure4d_adam`."""

from experiments.studies.figure4c import sweep_resnet

STUDY = sweep_resnet(
    "figure4c_adam",
    "Beside the paper: Figure 4c with Adam at the upper levels, by the paper's scheme",
    # As at the bottom, the step size is learned alone.
    above="Adam{learn}({lr})",
)
