"""Figure 2a, drawn and judged: step size and momentum of ResNet-20, learned or constant."""

from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes

from experiments.files import write_text
from experiments.studies.figure2a import KINDS, MOMENTA, STEP_SIZES, name
from paper_figures import curves, points
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
from paper_figures.results import caption as extent
from paper_figures.style import PALETTE, figure, heading, legend

RULES = """\
- The paper prints no numbers for this figure: test errors are means over the last 10 epochs, read
  off its curves; of a run of fewer than 20 epochs ours is over its second half. A cell agrees if
  our mean is within 1 point of that, or within a quarter of it. A grid is `reproduced` if eight of
  its nine cells agree, `partly` if half do.
- A run that diverged counts with an error of 90 %, that of a guess among ten classes.
- Learned matches or beats constant in a cell if the 95 % bootstrap interval of the difference of
  their errors, paired by seed, does not reach above 1 point. (Until tier small had been seen, where
  this is not testable, it was enough that the interval did not lie above it whole.)
- Learned is as good as the good setting, (0.1, 0.9) held constant, if its mean error is no more
  than 1 point above that one's. From nearly every start it is, if as many cells are as in the
  paper, six of nine: that is `reproduced`, and `partly` if half as many are. Where some runs are
  longer, as in a shortened tier, each counts as it was when the shortest ended. (That came after
  tier small had been seen, where this is not testable; longer ones counted with their own end.)
- That learned matches or beats constant is `reproduced` if it does in all cells, `partly` in some.
- The effect comes late: by the paper's Fig. 2b the step size moves from 0.1 to 0.083 in the first
  ten epochs. In a shortened tier every claim is `not testable at this length`.
- Numbers from another data set than the paper's are `not testable`."""

GRID = [(lr, momentum) for lr in STEP_SIZES for momentum in MOMENTA]
GOOD = (0.1, 0.9)
# Test error in percent by (lr, momentum): held constant, learned; read off the paper's Fig. 2a,
# and train loss likewise, where the line stays on the page.
PAPER = {
    (0.01, 0.09): (16.4, 16.8),
    (0.01, 0.9): (12.4, 12.4),
    (0.01, 0.99): (12.1, 11.4),
    (0.1, 0.09): (13.7, 12.3),
    (0.1, 0.9): (13.2, 9.5),
    (0.1, 0.99): (28.7, 16.1),
    (1.0, 0.09): (18.7, 11.2),
    (1.0, 0.9): (33.7, 9.5),
    (1.0, 0.99): (87.2, 19.5),
}
LOSSES = {
    (0.01, 0.09): (0.33, 0.39),
    (0.01, 0.9): (0.19, 0.19),
    (0.01, 0.99): (0.42, 0.34),
    (0.1, 0.09): (0.20, 0.19),
    (0.1, 0.9): (0.42, 0.14),
    (0.1, 0.99): (1.07, 0.55),
    (1.0, 0.09): (0.46, 0.23),
    (1.0, 0.9): (1.05, 0.17),
    (1.0, 0.99): (None, 0.64),
}
CUT = 5.0  # about twice the loss of a guess; what is above would hide all else
SHOWN = (
    ("train_loss", f"train loss, up to {CUT:g}", LOSSES),
    ("test_error", "test error (%)", PAPER),
)


def claims(results: Results) -> list[Claim]:
    """All claims of the paper about this figure."""
    found = [_grid(results, i, kind) for i, kind in enumerate(KINDS)]
    found += [_better(results), _good(results)]
    return [standing(claim, results, late=True) for claim in found]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    found = {at: [_final(results, at, kind) for kind in KINDS] for at in GRID}
    beaten = [
        learned.mean <= constant.mean + 1 if learned.n and constant.n else None
        for constant, learned in found.values()
    ]
    others = [
        f"from {_at(at)} they end at {learned.plain(1, ' %')} and {constant.plain(1, ' %')}"
        for (at, (constant, learned)), holds in zip(found.items(), beaten, strict=True)
        if holds is not None and not holds
    ]
    parts = [
        "Learned step size and momentum end no more than a point above constant ones from "
        f"{tally(beaten, 'starts')}" + (f"; {', '.join(others)}." if others else ".")
    ]
    ends = {at: end for at in GRID if (end := _compared(results, at, "learned")).n}
    good = _compared(results, GOOD, "constant")
    within = curves.averaged(_shortest(results))
    if ends:
        best = min(ends, key=lambda at: ends[at].mean)
        parts.append(
            f"The best learned error ({within}) is {ends[best].plain(1, ' %')}, from {_at(best)}."
        )
    if good.n:
        parts.append(f"{_at(GOOD)} held constant is at {good.plain(1, ' %')} there.")
    return " ".join(parts)


def caption(results: Results) -> str:
    """What is shown, and which runs are longer than others."""
    shortest, longer = str(_shortest(results)), defaultdict(list)
    for at in GRID:
        if (epochs := _epochs(results, at)) not in (shortest, "-"):
            longer[epochs].append(_at(at))
    if not longer:
        return extent(results)
    which = (f"Those of {n} epochs: from {', '.join(starts)}." for n, starts in longer.items())
    return " ".join([extent(results), *which])


def _shortest(results: Results) -> int:
    """The epochs that all runs have."""
    return min((record.run.epochs for record in results.all()), default=0)


def _compared(results: Results, at: tuple[float, float], kind: str) -> Estimate:
    """The error after the epochs that all runs have."""
    return curves.final(results, name(*at, kind), "test_error", _shortest(results))


def _epochs(results: Results, at: tuple[float, float]) -> str:
    """Of the runs from there, in a shortened tier not the same from everywhere."""
    records = [r for kind in KINDS for r in results.records[name(*at, kind)].values()]
    return " or ".join(map(str, sorted({record.run.epochs for record in records}))) or "-"


