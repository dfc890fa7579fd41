"""Figure 4c with Adam at the upper levels, drawn and judged by the same rules."""

from pathlib import Path

from experiments.studies.figure4c_adam import STUDY
from paper_figures import tower_sweeps
from paper_figures.figure4c import PAPER
from paper_figures.figure4c import claims as claims
from paper_figures.figure4c import summary as summary
from paper_figures.results import Results
from paper_figures.results import caption as caption
from paper_figures.tower_sweeps_claims import AMONG_TEN, rules

RULES = f"""\
{rules(STUDY, AMONG_TEN)}
- The rules are those of Fig. 4c; the study was declared when three of that figure's runs,
  at height 3 from 1e-7 to 1e-5, had diverged."""


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    return tower_sweeps.draw(results, folder, PAPER, RULES)
