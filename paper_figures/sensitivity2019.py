"""The 2019 version's Figure 3, drawn and judged: towers of SGD to height 5 by first step size."""

import math
from collections.abc import Iterable
from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes

from experiments.files import write_text
from experiments.studies.sensitivity2019 import HEIGHTS, STEP_SIZES, name
from experiments.words import fixed
from paper_figures import points
from paper_figures.claims import (
    NOT,
    PARTLY,
    REPRODUCED,
    Claim,
    Estimate,
    estimate,
    fewest_runs,
    findings,
    lacking,
    lines,
    paired,
    ruling,
    share_of,
    standing,
    tally,
)
from paper_figures.results import Results
from paper_figures.results import caption as caption
from paper_figures.style import PALETTE, figure, legend

RULES = """\
- The 2019 version prints no numbers for this figure; its accuracies are read off it. A point agrees
  if our mean is within 5 points of it. A line is `reproduced` if four fifths of its points agree,
  `partly` if half do.
- A run that diverged counts with an accuracy of 10 %, that of a guess among ten classes.
- These rules were committed together with the results; that they are older nothing shows.
- A tower works from the first step size, of the 20 tried, at which it is right for more than 80 %
  of the test set. That start is `reproduced` if our mean, in decades, is within one step of the
  grid (0.53 decades) of theirs. A level moves it down if the 95 % bootstrap interval of what it
  gains, paired by seed, lies above 0. (The latter came after the results.) "Each level moves it
  down" takes both, of every height and level of their figure.
- "About one order of magnitude a level" holds for a level that moves the start by 0.5 to 2 decades,
  and is judged of the levels of their figure; "no more change from 5 or 6 levels on" holds if level
  5 moves it by less than half a step of the grid. (Both were judged of level 5 at first, where one
  excludes the other; that was mended after the results.)
- Beyond 100 a tower does poorly if it is right for less than 50 %.
- A claim about several heights is `reproduced` if it holds for all of them, `partly` for some.
- Numbers from another data set than theirs are `not testable`."""

STEP = 10 / 19  # decades from one step size to the next
WORKS = 80.0
POOR = 50.0
# Test accuracy in percent, read off their Fig. 3 by pixel.
PAPER = {
    height: dict(zip(STEP_SIZES, line, strict=True))
    for height, line in enumerate(
        [
            (7.2, 7.2, 7.2, 7.2, 7.3, 7.6, 8.9, 15.1, 41.9, 71.5,
             81.3, 86.3, 89.4, 90.6, 91.8, 91.7, 69.8, 36.0, 35.5, 37.3),
            (7.2, 7.3, 7.7, 9.0, 15.5, 42.5, 71.2, 80.5, 84.4, 87.4,
             88.9, 89.9, 90.0, 89.7, 89.4, 82.0, 66.7, 18.5, 14.1, 18.8),
            (7.6, 8.9, 14.8, 40.7, 69.6, 79.3, 83.1, 85.9, 87.9, 88.9,
             89.7, 90.0, 89.9, 89.7, 89.4, 83.1, 75.9, 40.0, 31.0, 10.1),
            (8.3, 11.4, 28.1, 59.1, 76.4, 81.5, 84.3, 86.8, 88.1, 89.0,
             89.7, 90.0, 89.9, 89.6, 89.4, 83.1, 75.9, 40.0, 31.0, 10.1),
        ]
    )
}  # fmt: skip
LEVELS = tuple(PAPER)[1:]  # those of their figure
MARKERS = ("o", "s", "^", "D", "v", "P")


def accuracies(results: Results, height: int, lr: float) -> dict[int, float]:
    return {s: 100 - e for s, e in points.errors(results, name(height, lr)).items()}


def accuracy(results: Results, height: int, lr: float) -> Estimate:
    found = accuracies(results, height, lr)
    return estimate(found.values(), results.planned[name(height, lr)])


def start(line: dict[float, float]) -> float:
    """The decade of the first step size that works; one step beyond the last if none does."""
    works = [lr for lr, value in line.items() if value > WORKS]
    return math.log10(min(works)) if works else math.log10(STEP_SIZES[-1]) + STEP


