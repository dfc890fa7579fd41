"""What Figure 3 leaves open, drawn and judged."""

from experiments.studies.figure3 import KINDS, STEP_SIZES, name
from experiments.studies.figure3_choices import CHOICES, STUDY
from paper_figures.figure3 import PAPER
from paper_figures.figure4d import GUESS
from paper_figures.undone import UndoneFigure

FIGURE = UndoneFigure(
    STUDY,
    CHOICES,
    {
        name(lr, kind): mean
        for lr in STEP_SIZES
        for kind, (mean, _) in zip(KINDS, PAPER[lr], strict=True)
    },
    label="test perplexity",
    unit="",
    guess=GUESS,
    text="text",
    late=True,
)
