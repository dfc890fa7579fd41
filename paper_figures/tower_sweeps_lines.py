"""The lines of Figs. 4a to 4e: a test error by first step size, and how wide its valley is."""

from collections.abc import Mapping, Sequence

from experiments.studies.tower_sweeps import decades, name, spacing
from paper_figures import points
from paper_figures.claims import Estimate, estimate
from paper_figures.results import Results

WITHIN = 1.1

Line = dict[float, float]  # test errors in percent by first step size
Lines = Mapping[int, Line]  # by height


def by_step_size(*errors: float | None, step_sizes: Sequence[float] = decades(-8, 2)) -> Line:
    """A line of the paper's figure; None where it can't be read."""
    pairs = zip(step_sizes, errors, strict=True)
    return {lr: error for lr, error in pairs if error is not None}


def errors(results: Results, height: int, lr: float) -> dict[int, float]:
    """The errors at one point of the figure, by seed, those of diverged runs included."""
    return points.errors(results, name(height, lr))


def point(results: Results, height: int, lr: float) -> Estimate:
    return points.point(results, name(height, lr))


def diverged(results: Results, height: int, lr: float) -> int:
    """How many of the runs at one point diverged."""
    return points.diverged(results, name(height, lr))


def width(line: Line, guess: float) -> int:
    """The decades of first step sizes whose error is within 10 % of the line's least, and better
    than that of a guess."""
    first, second, *_ = line
    most = WITHIN * min(line.values())
    return spacing(first, second) * sum(e <= most and e < guess for e in line.values())


def widths(results: Results, height: int) -> dict[int, float]:
    """`width` by seed, of those that have the whole line."""
    lines = whole_lines(results, height)
    return {seed: width(line, results.study.guess) for seed, line in lines.items()}


def mean_widths(results: Results) -> dict[int, Estimate]:
    """The mean of `widths` by height."""
    of = results.least_planned
    return {h: estimate(widths(results, h).values(), of) for h in results.study.heights}


def count_good(line: Line, good: float) -> int:
    """How many first step sizes end below `good`."""
    return sum(error < good for error in line.values())


def good_starts(results: Results, height: int) -> dict[int, float]:
    """`count_good` by seed, of those that have the whole line; empty where it isn't asked."""
    good = results.study.good
    lines = whole_lines(results, height) if good is not None else {}
    return {seed: count_good(line, good) for seed, line in lines.items()}


def paper_width(results: Results, line: Line) -> str:
    """The paper's, where its line can be read whole."""
    study = results.study
    return str(width(line, study.guess)) if len(line) == len(study.step_sizes) else "-"


def whole_lines(
    results: Results, height: int, step_sizes: Sequence[float] | None = None
) -> dict[int, Line]:
    """The errors by seed and step size, of the seeds that have all of `step_sizes`."""
    by_lr = {lr: errors(results, height, lr) for lr in step_sizes or results.study.step_sizes}
    seeds = set.intersection(*(set(by_seed) for by_seed in by_lr.values()))
    return {s: {lr: by_seed[s] for lr, by_seed in by_lr.items()} for s in sorted(seeds)}
