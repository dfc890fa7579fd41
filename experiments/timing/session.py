"""A tier's workloads, measured one after another and recorded, and what came of it in words."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments import executors, optimizers, provenance, store
from experiments.timing.measure import measure
from experiments.timing.measurement import Measurement, latest, load
from experiments.timing.record import Timing
from experiments.timing.study import TimingStudy
from experiments.timing.workload import FUSED, PLAIN, contenders
from experiments.words import counted


def session(
    study: TimingStudy,
    tier: str,
    path: Path,
    *,
    only: str = "*",
    device: str = "cpu",
    threads: int = 1,
    compiled: bool = True,
    report: Callable[[Measurement], object] = lambda measurement: None,
) -> None:
    """Measure the workloads of a tier that match `only`, and add their records to `path`.

    What was measured before stays; the figure takes the latest. A workload is recorded as soon as
    it is done, so that an interrupt loses no more than the one in flight.
    """
    chosen, extent = study.select(tier, only), study.tier(tier)
    for text in extent.texts:
        optimizers.require(text)
    executors.require_device(device)
    source = provenance.source()
    with store.Writer(path) as writer:
        for workload, heights in chosen.items():
            timings = measure(
                workload,
                contenders(heights, compiled, extent.texts),
                rounds=extent.rounds,
                block_seconds=extent.block_seconds,
                processes=extent.processes,
                device=device,
                threads=threads,
                source=source,
            )
            writer.append(*timings)
            report(Measurement.of(timings))


def table(measurement: Measurement) -> Iterator[str]:
    """A measurement as lines of text."""
    first = measurement.first
    yield (
        f"{measurement.workload} on {measurement.device}, threads {first.provenance['threads']}: "
        f"{counted(measurement.rounds, 'round')} of {counted(first.steps, 'step')}"
    )
    width = max(map(len, measurement.timings))
    for name, timing in measurement.timings.items():
        line = f"  {name:<{width}}  {measurement.milliseconds(name).median:9.3f} ms"
        peak = "     -    " if math.isnan(timing.peak) else f"{timing.peak:6.0f} MiB"
        line += f"  {peak}  state {timing.state_bytes / 2**20:.2f} MiB"
        base = _base(timing)
        if base != name:
            line += f"  {measurement.ratio(name, base).text(3)} of {base}"
        yield line


def _base(timing: Timing) -> str:
    """What the contender is compared with: torch's, or its own kind at height 0."""
    if timing.height is None:
        return PLAIN
    if timing.height == 0:
        return FUSED if timing.fast else PLAIN
    return timing.contender.replace(f"height {timing.height}", "height 0")


def status(study: TimingStudy, tier: str, path: Path, only: str = "*") -> Iterator[str]:
    """What there is of each workload of a tier, as lines of text."""
    found = latest(load(path))
    for workload in study.select(tier, only):
        theirs = [each for (_, name), each in sorted(found.items()) if name == workload.name]
        if not theirs:
            yield f"{workload.name}  to measure"
        for each in theirs:
            yield (
                f"{workload.name}  {each.device}: {counted(len(each.timings), 'contender')}, "
                f"{counted(each.rounds, 'round')}, {each.first.provenance['finished'][:10]}"
            )
