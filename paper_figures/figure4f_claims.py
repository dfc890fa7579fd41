"""What the paper says of run time and memory by height, and how far measurements bear it out."""

from collections.abc import Callable, Collection, Sequence
from itertools import pairwise

import numpy as np

from experiments.studies.figure4f import HEIGHTS
from experiments.timing.measurement import Interval, Measurement
from experiments.timing.workload import FUSED, PLAIN, tower
from experiments.words import fixed
from paper_figures.claims import (
    MISSING,
    NOT_TESTABLE,
    PARTLY,
    Claim,
    graded,
    lines,
    share,
)
from paper_figures.timings import Timings

RULES = """\
- The paper's times are of a GPU, a TITAN Xp; each verdict is about the device that it names.
- Where a task was measured more than once on a device, the last time counts; the records have all.
- Each claim is judged for each task and device; one about run time for the eager and for the
  compiled step: it has their verdict if both have the same, is `not testable` if one of them is,
  and is `partly` otherwise. (So it was done from the start; until after the results these words had
  `not` where neither is `reproduced`. Later still came that one may be `not testable`.)
- Times are compared within a round, in which all contenders take turns; ours is the median over
  the rounds with its 95 % bootstrap interval. Fewer than 20 rounds are `not testable`.
- Run time is linear if no median is further than 2 % of height 0's time from the straight line
  through them (least squares), or the line explains 99 % of their variance; `partly` with 5 % and
  95 %. No growth at all is linear too.
- A level costs at most the claimed 2 % if the interval of the line's slope does not reach above 2 %
  of height 0's time; `partly` if the slope's median is at most 4 %. An interval that has both what
  bears the claim out and what refutes it, from 2 % or less to more than 4 %, is `not testable`.
  Less than 1 % bears the claim out. (This came after the results: an interval that began below 2 %
  was `partly` however wide it was, which rewarded noise.)
- Memory grows negligibly if no level adds more than 5 % of the parameters' size to what the
  optimizer keeps, for the eager and the compiled step, and `partly` if some levels don't. The peak
  is given beside it, but tells too little to judge by: on a processor it is that of the whole
  process, torch and the compiler included, and differs between processes that do the same (the
  figure of the memory has the least and the greatest). (This came after the results. It was the
  peak at height 3 that was judged, which might be 5 % above height 0's, though in these processes
  that is as much as 20 to 40 copies of the parameters.)"""

# Percent over height 0 at heights 1, 2, 3, and half the width of the bars, all read off the
# paper's Fig. 4f to about a quarter of a point; the bars' from 6 to 8, 2.5 and from 5 to 6.
PAPER = {
    "mlp": ((0.5, 2.75, 3.4), 7.0),
    "resnet20": ((1.5, 1.8, 6.2), 2.5),
    "lstm": ((2.1, 3.7, 5.0), 5.5),
}
# The 2019 version's figure for towers of SGD to height 50, read off: milliseconds and percent of
# height 0 a level.
PAPER_HIGH = (0.27, 1.6)

NEGLIGIBLE = 0.05  # of the parameters' size
FEWEST_ROUNDS = 20
KINDS = {"eager": False, "compiled": True}

Judged = tuple[str, str]  # what we found, and the verdict on it


def claims(results: Timings) -> list[Claim]:
    """Every claim about run time and memory, judged on every device."""
    found = []
    for device in results.devices or ["cpu"]:
        for workload in results.study.workloads:
            found += _of_task(results, device, workload)
        found += _to_the_top(results, device)
    return found


def summary(results: Timings) -> str:
    """The findings in a few sentences."""
    parts = []
    for (device, workload), measurement in results.measurements.items():
        costs = [
            f"{fixed(measurement.slope(HEIGHTS, compiled)[1].median, 1)} % {kind}"
            for kind, compiled in KINDS.items()
            if set(HEIGHTS) <= set(measurement.heights(compiled))
        ]
        title = results.study.workloads[workload].title
        parts.append(f"{title}, {device}: {', '.join(costs)}")
    gpu = any(device != "cpu" for device, _ in results.measurements)
    return f"A level costs, in percent of a step at height 0: {'; '.join(parts)}." + (
        "" if gpu else " The paper timed a GPU; none was measured here."
    )


def _of_task(results: Timings, device: str, workload: str) -> list[Claim]:
    measurement = results.at(device, workload)
    name = f"{results.study.workloads[workload].title}, {device}"
    percents = PAPER[workload][0]
    printed = ", ".join(f"{percent:g}" for percent in percents) + " %"
    slope = np.polyfit(HEIGHTS, (0, *percents), 1)[0]
    return [
        _judge(f"{name}: run time is linear in the height", printed, measurement, HEIGHTS, _linear),
        _judge(
            f"{name}: a level costs 1 to 2 % of the run time", f"{slope:.1f} %", measurement,
            HEIGHTS, _cheap, against_torch,
        ),
        _judge(
            f"{name}: memory grows negligibly", "negligible", measurement, HEIGHTS, _memory,
        ),
    ]  # fmt: skip


