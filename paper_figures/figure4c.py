"""Figure 4c, drawn and judged: ResNet-20 on CIFAR-10."""

from functools import partial

from experiments.studies.figure4c import STUDY
from paper_figures.tower_sweeps import TowerFigure
from paper_figures.tower_sweeps_lines import by_step_size

_line = partial(by_step_size, step_sizes=STUDY.step_sizes)
# Test error in percent, read off the paper's Fig. 4c by pixel, to about 0.2 points.
PAPER = {
    0: _line(90.2, 90.1, 78.6, 64.6, 41, 18.5, 13, 14, 59),
    1: _line(32, 27.6, 19.7, 15, 17.6, 22.8, 13, 13.6, 39),
    2: _line(16.2, 15.5, 14.3, 14.3, 13.9, 13.8, 15.5, 16, 21),
    3: _line(13.4, 12.8, 13.7, 12.6, 12.5, 12.7, 12.8, 14.6, 13.8),
}

FIGURE = TowerFigure(STUDY, PAPER)
