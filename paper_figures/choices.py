"""What Table 1 leaves open, drawn and judged."""

from experiments.studies.choices import CHOICES, STUDY
from paper_figures.table1_rows import PAPER
from paper_figures.tower_sweeps_claims import AMONG_TEN
from paper_figures.undone import UndoneFigure

FIGURE = UndoneFigure(
    STUDY,
    CHOICES,
    {row: PAPER[row].error[0] for choice in CHOICES.all.values() for row in choice.rows},
    label="test error",
    unit=" %",
    guess=AMONG_TEN,
    text="data set",
)
