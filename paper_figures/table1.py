"""Table 1, drawn: the table, a dot plot of its errors, and the step sizes that do not settle."""

from pathlib import Path

from matplotlib.axes import Axes

from experiments.files import write_text
from paper_figures import points
from paper_figures.claims import (
    Claim,
    findings,
    ruling,
)
from paper_figures.results import Results
from paper_figures.results import caption as caption
from paper_figures.style import PALETTE, figure, numbered
from paper_figures.table1_claims import RULES as RULES
from paper_figures.table1_claims import claims as claims
from paper_figures.table1_claims import error, judge_rows, learned, mean
from paper_figures.table1_claims import summary as summary
from paper_figures.table1_rows import FAMILIES, PAPER, family, rerun

OSCILLATING = ("SGD / Adam(0.1)", "SGD / RMSProp(0.1)")
TICKS = (2, 3, 4, 5, 7, 10, 20, 30, 50, 100)


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the table and the figures into `folder`, named after the tier; returns the figures."""
    plots = {
        folder / results.tier: _dots,
        folder / f"{results.tier}_trajectory": _trajectories,
    }
    for path, plot in plots.items():
        plot(results, path)
    write_text(folder / f"{results.tier}.md", table(results))
    return [path.with_suffix(".svg") for path in plots]


def rows(results: Results, judged: list[Claim]) -> str:
    """The rows alone, ours beside the paper's, as a Markdown table."""
    head = ("optimizer", "error %", "paper", "learned", "paper", "rerun %", "paper", "verdict")
    lines = [head, ["---"] * len(head), *(_line(results, claim) for claim in judged)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def table(results: Results) -> str:
    """The table in Markdown, with what there is to say about it."""
    judged = judge_rows(results)
    parts = [
        f"# {results.study.title}",
        caption(results),
        rows(results, judged),
        "Ours: mean over the seeds with its 95 % bootstrap interval. Paper: mean of 3 runs "
        "± deviation or standard error, which it does not say. Learned: final hyperparameters of "
        "level 0. Rerun: a plain optimizer from them.",
        findings(judged),
        f"![Test errors]({results.tier}.svg)",
        f"![Step sizes]({results.tier}_trajectory.svg)",
        ruling(RULES),
    ]
    return points.page(parts)


def _line(results: Results, claim: Claim) -> list[str]:
    row = claim.text.strip("`")
    paper = PAPER[row]
    cells = [f"`{row}`", mean(results, row).text(), _printed(paper.error)]
    if paper.rerun:
        ours = (f"{n} {mean(results, row, learned(n)).text(4)}" for n in paper.learned)
        theirs = (f"{name} {value:.4f}" for name, value in paper.learned.items())
        cells += ["<br>".join(ours), "<br>".join(theirs)]
        cells += [mean(results, rerun(row)).text(), _printed(paper.rerun)]
    else:
        cells += [""] * 4
    return [*cells, claim.verdict]


def _printed(number: tuple[float, float]) -> str:
    return f"{number[0]:.2f} ± {number[1]:.2f}"


def _dots(results: Results, path: Path) -> None:
    with figure(path, (9, 6.5)) as canvas:
        canvas.suptitle(f"{results.study.title}\n{caption(results)}")
        left, right = canvas.subplots(1, 2, sharey=True, sharex=True)
        left.set_title("while hyperparameters are learned")
        right.set_title("rerun from the learned values")
        for y, (row, paper) in enumerate(PAPER.items()):
            _dot_row(left, y, results, row, paper.error)
            if paper.rerun:
                _dot_row(right, y, results, rerun(row), paper.rerun)
        left.set_yticks(range(len(PAPER)), list(PAPER))
        left.invert_yaxis()
        for axes in (left, right):
            axes.set_xscale("log")
            numbered(axes.xaxis, TICKS)
            axes.set_xlabel("test error (%)")
            _separate_families(axes)
        canvas.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _dot_row(axes: Axes, y: int, results: Results, name: str, paper: tuple[float, float]) -> None:
    color = PALETTE[FAMILIES.index(family(name))]
    ours = mean(results, name)
    values = list(results.values(name, error).values())
    first = y == 0
    axes.errorbar(
        paper[0], y - 0.18, xerr=paper[1], fmt="D", color="black", markersize=3.5, capsize=2,
        label="paper: mean of 3 runs, and its ±" if first else None,
    )  # fmt: skip
    axes.plot(
        values, [y + 0.18] * len(values), "o", color=color, alpha=0.5, markersize=4,
        markeredgewidth=0, label="ours, each seed" if first else None,
    )  # fmt: skip
    axes.plot(
        [ours.low, ours.high], [y + 0.18] * 2, "|-", color="black", linewidth=1, markersize=5,
        label="ours, 95 % interval of the mean" if first else None,
    )  # fmt: skip
    if ours.n < ours.of:
        axes.text(
            0.99, y, f"{ours.count} runs", ha="right", va="center", fontsize="x-small",
            transform=axes.get_yaxis_transform(),
        )  # fmt: skip


def _separate_families(axes: Axes) -> None:
    rows = list(PAPER)
    for y in range(1, len(rows)):
        if family(rows[y]) != family(rows[y - 1]):
            axes.axhline(y - 0.5, color="gray", linewidth=0.8)
    axes.grid(False, axis="y")


def _trajectories(results: Results, path: Path) -> None:
    with figure(path, (9, 3.6)) as canvas:
        canvas.suptitle(f"Learned step size over the last epoch, each seed\n{caption(results)}")
        for axes, row in zip(canvas.subplots(1, 2), OSCILLATING, strict=True):
            paper = PAPER[row].learned["lr"]
            records = results.ok(row)
            for i, record in enumerate(records):
                track = record.lr_last_epoch
                steps = range(record.steps - len(track) + 1, record.steps + 1)
                axes.plot(steps, track, color=PALETTE[i % len(PALETTE)], linewidth=0.8, alpha=0.8)
                axes.plot(steps[-1], track[-1], "o", color=PALETTE[i % len(PALETTE)], markersize=4)
            axes.margins(y=0.1)
            axes.axhline(paper, color="black", linestyle="--")
            axes.annotate(
                f"the paper's {paper:.4f}", (0.01, paper), xycoords=axes.get_yaxis_transform(),
                xytext=(0, 3), textcoords="offset points",
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
            )  # fmt: skip
            planned = results.planned[row]
            gaps = f", {len(records)} of {planned} runs" if len(records) < planned else ""
            axes.set_title(f"{row}{gaps}; a dot is where a seed ends")
            axes.set_xlabel("step")
        canvas.axes[0].set_ylabel("lr")
