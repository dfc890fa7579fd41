"""The measurements of one tier of a study of run time, arranged for drawing and judging."""

from dataclasses import dataclass
from pathlib import Path

from experiments.timing.measurement import Measurement, latest, load
from experiments.timing.record import Timing
from experiments.timing.study import TimingStudy


@dataclass(frozen=True)
class Timings:
    """What a tier has come to.

    Attributes:
        study, tier: whose measurements.
        measurements: the latest by device and workload.
    """

    study: TimingStudy
    tier: str
    measurements: dict[tuple[str, str], Measurement]

    @property
    def devices(self) -> list[str]:
        """Those that were measured on, the processor first."""
        found = {device for device, _ in self.measurements}
        return sorted(found, key=lambda device: (device != "cpu", device))

    def at(self, device: str, workload: str) -> Measurement | None:
        return self.measurements.get((device, workload))

    def all(self) -> list[Timing]:
        return [timing for each in self.measurements.values() for timing in each.timings.values()]


def look(study: TimingStudy, results: Path, tier: str | None = None) -> Timings | None:
    """Those of `tier`, or of the fullest tier that has any; None if there are none."""
    for name in [tier] if tier else reversed(study.tiers):
        found = latest(load(study.path(name, results)))
        if found:
            return Timings(study, name, found)
    return None
