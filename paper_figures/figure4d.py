"""Figure 4d, drawn and judged: the character LSTM on War and Peace."""

from functools import partial

from experiments.studies.figure4d import STUDY
from paper_figures.tower_sweeps import TowerFigure
from paper_figures.tower_sweeps_lines import by_step_size

_line = partial(by_step_size, step_sizes=STUDY.step_sizes)
# Test perplexity, read off the paper's Fig. 4d by pixel.
PAPER = {
    0: _line(64.9, 51.6, 32.5, 14.8, 7.5, 6.5),
    1: _line(26.8, 13.6, 10.7, 7.6, 6.9, 6.2),
    2: _line(9.2, 8.2, 7, 6.7, 6.5, 6.5),
    3: _line(6.2, 7.6, 6.8, 6.1, 7.5, 6.7),
}
GUESS = "a perplexity of 87, that of a guess among as many characters"

FIGURE = TowerFigure(STUDY, PAPER, GUESS)
