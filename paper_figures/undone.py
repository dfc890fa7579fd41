"""Choices undone one by one, drawn and judged: does ours come nearer to the paper's numbers?"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from experiments.files import write_text
from experiments.studies.undone import Choices
from experiments.study import Study
from paper_figures import points
from paper_figures.claims import (
    REPRODUCED,
    UNKNOWN,
    Claim,
    Estimate,
    fewest_runs,
    findings,
    lines,
    paired,
    ruling,
    share_of,
    standing,
    tally,
)
from paper_figures.results import Results, caption
from paper_figures.style import PALETTE, figure, heading, legend


@dataclass(frozen=True)
class UndoneFigure:
    """The figure of such a study, as which a module may stand elsewhere.

    Attributes:
        study: what it is of.
        choices: its choices.
        paper: the paper's value of each row.
        label: what is measured, such as "test error".
        unit: behind a value.
        guess: what a run that diverged counts with, in words.
        text: what the study is trained on, in words.
        late: whether the paper's value is of longer runs than a shortened tier has.
    """

    study: Study
    choices: Choices
    paper: Mapping[str, float]
    label: str
    unit: str
    guess: str
    text: str
    late: bool = False

    @property
    def RULES(self) -> str:  # noqa: N802
        late = """
- The paper's numbers are of whole runs, so that a shortened tier is `not testable at this length`.
  What a choice is worth at that length is said all the same."""
        return f"""\
- A choice is the paper's (`reproduced`) if with it every row's mean {self.label} is nearer the
  paper's than without it, `partly` if some are.
- How much it matters is the difference of the two, paired by seed, with its 95 % bootstrap
  interval.
