"""Figure 4d with Adam at every level, drawn and judged by the same rules."""

from pathlib import Path

from experiments.studies.figure4d_adam import STUDY
from paper_figures import tower_sweeps
from paper_figures.figure4d import GUESS, PAPER
from paper_figures.figure4d import claims as claims
from paper_figures.figure4d import summary as summary
from paper_figures.results import Results
from paper_figures.results import caption as caption
from paper_figures.tower_sweeps_claims import rules

RULES = f"""\
{rules(STUDY, GUESS)}
- The rules are those of Fig. 4d; the study was declared when that figure's results, and a trial of
  2,000 steps, had been seen."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    return tower_sweeps.draw(results, folder, PAPER, RULES)
