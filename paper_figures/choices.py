"""What Table 1 leaves open, drawn and judged: does our choice come nearer the paper's errors?"""

from pathlib import Path

from experiments.files import write_text
from experiments.studies.choices import CHOICES, name
from experiments.studies.choices import STUDY as STUDY
from paper_figures import points
from paper_figures.claims import (
    REPRODUCED,
    UNKNOWN,
    Claim,
    fewest_runs,
    findings,
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
from paper_figures.table1_rows import PAPER

RULES = """\
- A choice is the paper's (`reproduced`) if with it every row's mean error is nearer the paper's
  than without it, `partly` if some are.
- How much it matters is the difference of the two errors, paired by seed, with its 95 % bootstrap
  interval.
- A run that diverged counts with an error of 90 %, that of a guess among ten classes.
- Numbers from another data set than the paper's are `not testable`."""


def claims(results: Results) -> list[Claim]:
    """Each choice, judged."""
    return [standing(_choice(results, key), results) for key in CHOICES]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    verdicts = [_choice(results, key).verdict for key in CHOICES]
    nearer = [None if verdict in UNKNOWN else verdict == REPRODUCED for verdict in verdicts]
    return (
        f"Every row comes nearer to the paper's error by {tally(nearer, 'choices made here')}; "
        "what each is worth stands under *What the paper leaves out*."
    )


def _choice(results: Results, key: str) -> Claim:
    choice = CHOICES[key]
    ours = {row: points.point(results, name(row)) for row in choice.rows}
    others = {row: points.point(results, name(row, key)) for row in choice.rows}
    paper = {row: PAPER[row].error[0] for row in choice.rows}
    nearer = [
        abs(ours[row].mean - paper[row]) < abs(others[row].mean - paper[row]) for row in choice.rows
    ]
    return Claim(
        f"{choice.made}: that is what the paper did",
        lines(f"`{row}`: {paper[row]:.2f} %" for row in choice.rows),
        lines(
            f"`{row}`: {ours[row].text(2)} %; {choice.otherwise} {others[row].text(2)} %"
            for row in choice.rows
        ),
        fewest_runs([*ours.values(), *others.values()]),
        share_of([*ours.values(), *others.values()], nearer),
        matters(results, key),
    )


def matters(results: Results, key: str) -> str:
    """By how much the errors move where the choice is undone."""
    choice = CHOICES[key]
    moved = []
    for row in choice.rows:
        ours, others = points.errors(results, name(row)), points.errors(results, name(row, key))
        by = paired(others, ours, results.planned[name(row, key)])
        moved += [f"{by.text(2)} points for `{row}`"] if by.n else []
    if not moved:
        return ""
    return f"Otherwise ({choice.otherwise}) the error changes by {', '.join(moved)}."


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    with figure(path, (9, 6)) as canvas:
        canvas.suptitle(f"{results.study.title}\n{caption(results)}")
        panels = canvas.subplots(len(CHOICES), 1, height_ratios=[
            len(choice.rows) for choice in CHOICES.values()
        ])  # fmt: skip
        for axes, (key, choice) in zip(panels, CHOICES.items(), strict=True):
            for y, row in enumerate(choice.rows):
                for cell, color, marker, label in (
                    (name(row), "black", "o", "as chosen for Table 1"),
                    (name(row, key), PALETTE[1], "s", "otherwise"),
                ):
                    seeds = list(points.errors(results, cell).values())
                    axes.plot(seeds, [y] * len(seeds), marker, color=color, alpha=0.5,
                              markersize=4, label=label)  # fmt: skip
                axes.plot(PAPER[row].error[0], y, "*", color=PALETTE[0], markersize=12,
                          markerfacecolor="none", label="the paper")  # fmt: skip
            axes.set_yticks(range(len(choice.rows)), choice.rows)
            axes.set_ylim(len(choice.rows) - 0.5, -0.5)
            axes.set_title(f"otherwise: {choice.otherwise}", size="small", loc="left")
        panels[-1].set_xlabel("test error (%), each seed")
        legend(canvas, [panels[0]], 3)
    write_text(path.with_suffix(".md"), _table(results))
    return [path.with_suffix(".svg")]


def _table(results: Results) -> str:
    body = [
        [f"`{row}`", choice.otherwise, points.point(results, name(row)).text(2),
         points.point(results, name(row, key)).text(2), f"{PAPER[row].error[0]:.2f}"]
        for key, choice in CHOICES.items() for row in choice.rows
    ]  # fmt: skip
    head = ["row", "otherwise", "error % as chosen", "otherwise", "paper"]
    parts = [
        f"# {results.study.title}",
        caption(results),
        points.table(head, body),
        "Test error in percent: mean over the seeds with its 95 % bootstrap interval.",
        findings(claims(results)),
        f"![Test errors, as chosen and otherwise]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
