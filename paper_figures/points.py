"""Points of a figure: what a cell's runs end with, as a number, as a mark and in a table."""

from collections.abc import Iterable, Sequence

from matplotlib.axes import Axes

from experiments.run import Record
from paper_figures.claims import Estimate, estimate
from paper_figures.results import Results


def errors(results: Results, name: str) -> dict[int, float]:
    """The study's metric for the cell `name`, by seed; a run that diverged counts as a guess."""
    study = results.study

    def error(record: Record) -> float:
        return float(record.final[study.metric]) if record.final else study.guess

    return {seed: error(record) for seed, record in sorted(results.records[name].items())}


def point(results: Results, name: str) -> Estimate:
    return estimate(errors(results, name).values(), results.planned[name])


def diverged(results: Results, name: str) -> int:
    """How many of the cell's runs diverged."""
    return sum(record.status == "diverged" for record in results.records[name].values())


def line(axes: Axes, xs: Sequence[float], ys: Sequence[Estimate], **look: object) -> None:
    """Means with their intervals; `look` is the line's, as in matplotlib."""
    off = [
        [max(y.mean - y.low, 0) if y.n > 1 else 0 for y in ys],
        [max(y.high - y.mean, 0) if y.n > 1 else 0 for y in ys],
    ]
    axes.errorbar(
        xs, [y.mean for y in ys], yerr=off,
        **{"markersize": 4, "linewidth": 1.2, "capsize": 2, **look},
    )  # fmt: skip


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rows = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def page(parts: Iterable[str]) -> str:
    """A page in Markdown, of the parts that aren't empty."""
    return "\n\n".join(filter(None, parts)) + "\n"
