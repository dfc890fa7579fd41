"""The experiments of the paper as resumable runs: `python -m experiments --help`."""


class ExperimentError(Exception):
    """An experiment cannot go on; the message says what was found and what to do."""
