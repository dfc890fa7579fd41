"""Figure 4c with Adam at the upper levels, drawn and judged by the same rules."""

from experiments.studies.figure4c_adam import STUDY
from paper_figures.figure4c import PAPER
from paper_figures.tower_sweeps import TowerFigure

FIGURE = TowerFigure(
    STUDY,
    PAPER,
    further_rules="""
- The rules are those of Fig. 4c; the study was declared when three of that figure's runs,
  at height 3 from 1e-7 to 1e-5, had diverged.""",
)
