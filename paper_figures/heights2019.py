"""Towers of SGD to height 50, drawn and judged."""

from pathlib import Path

from experiments.files import write_text
from experiments.studies.heights2019 import HEIGHTS, STEP_SIZES, name
from experiments.words import fixed
from paper_figures import points
from paper_figures.claims import (
    Claim,
    Estimate,
    fewest_runs,
    findings,
    lines,
    paired,
    ruling,
    share_of,
    standing,
)
from paper_figures.results import Results
from paper_figures.results import caption as caption
from paper_figures.style import PALETTE, figure, numbered

RULES = """\
- These rules were committed together with the results; that they are older nothing shows.
- Three levels are enough at a first step size if no taller tower's mean error is lower by more than
  a tenth of that of height 3.
- Tall towers stay sound at a first step size if the error at height 50 is above that at height 3 by
  no more than a tenth, and none of these runs diverged.
- A claim about several step sizes is `reproduced` if it holds for all of them, `partly` for some.
- Numbers from another data set than theirs are `not testable`."""

ENOUGH = 3
TENTH = 0.1
MARKERS = ("o", "s", "^", "D")
TICKS = (5, 10, 20, 30, 50, 90)


def point(results: Results, height: int, lr: float) -> Estimate:
    return points.point(results, name(height, lr))


def claims(results: Results) -> list[Claim]:
    """What the 2019 version says of many levels, and what a user of them wants to know."""
    return [standing(claim, results) for claim in (_enough(results), _sound(results))]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    taller = [h for h in HEIGHTS if h >= ENOUGH]
    spans = {}
    for lr in STEP_SIZES:
        found = [point(results, height, lr) for height in taller]
        if all(each.n for each in found):
            means = [each.mean for each in found]
            spans[lr] = max(means) - min(means)
    if not spans:
        return f"From no start have all heights from {taller[0]} to {taller[-1]} runs yet."
    widest = max(spans, key=lambda lr: spans[lr])
    starts = "every start"
    if len(spans) < len(STEP_SIZES):
        starts = f"{len(spans)} of {len(STEP_SIZES)} starts, those that have runs of all"
    return (
        f"Heights {taller[0]} to {taller[-1]} end within {fixed(spans[widest], 2)} points of one "
        f"another from {starts} (the widest: {widest:g})."
    )


def _enough(results: Results) -> Claim:
    taller = [h for h in HEIGHTS if h > ENOUGH]
    at = {lr: point(results, ENOUGH, lr) for lr in STEP_SIZES}
    others = {lr: {h: point(results, h, lr) for h in taller} for lr in STEP_SIZES}
    # One that has no runs is never the best.
    best = {
        lr: min(found.items(), key=lambda x: (not x[1].n, x[1].mean))
        for lr, found in others.items()
    }
    every = [*at.values(), *(each for found in others.values() for each in found.values())]
    return Claim(
        "Three or four levels are enough",
        "in words only",
        lines(
            f"from {lr:g}: height {ENOUGH} {at[lr].text(1, ' %')}, best of the taller "
            f"(height {best[lr][0]}) {best[lr][1].text(1, ' %')}"
            for lr in STEP_SIZES
        ),
        fewest_runs(every),
        share_of(
            every,
            [best[lr][1].mean >= (1 - TENTH) * at[lr].mean for lr in STEP_SIZES],
        ),
    )


def _sound(results: Results) -> Claim:
    of = results.least_planned
    top = HEIGHTS[-1]
    more = {
        lr: paired(
            points.errors(results, name(top, lr)), points.errors(results, name(ENOUGH, lr)), of
        )
        for lr in STEP_SIZES
    }
    lost = {lr: points.diverged(results, name(top, lr)) for lr in STEP_SIZES}
    return Claim(
        f"A tower of {top} levels does no worse than one of {ENOUGH}",
        "not in the paper",
        lines(f"from {lr:g}: {m.text(1)} points more" for lr, m in more.items()),
        fewest_runs(more.values()),
        share_of(
            list(more.values()),
            [
                more[lr].mean <= TENTH * point(results, ENOUGH, lr).mean and not lost[lr]
                for lr in STEP_SIZES
            ],
        ),
        beside=True,
    )


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    places = range(len(HEIGHTS))
    with figure(path, (7, 4.2)) as canvas:
        canvas.suptitle(f"{results.study.title}\n{caption(results)}")
        axes = canvas.subplots()
        for i, lr in enumerate(STEP_SIZES):
            # Side by side, or lines that agree would hide one another.
            xs = [x + 0.06 * (i - 1.5) for x in places]
            ys = [point(results, height, lr) for height in HEIGHTS]
            label = f"every level from {lr:g}"
            points.line(axes, xs, ys, color=PALETTE[i], marker=MARKERS[i], label=label)
        axes.set_xticks(list(places), [str(height) for height in HEIGHTS])
        axes.set_xlabel("height: levels above the bottom")
        axes.set_yscale("log")
        axes.set_ylim(top=100)
        numbered(axes.yaxis, TICKS)
        axes.set_ylabel("test error (%)")
        axes.set_title("mean, 95 % interval", size="small")
        canvas.legend(loc="outside lower center", ncols=2)
    write_text(path.with_suffix(".md"), _table(results))
    return [path.with_suffix(".svg")]


def _table(results: Results) -> str:
    head = ["height", *(f"from {lr:g}" for lr in STEP_SIZES)]
    body = [[str(h), *(point(results, h, lr).text(1) for lr in STEP_SIZES)] for h in HEIGHTS]
    parts = [
        f"# {results.study.title}",
        caption(results),
        points.table(head, body),
        "Test error in percent: mean over the seeds with its 95 % bootstrap interval.",
        findings(claims(results)),
        f"![Test errors]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
