"""The best step size for a horizon, drawn and judged: is the learned one greedy?"""

import math
from pathlib import Path

import numpy as np

import gdtuo
from experiments.files import write_text
from experiments.studies.horizon import (
    HORIZONS,
    OTHERS,
    STEP_SIZES,
    TOWER,
    elsewhere,
    name,
)
from experiments.tasks.mlp import WARM
from experiments.words import counted
from paper_figures import points
from paper_figures.claims import (
    Claim,
    Estimate,
    estimate,
    findings,
    lines,
    paired,
    ruling,
    share_of,
    standing,
)
from paper_figures.results import Results
from paper_figures.results import caption as extent
from paper_figures.style import PALETTE, figure

RULES = """\
- The best step size for a horizon is that whose test loss after so many steps is least, of eleven,
  two to a decade; it is taken seed by seed, and its mean is that of its logarithm.
- The learned step size is the median over the second half of the tower's 1000 steps.
- Short horizons want smaller steps if the 95 % bootstrap interval of what the logarithm of the best
  grows by from 1 to 1000 steps, paired by seed, lies above 0.
- The learned step size is greedy if, from a start between the best for one step and the best for
  1000, it moves towards the former: if the interval of the logarithm of what the tower from 1
  learns lies below 0. This rule came after the results: the first one asked, of the tower from 0.1,
  to which of the two it is nearer, and it held; but towers from elsewhere then showed that after
  1000 steps a learned step size is still near its start, so that nearness proves nothing.
- The tower loses something if the interval of what its test loss after 1000 steps lies above that
  of the best constant step size lies above 0. How much of that is its start's is what the constant
  step size at the tower's start loses; what the tower's loss lies above that one's is what learning
  adds. (These two came after the results, and no verdict rests on them.)
- A run that diverged counts with a loss of 2.303, that of a guess among ten classes.
- Numbers from another data set than MNIST are `not testable`."""

SHORT, LONG = HORIZONS[0], HORIZONS[-1]
OWN = "not in the paper"
BETWEEN = 1.0
START = float(gdtuo.parse(TOWER).lr)


def best(results: Results, horizon: int) -> dict[int, float]:
    """The best step size by seed, of those that have the whole line."""
    by_lr = {lr: points.errors(results, name(horizon, lr)) for lr in STEP_SIZES}
    seeds = set.intersection(*(set(losses) for losses in by_lr.values()))
    return {seed: min(STEP_SIZES, key=lambda lr: by_lr[lr][seed]) for seed in sorted(seeds)}


def least_loss(results: Results, horizon: int) -> dict[int, float]:
    """The loss that the best step size ends with, by seed."""
    found = best(results, horizon)
    return {seed: points.errors(results, name(horizon, lr))[seed] for seed, lr in found.items()}


def logs(step_sizes: dict[int, float]) -> dict[int, float]:
    """Their decimal logarithms, by seed; one below 0 has none."""
    return {seed: math.log10(lr) for seed, lr in step_sizes.items() if lr > 0}