def _grid(results: Results, column: int, kind: str) -> Claim:
    found = {at: _final(results, at, kind) for at in GRID}
    off = [
        at for at in GRID
        if not abs(found[at].mean - PAPER[at][column]) <= max(1, PAPER[at][column] / 4)
    ]  # fmt: skip
    agree = len(GRID) - len(off)
    verdict = REPRODUCED if agree >= 8 else PARTLY if agree >= 5 else NOT
    return Claim(
        f"Test error from each step size and momentum, {kind}",
        lines(f"{_at(at)}: {PAPER[at][column]:.1f} %" for at in GRID),
        lines(f"{_at(at)}: {found[at].text(1, ' %')}" for at in GRID),
        fewest_runs(found.values()),
        lacking(found.values(), 1) or verdict,
    )


def _final(results: Results, at: tuple[float, float], kind: str) -> Estimate:
    return curves.final(results, name(*at, kind), "test_error")


def _better(results: Results) -> Claim:
    gains = {}
    for at in GRID:
        constant, learned = (
            curves.finals(results, name(*at, kind), "test_error") for kind in KINDS
        )
        gains[at] = paired(learned, constant, results.planned[name(*at, "learned")])
    unsure = [at for at, gain in gains.items() if gain.n > 1 and not gain.high <= 1]
    return Claim(
        "From every start, learned step size and momentum match or beat constant ones",
        lines(f"{_at(at)}: {PAPER[at][1] - PAPER[at][0]:+.1f} points" for at in GRID),
        lines(f"{_at(at)}: {gain.text(1)} points" for at, gain in gains.items()),
        fewest_runs(gains.values()),
        share_of(list(gains.values()), [at not in unsure for at in gains]),
        f"Not shown from {', '.join(map(_at, unsure))}." if unsure else "",
    )


def _good(results: Results) -> Claim:
    reference = _compared(results, GOOD, "constant")
    found = {at: _compared(results, at, "learned") for at in GRID}
    holds = [
        bool(end.mean <= reference.mean + 1) if end.n and reference.n else None
        for end in found.values()
    ]
    ours = sum(hold is True for hold in holds)
    theirs = sum(learned <= PAPER[GOOD][0] + 1 for _, learned in PAPER.values())
    verdict = REPRODUCED if ours >= theirs else PARTLY if 2 * ours >= theirs else NOT
    return Claim(
        "From nearly every start, learning ends as well as the good setting",
        f"{theirs} of {len(GRID)} cells",
        f"{tally(holds, 'cells')}; the good setting: {reference.text(1, ' %')}",
        fewest_runs([reference, *found.values()]),
        lacking([reference, *found.values()]) or verdict,
    )


def _at(at: tuple[float, float]) -> str:
    return f"({at[0]:g}, {at[1]:g})"


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    with figure(path, (14, 7)) as canvas:
        canvas.suptitle(heading(results.study.title, caption(results), 145))
        blocks = canvas.subfigures(1, 2)
        for block, (curve, label, paper) in zip(blocks, SHOWN, strict=True):
            panels = block.subplots(3, 3, sharex=True, sharey=True)
            for row, lr in enumerate(STEP_SIZES):
                for column, momentum in enumerate(MOMENTA):
                    at = lr, momentum
                    _panel(panels[row, column], results, at, curve, paper[at])
            corner = panels[0, 0]  # the others share its axes
            corner.set_yscale("log")
            if curve == "train_loss" and corner.get_ylim()[1] > CUT:
                corner.set_ylim(top=CUT)
            for axes in panels.flat:
                curves.logarithmic(axes)
            block.supxlabel("epoch")
            block.supylabel(f"{label}, logarithmic")
        legend(canvas, [panels[0, 0]], 3)
    write_text(path.with_suffix(".md"), _table(results))
    return [path.with_suffix(".svg")]


def _panel(
    axes: Axes,
    results: Results,
    at: tuple[float, float],
    name_of: str,
    paper: tuple[float | None, float],
) -> None:
    drawn = (
        (GOOD, "constant", "0.6", "(0.1, 0.9), constant: He et al. without their schedule"),
        (at, "constant", PALETTE[0], "constant"),
        (at, "learned", "black", "learned"),
    )
    for start, kind, color, label in drawn:
        value = curves.curve(name_of)
        curves.plot(axes, results, name(*start, kind), value, color=color, label=label)
    if results.data == results.study.data:
        for end, (_, kind, color, _) in zip(paper, drawn[1:], strict=True):
            if end is not None:
                label = f"the paper's {kind}, after 200 epochs"
                axes.axhline(end, color=color, linestyle=":", linewidth=0.9, label=label)
    axes.set_title(f"lr {at[0]:g}, momentum {at[1]:g}", size="small")


def _table(results: Results) -> str:
    def loss(at: tuple[float, float], i: int) -> str:
        ours = curves.final(results, name(*at, KINDS[i]), "train_loss")
        return f"{ours.text(2)} ({LOSSES[at][i] or '-'})"

    body = [
        [_at(at), _epochs(results, at),
         *(f"{_final(results, at, kind).text(1)} ({PAPER[at][i]})" for i, kind in enumerate(KINDS)),
         *(loss(at, i) for i in range(len(KINDS)))]
        for at in GRID
    ]  # fmt: skip
    parts = [
        f"# {results.study.title}",
        caption(results),
        points.table(
            ["(lr, momentum)", "epochs", *KINDS, *(f"train loss, {kind}" for kind in KINDS)], body
        ),
        f"{curves.ENDS}: mean over the seeds with its 95 % bootstrap interval; in parentheses "
        "the paper's, read off its figure.",
        findings(claims(results)),
        f"![Train losses and test errors]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
