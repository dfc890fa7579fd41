"""What the paper says it can't do (section 5), and how it stands here."""

from collections.abc import Sequence

from experiments.studies.tower_sweeps import name
from experiments.words import counted
from paper_figures import points
from paper_figures.results import Results
from paper_figures.timings import Timings

# The sweeps that go far above the best step size, by the name of their study.
SWEEPS = ("figure4a", "figure4b")
HEAD = ("limitation", "here", "evidence")


def table(found: Sequence[Results | Timings]) -> str:
    """The limitations in Markdown, with what the results among `found` say of them."""
    sweeps = [each for each in found if isinstance(each, Results) and each.study.name in SWEEPS]
    return points.table(HEAD, [
        (
            "From an initial step size that is far too high, training fails before the tower can "
            "act",
            "Towers of the paper may fail there as well; the evidence has how many, by height. "
            "`gdtuo.Safeguards` has caps and clips that the paper lacks, all off by default",
            "; ".join(filter(None, map(_too_high, sweeps))) or "no sweep has run",
        ),
        (
            "What is logged has to be detached, or memory leaks",
            "Gone: `hyperparameters()` returns floats, no graph outlives a step, and the published "
            "loop with `create_graph=True` does not leak either",
            "`tests/test_memory.py`",
        ),
        (
            "Some of PyTorch's modules, the LSTM among them, change the graph, and gradients may "
            "be wrong",
            "Gone: the model is never touched. `figure3` and `figure4d` train `torch.nn.LSTM`",
            "`tests/test_models.py`",
        ),
        ("There is no theory of convergence", "Nothing is added here", "-"),
    ])  # fmt: skip


def _too_high(results: Results) -> str:
    """How the runs from the greatest step size of a sweep ended; empty if none has run."""
    study = results.study
    lr, lost, failed = study.step_sizes[-1], 0, []
    for height in study.heights:
        cell = name(height, lr)
        ends = points.errors(results, cell).values()
        lost += points.diverged(results, cell)
        if ends:
            count = sum(error > study.fails for error in ends)
            failed.append(f"{count} of {counted(len(ends), 'run')} at height {height}")
    if not failed:
        return ""
    return (
        f"{study.name}, tier {results.tier}, from {lr:g}: {', '.join(failed)} end above "
        f"{study.fails:g}{study.unit}, {lost or 'none'} of them by a loss that isn't finite"
    )
