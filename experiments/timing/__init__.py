"""Run time and memory of a training step: `python -m experiments time`."""
