"""Figs. 4a to 4e, drawn: test error by first step size, a line a height, and the widths."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.ticker
from matplotlib.axes import Axes

from experiments.files import write_text
from experiments.studies.tower_sweeps import TowerSweep
from experiments.words import fixed
from paper_figures import points
from paper_figures.claims import Claim, findings, ruling, standing
from paper_figures.points import table as rows
from paper_figures.results import Results, caption
from paper_figures.style import PALETTE, figure, heading, numbered
from paper_figures.tower_sweeps_claims import AMONG_TEN, judge, rules, summarized
from paper_figures.tower_sweeps_lines import (
    Line,
    Lines,
    diverged,
    mean_widths,
    paper_width,
    point,
    width,
    widths,
)

MARKERS = ("o", "s", "^", "D")
DIVERGED = "diverged (how many)"
TICKS = (2, 3, 5, 10, 20, 30, 50, 90)


@dataclass(frozen=True)
class TowerFigure:
    """One of these figures, as which a module may stand elsewhere.

    Attributes:
        study: what it is of.
        paper: the paper's values, by height and first step size.
        guess: what a run that diverged counts with, in words.
        further_rules: those of this figure alone.
        further: the claims about this figure alone.
    """

    study: TowerSweep
    paper: Lines
    guess: str = AMONG_TEN
    further_rules: str = ""
    further: Sequence[Callable[[Results], Claim]] = ()

    @property
    def RULES(self) -> str:  # noqa: N802
        return rules(self.study, self.guess) + self.further_rules

    def caption(self, results: Results) -> str:
        return caption(results)

    def summary(self, results: Results) -> str:
        """The findings in a few sentences."""
        return summarized(results, self.paper)

    def claims(self, results: Results) -> list[Claim]:
        """All claims of the paper about this figure."""
        found = [standing(claim(results), results) for claim in self.further]
        return [*judge(results, self.paper), *found]

    def draw(self, results: Results, folder: Path) -> list[Path]:
        """Write the figure and its numbers into `folder`, named after the tier."""
        return draw(results, folder, self.paper, self.RULES)


def draw(results: Results, folder: Path, paper: Lines, rules: str) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier; returns the figure."""
    path = folder / results.tier
    with figure(path, (9, 4.4)) as canvas:
        canvas.suptitle(heading(results.study.title, caption(results)))
        left, right = canvas.subplots(1, 2, width_ratios=(3, 1))
        for height in results.study.heights:
            _draw_line(left, results, height, paper[height])
        _finish(left, results.study)
        _draw_widths(right, results, paper)
        handles = dict(sorted(zip(*left.get_legend_handles_labels()[::-1], strict=True)))
        handles[DIVERGED] = handles.pop(DIVERGED)  # last, after the heights
        columns = len(results.study.heights) + 1
        canvas.legend(handles.values(), handles, loc="outside lower center", ncols=columns)
    write_text(path.with_suffix(".md"), table(results, paper, rules))
    return [path.with_suffix(".svg")]


def table(results: Results, paper: Lines, rules: str) -> str:
    """The figure's numbers in Markdown, with what there is to say about them."""
    study = results.study
    heights = [f"height {height}" for height in results.study.heights]
    parts = [
        f"# {results.study.title}",
        caption(results),
        rows(
            ["first step size", *heights],
            [_at(results, lr, paper) for lr in results.study.step_sizes],
        ),
        f"{study.label.capitalize()}{' in percent' if study.unit else ''}: mean over the seeds "
        "with its 95 % bootstrap interval; in parentheses the paper's, read off its figure.",
        rows(["", *heights], _summary(results, paper)),
        "Width: the decades of step sizes that end within 10 % of the least error at that height, "
        "and better than a guess. It tells nothing of how low that error is.",
        findings(judge(results, paper)),
        f"![Test errors and widths]({results.tier}.svg)",
        ruling(rules),
    ]
    return points.page(parts)


