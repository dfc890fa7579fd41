"""Table 1 by the top optimizer's step size, drawn and judged."""

from collections.abc import Iterable, Sequence
from math import floor, log10
from pathlib import Path

import matplotlib.ticker
from matplotlib.axes import Axes

import gdtuo
from experiments.files import write_text
from experiments.studies.kappa import BASELINES, TOWERS, grid, name
from experiments.words import fixed
from paper_figures import points
from paper_figures.claims import (
    NOT,
    PARTLY,
    REPRODUCED,
    Claim,
    Estimate,
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
from paper_figures.style import PALETTE, figure, numbered
from paper_figures.table1_rows import PAPER

RULES = """\
- The values beside ours are JessHua159's, 3 runs each of the published code. A point agrees if our
  mean is within 1 point of theirs, or within a quarter of it. A row is `reproduced` if four fifths
  of its points agree, `partly` if half do.
- A run that diverged counts with an error of 90 %, that of a guess among ten classes.
- A kappa beats the baseline if the 95 % bootstrap interval of what it takes off the error of the
  plain optimizer, paired by seed, lies above 0.
- A row does not hang on its kappa if every kappa tried within a factor of ten of the paper's beats
  the baseline. A row of which none but the paper's own was tried there is left out. (The latter
  came after the results.)
- A claim about several rows is `reproduced` if it holds for all of them, `partly` for some.
- Numbers from another data set than the paper's are `not testable`."""

# Test error in percent by kappa; JessHua159's report of the published code, 3 trials.
SECONDARY = {
    "SGD / SGD": {
        0.01: 4.90, 0.1: 6.97, 1.0: 6.78, 10.0: 4.72, 50.0: 7.81, 75.0: 38.1, 1000.0: 80.4,
    },
    "Adam / SGD(1e-05)": {1e-5: 3.14, 1e-4: 3.05, 1e-3: 4.71, 5e-3: 35.9, 1e-2: 79.6},
    "AdaGrad / SGD": {0.01: 6.92, 1.0: 7.86, 5.0: 57.9},
    "RMSProp^{lr,gamma} / SGD(0.0001)": {1e-4: 3.36, 1e-2: 6.36, 2.5e-2: 88.8},
}  # fmt: skip
MARKERS = ("o", "s", "^", "D")
TICKS = (2, 3, 5, 10, 20, 30, 50, 90)


def baseline(row: str) -> str:
    """The plain optimizer that a row starts from."""
    return type(gdtuo.parse(row)).__name__


def own(row: str) -> float:
    """The paper's kappa."""
    return float(gdtuo.parse(row).optimizer.lr)


def gain(results: Results, row: str, kappa: float) -> Estimate:
    """What a kappa takes off the error of the plain optimizer, in points."""
    plain = points.errors(results, baseline(row))
    towers = points.errors(results, name(row, kappa))
    return paired(plain, towers, results.planned[name(row, kappa)])


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    stable = [_stable(gains) for gains in _nearby(results).values()]
    parts = [
        "At every kappa tried within a factor of ten of the paper's, the baseline is beaten by "
        f"{tally(stable, 'towers')}; {_tried()}."
    ]
    errors = {
        row: {k: e.mean for k in grid(row) if (e := points.point(results, name(row, k))).n}
        for row in TOWERS
    }
    gained = {
        row: by_kappa[own(row)] - min(by_kappa.values())
        for row, by_kappa in errors.items()
        if own(row) in by_kappa and len(by_kappa) > 1
    }
    if gained:
        most = max(gained, key=gained.__getitem__)
        best = min(errors[most], key=errors[most].__getitem__)
        parts.append(
            f"Most is to be gained over the paper's kappa for `{most}`: it ends at "
            f"{fixed(errors[most][best], 2)} % with {best:g}, and at "
            f"{fixed(errors[most][own(most)], 2)} % with the paper's {own(most):g}."
        )
    return " ".join(parts)


def claims(results: Results) -> list[Claim]:
    """What others found of four rows, and whether any row hangs on its kappa."""
    found = [_secondary(results, row) for row in SECONDARY]
    return [standing(claim, results) for claim in (*found, _hangs(results))]


def _secondary(results: Results, row: str) -> Claim:
    theirs = SECONDARY[row]
    ours = {kappa: points.point(results, name(row, kappa)) for kappa in theirs}
    off = [k for k, o in ours.items() if not abs(o.mean - theirs[k]) <= max(1, theirs[k] / 4)]
    agree = 1 - len(off) / len(theirs)
    verdict = REPRODUCED if agree >= 0.8 else PARTLY if agree >= 0.5 else NOT
    lost = {k: points.diverged(results, name(row, k)) for k in theirs}
    gone = ", ".join(f"{n} at {k:g}" for k, n in lost.items() if n)
    return Claim(
        f"`{row}`: test error by kappa, as others measured it on the published code",
        lines(f"{k:g}: {value:.2f} %" for k, value in theirs.items()),
        lines(f"{k:g}: {o.text(2, ' %')}" for k, o in ours.items()),
        fewest_runs(ours.values()),
        lacking(ours.values(), 1) or verdict,
        f"Diverged: {gone}." if gone else "",
    )


def _near(row: str) -> list[float]:
    """The kappas tried within a factor of ten of the paper's, which is one of them."""
    return [kappa for kappa in grid(row) if 0.099 <= kappa / own(row) <= 10.1]


def _nearby(results: Results) -> dict[str, list[Estimate]]:
    """By tower, the gain of each of these; without those of which there is no other."""
    return {
        row: [gain(results, row, kappa) for kappa in near]
        for row in TOWERS
        if len(near := _near(row)) > 1
    }


def _stable(gains: Sequence[Estimate]) -> bool | None:
    return None if lacking(gains) else all(each.low > 0 for each in gains)


def _tried() -> str:
    """Which rows say nothing of a factor of ten, or of one direction only."""
    alone = [row for row in TOWERS if len(_near(row)) == 1]
    others = [row for row in TOWERS if row not in alone]
    sides = {
        "upwards": [row for row in others if min(_near(row)) == own(row)],
        "downwards": [row for row in others if max(_near(row)) == own(row)],
    }
    parts = [f"left out, as none but the paper's was tried there: {_rows(alone)}"] if alone else []
    parts += [f"tried {way} only: {_rows(rows)}" for way, rows in sides.items() if rows]
    return "; ".join(parts)


def _rows(rows: Iterable[str]) -> str:
    return ", ".join(f"`{row}`" for row in rows)


def _hangs(results: Results) -> Claim:
    gains = _nearby(results)
    holds = {row: _stable(found) for row, found in gains.items()}
    failing = [row for row, good in holds.items() if good is False]
    tried = _tried()
    return Claim(
        "No row of Table 1 hangs on its kappa: ten times less or more beats the baseline too",
        "not in the paper: one kappa a row",
        lines(f"`{row}`: {_decades(results, row)}" for row in gains),
        fewest_runs(g for found in gains.values() for g in found),
        share_of([g for found in gains.values() for g in found], list(holds.values())),
        (f"Not so for {_rows(failing)}: some kappa that near doesn't. " if failing else "")
        + f"{tried[0].upper()}{tried[1:]}.",
    )


def _decades(results: Results, row: str) -> str:
    """Which of the kappas beat the baseline."""
    above = {kappa: gain(results, row, kappa).above for kappa in grid(row)}
    better = [kappa for kappa, is_above in above.items() if is_above]
    share = f"better at {tally(list(above.values()), 'kappas')}"
    if not better:
        return share
    if len(better) == 1:
        return f"{share}, {better[0]:g}"
    return f"{share}, from {min(better):g} to {max(better):g}"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    with figure(path, (13, 7)) as canvas:
        canvas.suptitle(f"{results.study.title}\n{caption(results)}")
        panels = canvas.subplots(2, 2, sharey=True)
        for plain, axes in zip(BASELINES, panels.flat, strict=True):
            _panel(axes, results, plain)
        canvas.supxlabel("kappa, the step size of the top optimizer")
        canvas.supylabel("test error (%)")
    write_text(path.with_suffix(".md"), _table(results))
    return [path.with_suffix(".svg")]


def _panel(axes: Axes, results: Results, plain: str) -> None:
    level = points.point(results, plain)
    axes.axhline(level.mean, color="gray", linestyle="--", label=f"{plain} (baseline)")
    for i, row in enumerate(row for row in TOWERS if baseline(row) == plain):
        color, marker = PALETTE[i], MARKERS[i]
        kappas = list(grid(row))
        ys = [points.point(results, name(row, kappa)) for kappa in kappas]
        points.line(axes, kappas, ys, color=color, marker=marker, label=row)
        axes.plot(
            own(row), PAPER[row].error[0], "*", color=color, markersize=13, markerfacecolor="none"
        )
        theirs = SECONDARY.get(row, {})
        axes.plot(list(theirs), list(theirs.values()), "x", color=color, markersize=7)
    axes.plot([], [], "*", color="black", markersize=10, markerfacecolor="none", label="the paper")
    axes.plot([], [], "x", color="black", label="others, published code")
    axes.set_xscale("log")
    low, high = (floor(log10(x)) for x in axes.get_xlim())
    axes.xaxis.set_major_locator(matplotlib.ticker.LogLocator(numticks=high - low + 3))
    axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.set_yscale("log")
    axes.set_ylim(2, 100)
    numbered(axes.yaxis, TICKS)
    axes.tick_params(labelleft=True)
    axes.legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1, 1))


def _table(results: Results) -> str:
    body = [[f"`{plain}`", "-", points.point(results, plain).text(2), ""] for plain in BASELINES]
    for row in TOWERS:
        for kappa in grid(row):
            lost = points.diverged(results, name(row, kappa))
            beside = [f"{SECONDARY[row][kappa]:.2f}"] if kappa in SECONDARY.get(row, {}) else []
            beside += [f"paper {PAPER[row].error[0]:.2f}"] if kappa == own(row) else []
            ours = points.point(results, name(row, kappa)).text(2)
            ours += f", {lost} diverged" if lost else ""
            body.append([f"`{row}`", f"{kappa:g}", ours, ", ".join(beside)])
    parts = [
        f"# {results.study.title}",
        caption(results),
        points.table(["row", "kappa", "error %", "others"], body),
        "Test error in percent: mean over the seeds with its 95 % bootstrap interval.",
        findings(claims(results)),
        f"![Test errors by kappa]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