def starts(results: Results, height: int) -> dict[int, float]:
    """`start` by seed, of those that have the whole line."""
    by_lr = {lr: accuracies(results, height, lr) for lr in STEP_SIZES}
    seeds = set.intersection(*(set(values) for values in by_lr.values()))
    return {s: start({lr: values[s] for lr, values in by_lr.items()}) for s in sorted(seeds)}


def claims(results: Results) -> list[Claim]:
    """All claims of the 2019 version about this figure."""
    found = [_line(results, height) for height in PAPER]
    found += [_starts(results), _levels(results), _enough(results), _large(results)]
    return [standing(claim, results) for claim in found]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    found = {height: each for height in HEIGHTS if (each := _start(results, height)).n}
    gains = {level: each for level in HEIGHTS[1:] if (each := _gain(results, level)).n}
    if not found:
        return "No height has a whole line yet."
    text = (
        f"Towers of height {_listed(found)} work from 10 to the power of "
        f"{', '.join(each.plain() for each in found.values())}"
    )
    if gains:
        text += (
            f": levels {_listed(gains)} gain {', '.join(each.plain() for each in gains.values())} "
            "decades, where the 2019 version says about one each"
        )
    return f"{text}."


def _listed(heights: Iterable[int]) -> str:
    return ", ".join(map(str, heights))


def _line(results: Results, height: int) -> Claim:
    paper = PAPER[height]
    ours = {lr: accuracy(results, height, lr) for lr in paper}
    near = {lr: bool(abs(o.mean - paper[lr]) <= 5) if o.n else None for lr, o in ours.items()}
    off = [lr for lr, is_near in near.items() if is_near is False]
    agree = 1 - len(off) / len(paper)
    verdict = REPRODUCED if agree >= 0.8 else PARTLY if agree >= 0.5 else NOT
    away = ", ".join(f"{ours[lr].plain(0)} and not {paper[lr]:.0f} at {lr:.2g}" for lr in off)
    return Claim(
        f"Height {height}: test accuracy by first step size",
        f"{len(paper)} points, {min(paper.values()):.0f} to {max(paper.values()):.0f} %",
        f"{tally(list(near.values()), 'points')} within 5 points",
        fewest_runs(ours.values()),
        lacking(ours.values(), 1) or verdict,
        f"Away from theirs: {away}." if off else "",
    )


def _starts(results: Results) -> Claim:
    ours = [_start(results, height) for height in PAPER]
    theirs = [start(line) for line in PAPER.values()]
    gains = {level: _gain(results, level) for level in LEVELS}
    near = [abs(o.mean - x) <= STEP + 1e-6 for o, x in zip(ours, theirs, strict=True)]
    idle = [level for level, gain in gains.items() if gain.above is False]
    return Claim(
        "Each level moves the first step size that works (more than 80 % right) down",
        lines(f"height {h}: 10^{x:.2f}" for h, x in zip(PAPER, theirs, strict=True)),
        lines(
            [
                f"height {h}: {'10^' if o.n else ''}{o.text(2)}"
                for h, o in zip(PAPER, ours, strict=True)
            ]
            + [f"level {level} gains {gain.text(2)} decades" for level, gain in gains.items()]
        ),
        fewest_runs([*ours, *gains.values()]),
        share_of([*ours, *gains.values()], [*near, *(gain.above for gain in gains.values())]),
        f"Not shown for level {_listed(idle)}." if idle else "",
    )


def _start(results: Results, height: int) -> Estimate:
    return estimate(starts(results, height).values(), results.least_planned)


def _gain(results: Results, level: int) -> Estimate:
    """By how many decades `level` moves the start down."""
    below, here = starts(results, level - 1), starts(results, level)
    return paired(below, here, results.least_planned)


