"""What a measurement leaves behind: a record for each contender."""

from dataclasses import dataclass
from math import nan
from statistics import median
from typing import Any

SCHEMA = 1  # raised when the fields of a record change their meaning


@dataclass(frozen=True)
class Timing:
    """One contender of a workload on one device.

    Attributes:
        workload, contender: their names.
        rule: what the contender steps by.
        height, fast: see `Contender`.
        seconds: seconds a step, one value for each round; the rounds are those of all contenders
            that were timed together.
        steps: how many steps the value of a round is the mean of.
        peak_bytes: the most that training took, of the device's memory, or the whole of a process
            on a CPU; a value for each process that was asked, and none if none was.
        state_bytes: the tensors that the optimizer keeps.
        parameter_bytes: the model's parameters.
        together: how many contenders were timed together.
        provenance: commit, versions and machine; "finished" is the same for all that were timed
            together, and tells them from others.
    """

    workload: str
    contender: str
    rule: str
    height: int | None
    fast: bool
    seconds: list[float]
    steps: int
    peak_bytes: list[int]
    state_bytes: int
    parameter_bytes: int
    together: int
    provenance: dict[str, Any]
    schema: int = SCHEMA

    @property
    def peak(self) -> float:
        """The median peak in MiB; nan if it was not measured."""
        return median(self.peak_bytes) / 2**20 if self.peak_bytes else nan
