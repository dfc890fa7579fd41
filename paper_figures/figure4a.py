"""Figure 4a, drawn and judged: every level starts at the same step size."""

from experiments.studies.figure4a import STUDY
from paper_figures.tower_sweeps import TowerFigure
from paper_figures.tower_sweeps_lines import by_step_size

# Test error in percent, read off the paper's Fig. 4a by pixel, to about 0.2 points; where lines
# lie on one another, to about half a point.
PAPER = {
    0: by_step_size(88.5, 90.0, 87.3, 84.5, 36, 15.5, 9.1, 5.0, 2.4, 3.2, 54),
    1: by_step_size(77, 33, 16.3, 10.8, 8.3, 6.1, 4, 4, 4, 7.0, 58),
    2: by_step_size(13.5, 10.5, 8.7, 7.3, 5.8, 4.3, 4, 4, 4, 4.5, 58.5),
    3: by_step_size(10.1, 8.7, 7.7, 6.5, 5.1, 4.2, 3.9, 4.2, 4.2, 4.2, 29),
}

FIGURE = TowerFigure(STUDY, PAPER)