def _levels(results: Results) -> Claim:
    gains = {level: _gain(results, level) for level in LEVELS}
    theirs = [start(line) for line in PAPER.values()]
    other = [level for level, g in gains.items() if not 0.5 <= g.mean <= 2]
    shown = [gain.mean for gain in gains.values() if gain.n]
    return Claim(
        "A level more makes a tower about one order of magnitude less sensitive",
        lines(f"level {i}: {theirs[i - 1] - theirs[i]:.2f} decades" for i in LEVELS),
        lines(f"level {i}: {g.text(2)} decades" for i, g in gains.items()),
        fewest_runs(gains.values()),
        share_of(list(gains.values()), [level not in other for level in gains]),
        f"On average {fixed(mean(shown), 2)} decades a level; in their figure "
        f"{(theirs[0] - theirs[-1]) / len(LEVELS):.2f}."
        if len(shown) == len(LEVELS)
        else "",
    )


def _enough(results: Results) -> Claim:
    last = _gain(results, HEIGHTS[-1])
    return Claim(
        "From five or six levels on, nothing changes any more",
        "in words only",
        f"level {HEIGHTS[-1]}: {last.text(2)} decades",
        last.count,
        share_of([last], [last.mean < STEP / 2]),
        f"The grid's step is {STEP:.2f} decades: what moves less can't be seen on it.",
    )


def _large(results: Results) -> Claim:
    large = [lr for lr in STEP_SIZES if lr > 100]
    best = {
        h: max((accuracy(results, h, lr) for lr in large), key=lambda e: e.mean) for h in HEIGHTS
    }
    lost = sum(points.diverged(results, name(h, lr)) for h in HEIGHTS for lr in large)
    return Claim(
        "Beyond a first step size of 100, towers of every height do poorly",
        lines(f"height {h}: {max(line[lr] for lr in large):.0f} %" for h, line in PAPER.items()),
        lines(f"height {h}: {e.text(0, ' %')} at best" for h, e in best.items()),
        fewest_runs(best.values()),
        share_of(list(best.values()), [e.mean < POOR for e in best.values()]),
        f"{lost} of these runs diverged." if lost else "",
    )


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    with figure(path, (10, 6)) as canvas:
        canvas.suptitle(f"{results.study.title}\n{caption(results)}")
        panels = canvas.subplots(2, 3, sharex=True, sharey=True)
        for height, axes in zip(HEIGHTS, panels.flat, strict=True):
            _panel(axes, results, height)
        for axes in panels[-1]:
            axes.set_xlabel("first step size of every level")
        canvas.supylabel("test accuracy (%)")
        legend(canvas, [panels[0, 1]], 4)
    write_text(path.with_suffix(".md"), _table(results))
    return [path.with_suffix(".svg")]


def _panel(axes: Axes, results: Results, height: int) -> None:
    color, marker = PALETTE[height], MARKERS[height]
    plain = [accuracy(results, 0, lr).mean for lr in STEP_SIZES]
    axes.plot(STEP_SIZES, plain, color="gray", linewidth=1, label="plain SGD, ours")
    if height:
        ours = [accuracy(results, height, lr) for lr in STEP_SIZES]
        points.line(axes, STEP_SIZES, ours, color=color, marker=marker, label="tower, ours")
    if height in PAPER:
        axes.plot(
            list(PAPER[height]), list(PAPER[height].values()), marker, color=color, markersize=7,
            markerfacecolor="none", alpha=0.7, label="2019 version, read off",
        )  # fmt: skip
    axes.axhline(WORKS, color="black", linewidth=0.6, linestyle=":", label="80 %")
    axes.set_title(f"height {height}" + (", plain SGD" if height == 0 else ""), size="small")
    axes.set_xscale("log")
    axes.set_ylim(0, 100)


def _table(results: Results) -> str:
    head = ["first step size", *(f"height {h}" for h in HEIGHTS)]
    body = []
    for lr in STEP_SIZES:
        row = [f"{lr:.3g}"]
        for h in HEIGHTS:
            printed = f" ({PAPER[h][lr]:.1f})" if h in PAPER else ""
            row.append(accuracy(results, h, lr).text(1) + printed)
        body.append(row)
    body.append(
        ["works from 10^", *(_start(results, h).text(2) for h in HEIGHTS)],
    )
    parts = [
        f"# {results.study.title}",
        caption(results),
        points.table(head, body),
        "Test accuracy in percent: mean over the seeds with its 95 % bootstrap interval; in "
        "parentheses the 2019 version's, read off its figure.",
        findings(claims(results)),
        f"![Test accuracies]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