def _to_the_top(results: Timings, device: str) -> list[Claim]:
    """The 2019 version's claims about the MLP; the tier decides how high is measured."""
    measurement = results.at(device, "mlp")
    heights = results.study.tiers["paper"].heights["mlp"]
    name = f"{results.study.workloads['mlp'].title} to height {heights[-1]}, {device}"
    milliseconds, percent = PAPER_HIGH
    return [
        _judge(
            f"{name}: run time is linear in the height", "linear (2019)", measurement, heights,
            _linear,
        ),
        _judge(
            f"{name}: a level costs 1 to 2 % of the run time",
            f"{percent:g} %, {milliseconds:g} ms (2019)", measurement, heights, _cheap,
        ),
    ]  # fmt: skip


def _judge(
    text: str,
    paper: str,
    measurement: Measurement | None,
    heights: Sequence[int],
    judge: Callable[[Measurement, Sequence[int], bool], Judged],
    remark: Callable[[Measurement], str] = lambda measurement: "",
) -> Claim:
    if measurement is None:
        return Claim(text, paper, "not measured", "0", MISSING)
    timed = {
        kind: compiled
        for kind, compiled in KINDS.items()
        if set(heights) <= set(measurement.heights(compiled))
    }
    n = str(measurement.rounds)
    if not timed:
        return Claim(text, paper, "heights are missing", n, NOT_TESTABLE)
    judged = {kind: judge(measurement, heights, compiled) for kind, compiled in timed.items()}
    ours = lines(f"{kind}: {found}" for kind, (found, _) in judged.items())
    if measurement.rounds < FEWEST_ROUNDS:
        return Claim(text, paper, ours, n, NOT_TESTABLE)
    alone = {kind: verdict for kind, (_, verdict) in judged.items()}
    verdict, finding = _together(alone.values()), remark(measurement)
    if verdict == NOT_TESTABLE and len(set(alone.values())) > 1:
        each = ", ".join(f"{kind} `{verdict}`" for kind, verdict in alone.items())
        finding = f"By itself: {each}. {finding}".strip()
    return Claim(text, paper, ours, n, verdict, finding)


def _together(verdicts: Collection[str]) -> str:
    if NOT_TESTABLE in verdicts:
        return NOT_TESTABLE
    return next(iter(verdicts)) if len(set(verdicts)) == 1 else PARTLY


def _linear(measurement: Measurement, heights: Sequence[int], compiled: bool) -> Judged:
    over = [measurement.over(height, compiled) for height in heights]
    percents = np.array([each.median for each in over])
    rest = percents - np.polyval(np.polyfit(heights, percents, 1), heights)
    off, spread = float(np.abs(rest).max()), float(percents.var())
    explained = 100 * (1 - float(rest.var()) / spread) if spread else 100.0
    # The line's own slope says what nine heights have to say.
    listed = ", ".join(each.text(1) for each in over[1:]) + " %, " if len(over) < 5 else ""
    found = f"{listed}at most {off:.1f} % off a line that explains {explained:.1f} %"
    return found, graded(off <= 2 or explained >= 99, off <= 5 or explained >= 95)


def _cheap(measurement: Measurement, heights: Sequence[int], compiled: bool) -> Judged:
    milliseconds, percent = measurement.slope(heights, compiled)
    found = f"{percent.text(2)} %, {milliseconds.text(4)} ms"
    return found, cost(percent)


def cost(slope: Interval) -> str:
    """The verdict on the slope of run time, in percent of height 0 a level."""
    if slope.low <= 2 and slope.high > 4:
        return NOT_TESTABLE
    return graded(slope.high <= 2, slope.median <= 4)


def _memory(measurement: Measurement, heights: Sequence[int], compiled: bool) -> Judged:
    towers = [measurement.timings[tower(height, compiled)] for height in heights]
    kept = [each.state_bytes / each.parameter_bytes for each in towers]
    found = f"keeps {', '.join(fixed(times, 2) for times in kept)} times the parameters"
    if towers[0].peak_bytes and towers[-1].peak_bytes:
        more = peak_over(measurement, heights[-1], compiled)
        found += f", peak {more:+.1f} % at height {heights[-1]} ({towers[-1].peak:.0f} MiB)"
    return found, share([after - before <= NEGLIGIBLE for before, after in pairwise(kept)])


def peak_over(measurement: Measurement, height: int, compiled: bool) -> float:
    """By how many percent the peak memory is above that at height 0."""
    at, base = (measurement.timings[tower(h, compiled)].peak for h in (height, 0))
    return 100 * (at / base - 1)


def against_torch(measurement: Measurement) -> str:
    """How towers compare with `torch.optim`: no claim of the paper's, but what it costs."""
    parts = []
    for kind, compiled in KINDS.items():
        for height in (0, 1):
            if height in measurement.heights(compiled):
                ratios = (measurement.ratio(tower(height, compiled), to) for to in (PLAIN, FUSED))
                plain, fused = (ratio.text() for ratio in ratios)
                parts.append(f"height {height} {kind} {plain} ({fused} of fused)")
    return f"In times of the same rule in torch.optim: {'; '.join(parts)}."