def _at(results: Results, lr: float, paper: Lines) -> list[str]:
    cells = []
    for height in results.study.heights:
        lost = diverged(results, height, lr)
        printed = f" ({paper[height][lr]:.1f})" if lr in paper[height] else ""
        note = f", {lost} diverged" if lost else ""
        cells.append(f"{point(results, height, lr).text(1)}{printed}{note}")
    return [f"{lr:g}", *cells]


def _summary(results: Results, paper: Lines) -> list[list[str]]:
    ours = [each.text(1) for each in mean_widths(results).values()]
    printed = [paper_width(results, paper[h]) for h in results.study.heights]
    means = [
        {lr: point(results, h, lr).mean for lr in results.study.step_sizes}
        for h in results.study.heights
    ]
    return [
        ["width in decades", *(f"{o} ({p})" for o, p in zip(ours, printed, strict=True))],
        [f"least mean {results.study.label}{results.study.unit}", *map(_best, means)],
    ]


def _best(line: Line) -> str:
    known = [error for error in line.values() if not math.isnan(error)]
    return fixed(min(known), 2) if known else "-"


def _draw_line(axes: Axes, results: Results, height: int, paper: Line) -> None:
    color, marker = PALETTE[height], MARKERS[height]
    ours = {lr: point(results, height, lr) for lr in results.study.step_sizes}
    # Side by side, or lines that agree would hide one another.
    shift = 10 ** (0.07 * (height - 1.5))
    xs = [lr * shift for lr in results.study.step_sizes]
    points.line(
        axes, xs, list(ours.values()), color=color, marker=marker, label=f"height {height}, ours"
    )
    axes.plot(
        [lr * shift for lr in paper], list(paper.values()), marker, color=color, markersize=7,
        markerfacecolor="none", alpha=0.7, label=f"height {height}, paper",
    )  # fmt: skip
    for lr, x in zip(results.study.step_sizes, xs, strict=True):
        if lost := diverged(results, height, lr):
            axes.plot(x, 1, "x", color=color, transform=axes.get_xaxis_transform(), clip_on=False)
            axes.annotate(
                str(lost), (x, 1), xycoords=axes.get_xaxis_transform(), xytext=(0, 4),
                textcoords="offset points", ha="center", fontsize="x-small", color=color,
            )  # fmt: skip


def _finish(axes: Axes, study: TowerSweep) -> None:
    axes.plot([], [], "x", color="black", label=DIVERGED)
    axes.set_xscale("log")
    axes.set_xticks(study.step_sizes, [f"{math.log10(lr):.0f}" for lr in study.step_sizes])
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_xlabel("log10 of the bottom level's first step size")
    axes.set_yscale("log")
    axes.set_ylim(top=max(100, study.guess + 10))
    numbered(axes.yaxis, TICKS)
    axes.set_ylabel(f"{study.label}{f' ({study.unit.strip()})' if study.unit else ''}")
    axes.set_title(
        "ours: mean, 95 % interval; the paper's (open): read off its figure", size="small",
        pad=14,  # above the counts of those that diverged
    )  # fmt: skip


def _draw_widths(axes: Axes, results: Results, paper: Lines) -> None:
    study = results.study
    for height, ours in mean_widths(results).items():
        color, marker = PALETTE[height], MARKERS[height]
        found = list(widths(results, height).values())
        axes.plot([height] * len(found), found, marker, color=color, alpha=0.35, markersize=4)
        axes.plot([height - 0.2, height + 0.2], [ours.mean] * 2, color=color, linewidth=2)
        if len(paper[height]) == len(study.step_sizes):
            axes.plot(
                height + 0.3, width(paper[height], study.guess), marker, color=color,
                markersize=7, markerfacecolor="none", alpha=0.7,
            )  # fmt: skip
    axes.set_title("within 10 % of the best:\neach seed, mean, paper (open)", size="small")
    axes.set_xticks(study.heights)
    axes.set_xlabel("height")
    axes.set_ylabel("width (decades)")
    axes.set_ylim(-0.3, (len(study.step_sizes) + 0.5) * study.spacing)
