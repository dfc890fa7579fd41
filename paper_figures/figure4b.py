"""Figure 4b, drawn and judged: the upper levels start by the paper's scheme."""

from experiments.studies.figure4b import STUDY
from paper_figures.tower_sweeps import TowerFigure
from paper_figures.tower_sweeps_lines import by_step_size

# Test error in percent, read off the paper's Fig. 4b by pixel, to about 0.2 points; where lines
# lie on one another, to about half a point. None: hidden beneath another line.
PAPER = {
    0: by_step_size(88.5, 90.0, 87.3, 84.5, 36, 15.5, 9.1, 5.0, 2.4, 3.2, 54),
    1: by_step_size(15.6, 10.8, 8.2, 6, 4.1, 13.6, 8.7, 4.8, 2.4, 3.1, 59),
    2: by_step_size(13.2, None, None, None, None, 10.9, None, None, None, None, 49),
    3: by_step_size(12.6, 10.0, 8.1, 5.9, 4.2, 10.4, 8.5, 4.7, 2.4, 3.1, 45),
}

FIGURE = TowerFigure(STUDY, PAPER)
