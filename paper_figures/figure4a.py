"""Figure 4a, drawn and judged: every level starts at the same step size."""

from pathlib import Path

from experiments.studies.figure4a import STUDY
from paper_figures import tower_sweeps
from paper_figures.claims import Claim
from paper_figures.results import Results
from paper_figures.results import caption as caption
from paper_figures.tower_sweeps_claims import AMONG_TEN, by_step_size, judge, rules, summarized

RULES = rules(STUDY, AMONG_TEN)

# Test error in percent, read off the paper's Fig. 4a by pixel, to about 0.2 points; where lines
# lie on one another, to about half a point.
PAPER = {
    0: by_step_size(88.5, 90.0, 87.3, 84.5, 36, 15.5, 9.1, 5.0, 2.4, 3.2, 54),
    1: by_step_size(77, 33, 16.3, 10.8, 8.3, 6.1, 4, 4, 4, 7.0, 58),
    2: by_step_size(13.5, 10.5, 8.7, 7.3, 5.8, 4.3, 4, 4, 4, 4.5, 58.5),
    3: by_step_size(10.1, 8.7, 7.7, 6.5, 5.1, 4.2, 3.9, 4.2, 4.2, 4.2, 29),
}


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    return tower_sweeps.draw(results, folder, PAPER, RULES)


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    return summarized(results, PAPER)


def claims(results: Results) -> list[Claim]:
    """All claims of the paper about this figure."""
    return judge(results, PAPER)
