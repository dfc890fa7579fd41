"""Figure 4d, drawn and judged: the character LSTM on War and Peace."""

from functools import partial
from pathlib import Path

from experiments.studies.figure4d import STUDY
from paper_figures import tower_sweeps
from paper_figures.claims import Claim
from paper_figures.results import Results
from paper_figures.results import caption as caption
from paper_figures.tower_sweeps_claims import by_step_size, judge, rules, summarized

GUESS = "a perplexity of 87, that of a guess among as many characters"
RULES = rules(STUDY, GUESS)

_line = partial(by_step_size, step_sizes=STUDY.step_sizes)
# Test perplexity, read off the paper's Fig. 4d by pixel.
PAPER = {
    0: _line(64.9, 51.6, 32.5, 14.8, 7.5, 6.5),
    1: _line(26.8, 13.6, 10.7, 7.6, 6.9, 6.2),
    2: _line(9.2, 8.2, 7, 6.7, 6.5, 6.5),
    3: _line(6.2, 7.6, 6.8, 6.1, 7.5, 6.7),
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
