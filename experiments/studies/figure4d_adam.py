"""Beside the paper: Fig. 4d with Adam at every level.

The paper doesn't say by which rule the levels above the LSTM's Adam step. `figure4d` has SGD, as
the notation of section 3.3 suggests. There tall towers diverge, which the paper's don't; in a trial
of 2,000 steps towers of Adam, from the same step sizes, did not. So it may have been Adam.
"""

from experiments.studies.figure4d import sweep_lstm

STUDY = sweep_lstm(
    "figure4d_adam",
    "Beside the paper: Figure 4d with Adam at every level, upper levels by the paper's scheme",
    # As at the bottom, the step size is learned alone.
    above="Adam{learn}({lr})",
)
