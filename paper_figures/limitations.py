"""What the paper says it can't do (section 5), and how it stands here."""

from collections.abc import Sequence

from experiments.studies.tower_sweeps import name
from paper_figures import points
from paper_figures.results import Results
from paper_figures.timings import Timings

# The sweeps that go far above the best step size, by the name of their study.
SWEEPS = ("figure4a", "figure4b")
HEAD = ("limitation", "here", "evidence")


def table(found: Sequence[Results | Timings]) -> str:
    """The limitations in Markdown, with what the results among `found` say of them."""
    return points.table(HEAD, [
        (
            "An initial step size that is far too high diverges before the tower can act",
            "The towers of the paper still do. `gdtuo.Safeguards` has caps and clips that the "
            "paper lacks, all off by default",
            "; ".join(_too_high(results) for results in found if results.study.name in SWEEPS)
            or "no sweep has run",
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
    """How the runs from the greatest step size of a sweep ended."""
    lr = results.study.step_sizes[-1]
    cells = [name(height, lr) for height in results.study.heights]
    lost = sum(points.diverged(results, cell) for cell in cells)
    ends = [error for cell in cells for error in points.errors(results, cell).values()]
    failed = sum(error > results.study.fails for error in ends)
    return (
        f"{results.study.name}, tier {results.tier}, from {lr:g}: {lost} of {len(ends)} runs "
        f"diverged, {failed} ended above {results.study.fails:g}{results.study.unit}"
    )
