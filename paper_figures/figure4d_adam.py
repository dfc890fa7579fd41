"""Figure 4d with Adam at every level, drawn and judged by the same rules."""

from experiments.studies.figure4d_adam import STUDY
from paper_figures.figure4d import GUESS, PAPER
from paper_figures.tower_sweeps import TowerFigure

FIGURE = TowerFigure(
    STUDY,
    PAPER,
    GUESS,
    """
- The rules are those of Fig. 4d; the study was declared when that figure's results, and a trial of
  2,000 steps, had been seen.""",
)
