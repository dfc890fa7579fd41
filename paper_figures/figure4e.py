"""Figure 4e, drawn and judged: a pretrained ResNet-152 on Caltech-256."""

from functools import partial

from experiments.studies.figure4e import STUDY
from experiments.studies.tower_sweeps import name
from paper_figures import points
from paper_figures.claims import Claim, paired, share_of
from paper_figures.results import Results
from paper_figures.tower_sweeps import TowerFigure
from paper_figures.tower_sweeps_lines import by_step_size

_line = partial(by_step_size, step_sizes=STUDY.step_sizes)
# Test error in percent; 91.5 is in the text, the rest is read off the paper's Fig. 4e by pixel.
PAPER = {
    0: _line(91.5, 11.2, 24.3),
    1: _line(10.7, 10.9, 24.1),
    2: _line(11.7, 10.9, 20.7),
}
LARGEST = STUDY.step_sizes[-1]


def _progress(results: Results) -> Claim:
    one, two = (points.errors(results, name(height, LARGEST)) for height in (1, 2))
    gain = paired(one, two, results.planned[name(2, LARGEST)])
    return Claim(
        f"From {LARGEST:g}, a second level lowers the test error further",
        f"by {PAPER[1][LARGEST] - PAPER[2][LARGEST]:.1f} points",
        f"by {gain.text(1)} points",
        gain.count,
        share_of([gain], [gain.low > 0]),
    )


FIGURE = TowerFigure(
    STUDY,
    PAPER,
    "an error of 99.6 %, that of a guess among 257 categories",
    """
- From too small a step size one level is judged: a second takes nothing off the paper's error
  there. From 1e-2 it does, if the same interval lies above 0.""",
    [_progress],
)
