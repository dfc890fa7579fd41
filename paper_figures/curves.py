"""Curves over a run's epochs: each seed as a thin line, their mean as a thick one."""

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator

from experiments.run import Record
from paper_figures.claims import Estimate, estimate
from paper_figures.results import Results

Value = Callable[[Record], list[float | None]]

# Epochs that a final figure is the mean of, as they were read off the paper's curves; of a run
# that is shorter than twice that, its second half.
LAST = 10
ENDS = f"Means of the last {LAST} epochs, of a run of fewer than {2 * LAST} of its second half"


def curve(name: str) -> Value:
    """The curve of a record by name, such as "train_loss"; "lr" is the step size taken."""
    if name == "lr":
        return _step_sizes
    return lambda record: record.curves.get(name, [])


def _step_sizes(record: Record) -> list[float | None]:
    """Level 0's by epoch; a schedule divides what is learned, and isn't part of it."""

    def taken(epoch: int, lr: float | None) -> float | None:
        drops = sum(drop < epoch for drop in record.run.schedule)
        return lr if lr is None else lr / 10**drops

    learned = record.curves["hyperparameters"][0]["lr"]
    return [taken(epoch, lr) for epoch, lr in enumerate(learned, start=1)]


def plot(
    axes: Axes, results: Results, cell: str, value: Value, *, color: object, label: str,
    style: str = "-", scale: float = 1,
) -> None:  # fmt: skip
    """Draw `value` of each seed of the cell, and the mean of those that came to the end.

    Args:
        axes, results, color, label: what they say.
        cell: the name of the cell.
        value: what to draw of a record.
        style: of the mean's line.
        scale: the length of an epoch on the x axis.
    """
    whole = []
    for record in results.records[cell].values():
        ys = np.array([np.nan if y is None else y for y in value(record)], dtype=float)
        xs = scale * np.arange(1, len(ys) + 1)
        axes.plot(xs, ys, color=color, linewidth=0.6, alpha=0.4)
        if record.final:
            whole.append(ys)
    if whole:
        mean = np.mean([ys[: min(map(len, whole))] for ys in whole], axis=0)
        xs = scale * np.arange(1, len(mean) + 1)
        axes.plot(xs, mean, style, color=color, linewidth=1.6, label=label)


def logarithmic(axes: Axes) -> None:
    """A logarithmic y axis with plain numbers, for less than a few decades; there are more of them
    within one, so that some are where curves end."""
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.yaxis.set_minor_locator(
        LogLocator(subs=(1.2, 1.5, 2, 3, 4, 5, 7) if high < 10 * low else (2, 3, 5))
    )


def final(results: Results, cell: str, name: str, epochs: int | None = None) -> Estimate:
    """The mean of a curve over its last epochs, over the seeds that came to the end."""
    return estimate(finals(results, cell, name, epochs).values(), results.planned[cell])


def end(values: Sequence[float]) -> Sequence[float]:
    """The epochs that a final figure is the mean of: `LAST`, or the second half of fewer."""
    return values[-max(min(LAST, len(values) // 2), 1) :]


def averaged(epochs: int) -> str:
    """Which those are, of a run of so many: "the mean of epochs 21 to 30"."""
    *_, last = found = end(range(1, epochs + 1))
    return f"the mean of epochs {found[0]} to {last}" if len(found) > 1 else f"epoch {last}"


def finals(results: Results, cell: str, name: str, epochs: int | None = None) -> dict[int, float]:
    """The same by seed; a run that diverged counts as the study's guess, if that is its metric.

    With `epochs` it is as if the run had ended after so many, so that a shorter one compares.
    """
    values = {}
    for seed, record in sorted(results.records[cell].items()):
        if record.final:
            values[seed] = float(np.mean(end(curve(name)(record)[:epochs])))
        elif name == results.study.metric:
            values[seed] = results.study.guess
    return values