def learned(results: Results, cell: str = name(LONG)) -> dict[int, float]:
    """The step size that a tower learns, by seed."""
    return {
        record.run.seed: float(np.median(record.lr_last_epoch[len(record.lr_last_epoch) // 2 :]))
        for record in results.ok(cell)
    }


def claims(results: Results) -> list[Claim]:
    """What the study asks."""
    found = (_short(results), _greedy(results), _cost(results))
    return [standing(claim, results) for claim in found]


def caption(results: Results) -> str:
    """What is shown, and what came before."""
    warm_up = counted(results.study.tier(results.tier).options["warmup"], "step")
    return f"{extent(results)} Every run begins after {warm_up} of SGD at {WARM:g}."


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    of = results.least_planned
    best_for = [
        f"{_step_size(lrs, of)} for {_steps(h)}" for h in HORIZONS if (lrs := best(results, h))
    ]
    drifts = [f"{_step_size(end, of)} from {lr:g}" for lr, end in _ends(results).items() if end]
    parts = [
        f"After the warm-up the best constant step size is {', '.join(best_for)}."
        if best_for
        else "",
        f"The tower learns {', '.join(drifts)}." if drifts else "",
        _short(results).finding,
        _cost(results).finding,
    ]
    return " ".join(filter(None, parts)) or "Too little has run to say anything."


def _ends(results: Results) -> dict[float, dict[int, float]]:
    """What the towers learn, by their start."""
    ends = {START: learned(results)} | {lr: learned(results, elsewhere(lr)) for lr in OTHERS}
    return dict(sorted(ends.items()))


def _flat(results: Results) -> list[float]:
    """The step sizes whose mean loss after the shortest horizon is within a thousandth of the
    least, so that the best of them is chance."""
    found = {lr: points.point(results, name(SHORT, lr)) for lr in STEP_SIZES}
    known = {lr: loss.mean for lr, loss in found.items() if loss.n}
    return [lr for lr, loss in known.items() if loss <= 1.001 * min(known.values())]


def _step_size(values: dict[int, float], of: int) -> str:
    """The mean by logarithms, with its interval."""
    e = estimate(logs(values).values(), of)
    return Estimate(*(10**x for x in (e.mean, e.low, e.high)), e.n, of).text(3)


def _steps(horizon: int) -> str:
    return counted(horizon, "step")


def _short(results: Results) -> Claim:
    found = {horizon: best(results, horizon) for horizon in HORIZONS}
    of = results.least_planned
    gain = paired(logs(found[LONG]), logs(found[SHORT]), of)
    return Claim(
        f"The best step size for {SHORT} step is smaller than for {LONG}",
        OWN,
        lines(
            [f"{_steps(h)}: {_step_size(lrs, of)}" for h, lrs in found.items()]
            + [f"{gain.text(2)} decades from {SHORT} to {LONG}"]
        ),
        gain.count,
        share_of([gain], [gain.low > 0]),
        f"After {_steps(SHORT)} the mean losses of the step sizes from {flat[0]:g} to {flat[-1]:g} "
        "are within a thousandth of the least: which of them is best is chance."
        if len(flat := _flat(results)) > 1
        else "",
    )


def _greedy(results: Results) -> Claim:
    of = results.least_planned
    drift = estimate(logs(learned(results, elsewhere(BETWEEN))).values(), of)
    return Claim(
        f"The learned step size is greedy: from {BETWEEN:g}, between the best for {SHORT} step and "
        f"the best for {LONG}, it falls",
        OWN,
        lines(
            [f"from {start:g}: {_step_size(end, of)}" for start, end in _ends(results).items()]
            + [f"{drift.text(3)} decades from {BETWEEN:g}"]
        ),
        drift.count,
        share_of([drift], [drift.high < 0]),
    )


def _cost(results: Results) -> Claim:
    of = results.least_planned
    tower, least = points.errors(results, name(LONG)), least_loss(results, LONG)
    held = points.errors(results, name(LONG, START))
    more, start, added = paired(tower, least, of), paired(held, least, of), paired(tower, held, of)
    finding = ""
    if more.n:
        others = [
            f"{_learning(results, points.errors(results, elsewhere(lr)), lr)} from {lr:g}"
            for lr in OTHERS
        ]
        finding = (
            f"After {LONG} steps the tower's loss is {more.text(3)} above that of the best "
            f"constant step size. That of its start, {START:g}, held constant is {start.text(3)} "
            f"above it: to that learning {_learning(results, tower, START)}; to that of another "
            f"start it {', and '.join(others)}."
        )
    return Claim(
        f"After {LONG} steps the tower's loss is above that of the best constant step size",
        OWN,
        lines(
            [
                f"by {more.text(3)}",
                f"the constant step size at the tower's start, {START:g}, by {start.text(3)}",
                f"the tower above that one by {added.text(3)}",
            ]
        ),
        more.count,
        share_of([more], [more.low > 0]),
        finding,
    )


def _learning(results: Results, tower: dict[int, float], start: float) -> str:
    """What learning makes of the loss of its start held constant."""
    held, of = points.errors(results, name(LONG, start)), results.least_planned
    added = paired(tower, held, of)
    if added.mean < 0:
        return f"takes off {paired(held, tower, of).text(3)}"
    return f"adds {added.text(3)}"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    with figure(path, (10, 4.6)) as canvas:
        canvas.suptitle(f"{results.study.title}\n{caption(results)}")
        left, right = canvas.subplots(1, 2)
        for color, horizon in zip(PALETTE, HORIZONS, strict=False):
            losses = [points.point(results, name(horizon, lr)) for lr in STEP_SIZES]
            points.line(left, STEP_SIZES, losses, color=color, marker="o", label=_steps(horizon))
            own = points.point(results, name(horizon)).mean
            left.axhline(own, color=color, linestyle=":", linewidth=1)
        left.axhline(math.nan, color="gray", linestyle=":", label="the tower's loss, by horizon")
        left.set_xscale("log")
        left.set_xlabel("constant step size")
        left.set_ylabel("test loss")
        of = results.least_planned
        found = [estimate(logs(best(results, h)).values(), of) for h in HORIZONS]
        points.line(right, HORIZONS, found, color="black", marker="o", label="best constant")
        # Colors and dashes that mean nothing on the left.
        for (start, lrs), i in zip(_ends(results).items(), (4, 5, 9), strict=True):
            end = estimate(logs(lrs).values(), of).mean
            look = {"color": PALETTE[i], "linestyle": "--"}
            right.axhline(end, label=f"learned from {start:g}", **look)
        right.set_xscale("log")
        right.set_xlabel("horizon (steps)")
        right.set_ylabel("log10 of the step size")
        handles = [axes.get_legend_handles_labels() for axes in (left, right)]
        canvas.legend(
            handles[0][0] + handles[1][0], handles[0][1] + handles[1][1],
            loc="outside lower center", ncols=5,
        )  # fmt: skip
    write_text(path.with_suffix(".md"), _table(results))
    return [path.with_suffix(".svg")]


def _table(results: Results) -> str:
    of = results.least_planned
    body = [
        [str(h), _step_size(best(results, h), of),
         estimate(least_loss(results, h).values(), of).text(3),
         points.point(results, name(h)).text(3)]
        for h in HORIZONS
    ]  # fmt: skip
    parts = [
        f"# {results.study.title}",
        caption(results),
        points.table(["horizon", "best constant step size", "its test loss", "the tower's"], body),
        f"The tower is `{TOWER}`; it learns a step size of {_step_size(learned(results), of)}. "
        "Means over the seeds with their 95 % bootstrap intervals.",
        findings(claims(results)),
        f"![Losses by step size and the best by horizon]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