- A run that diverged counts with {self.guess}.
- Numbers from another {self.text} than the paper's are `not testable`.{late * self.late}"""

    def caption(self, results: Results) -> str:
        return caption(results)

    def claims(self, results: Results) -> list[Claim]:
        """Each choice, judged."""
        return [
            standing(self._choice(results, key), results, late=self.late)
            for key in self.choices.all
        ]

    def summary(self, results: Results) -> str:
        """The findings in a few sentences."""
        verdicts = [self._choice(results, key).verdict for key in self.choices.all]
        nearer = [None if verdict in UNKNOWN else verdict == REPRODUCED for verdict in verdicts]
        return (
            f"Every row comes nearer to the paper's {self.label} by "
            f"{tally(nearer, 'choices made here')}; what each is worth stands under *What the "
            f"paper leaves out*. {self._nearest(results)}"
        ).rstrip()

    def _nearest(self, results: Results) -> str:
        """Which way of training a row comes nearest to the paper's, in a sentence; empty if none
        has run."""
        ways: dict[str, list[str]] = {}
        rows = dict.fromkeys(row for choice in self.choices.all.values() for row in choice.rows)
        for row in rows:
            ends = {self.choices.said(): points.point(results, self.choices.name(row))}
            for key, choice in self.choices.all.items():
                if row in choice.rows:
                    cell = self.choices.name(row, key)
                    ends[self.choices.said(key)] = points.point(results, cell)
            off = {way: abs(e.mean - self.paper[row]) for way, e in ends.items() if e.n}
            if off:
                way = min(off, key=lambda each: off[each])
                ours, theirs = ends[way].plain(), f"{self.paper[row]:.2f}{self.unit}"
                ways.setdefault(way, []).append(f"`{row}` ({ours}{self.unit} for {theirs})")
        found = "; ".join(f"{way}, {', '.join(of)}" for way, of in ways.items())
        return f"Nearest to the paper's come: {found}." if found else ""

    def _ends(self, results: Results, key: str) -> dict[str, tuple[Estimate, Estimate]]:
        """Of each row that a choice could matter to, where it ends as chosen, and otherwise."""
        return {
            row: (
                points.point(results, self.choices.name(row)),
                points.point(results, self.choices.name(row, key)),
            )
            for row in self.choices.all[key].rows
        }

    def _choice(self, results: Results, key: str) -> Claim:
        choice, ends = self.choices.all[key], self._ends(results, key)
        nearer = [
            abs(ours.mean - self.paper[row]) < abs(others.mean - self.paper[row])
            for row, (ours, others) in ends.items()
        ]
        both = [each for pair in ends.values() for each in pair]
        unit = self.unit
        return Claim(
            f"{choice.made}: that is what the paper did",
            lines(f"`{row}`: {self.paper[row]:.2f}{unit}" for row in ends),
            lines(
                f"`{row}`: {ours.text(2)}{unit}; {choice.otherwise} {others.text(2)}{unit}"
                for row, (ours, others) in ends.items()
            ),
            fewest_runs(both),
            share_of(both, nearer),
            self.matters(results, key),
        )

    def matters(self, results: Results, key: str) -> str:
        """By how much the rows move where the choice is undone."""
        choice = self.choices.all[key]
        points_of = " points" * bool(self.unit)  # behind a difference of two percentages
        moved = []
        for row in choice.rows:
            cells = self.choices.name(row), self.choices.name(row, key)
            ours, others = (points.errors(results, cell) for cell in cells)
            by = paired(others, ours, results.planned[cells[1]])
            moved += [f"{by.text(2)}{points_of} for `{row}`"] if by.n else []
        if not moved:
            return ""
        return (
            f"Otherwise ({choice.otherwise}) the {self.label.split()[-1]} changes by "
            f"{', '.join(moved)}."
        )

    def draw(self, results: Results, folder: Path) -> list[Path]:
        """Write the figure and its numbers into `folder`, named after the tier."""
        path = folder / results.tier
        with figure(path, (9, 6)) as canvas:
            canvas.suptitle(heading(results.study.title, caption(results)))
            panels = canvas.subplots(len(self.choices.all), 1, sharex=True, height_ratios=[
                len(choice.rows) for choice in self.choices.all.values()
            ])  # fmt: skip
            for axes, (key, choice) in zip(panels, self.choices.all.items(), strict=True):
                for y, row in enumerate(choice.rows):
                    for cell, color, marker, label in (
                        (self.choices.name(row), "black", "o", f"as in {self.choices.of}"),
                        (self.choices.name(row, key), PALETTE[1], "s", "otherwise"),
                    ):
                        seeds = list(points.errors(results, cell).values())
                        axes.plot(seeds, [y] * len(seeds), marker, color=color, alpha=0.5,
                                  markersize=4, label=label)  # fmt: skip
                    axes.plot(self.paper[row], y, "*", color=PALETTE[0], markersize=12,
                              markerfacecolor="none", label="the paper")  # fmt: skip
                axes.set_yticks(range(len(choice.rows)), choice.rows)
                axes.set_ylim(len(choice.rows) - 0.5, -0.5)
                axes.set_title(f"otherwise: {choice.otherwise}", size="small", loc="left")
            unit = " (%)" if self.unit else ""
            panels[-1].set_xlabel(f"{self.label}{unit}, each seed")
            legend(canvas, [panels[0]], 3)
        write_text(path.with_suffix(".md"), self._table(results))
        return [path.with_suffix(".svg")]

    def _table(self, results: Results) -> str:
        body = [
            [f"`{row}`", self.choices.all[key].otherwise, ours.text(2), others.text(2),
             f"{self.paper[row]:.2f}"]
            for key in self.choices.all for row, (ours, others) in self._ends(results, key).items()
        ]  # fmt: skip
        head = ["row", "otherwise", f"{self.label}{self.unit} as chosen", "otherwise", "paper"]
        parts = [
            f"# {results.study.title}",
            caption(results),
            points.table(head, body),
            f"{self.label.capitalize()}{' in percent' if self.unit else ''}: mean over the seeds "
            "with its 95 % bootstrap interval.",
            findings(self.claims(results)),
            f"![{self.label.capitalize()}, as chosen and otherwise]({results.tier}.svg)",
            ruling(self.RULES),
        ]
        return points.page(parts)
