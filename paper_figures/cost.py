"""What a step costs, of the default and its rivals over Adam's, drawn and judged."""

from pathlib import Path

import numpy as np

from experiments.files import write_text
from experiments.studies.cost import COMPILED_OWN
from experiments.studies.tuning import OWN, RIVAL_NAMES
from experiments.timing.measurement import Measurement
from experiments.timing.workload import FUSED, PLAIN
from paper_figures import goals, points
from paper_figures.claims import (
    MISSING,
    NOT,
    NOT_TESTABLE,
    Claim,
    findings,
    graded,
    lines,
    ruling,
)
from paper_figures.figure4f import caption as caption
from paper_figures.figure4f_claims import FEWEST_ROUNDS
from paper_figures.style import PALETTE, figure, legend
from paper_figures.timings import Timings

# What a whole step may take, in times of torch.optim.Adam's. A perceptron's own work is small.
AT_MOST = {"mlp": 1.25, "resnet20": 1.10, "lstm": 1.10}
KINDS = {"eager": OWN, "compiled": COMPILED_OWN}

RULES = f"""\
- A whole step, forward and backward included, over one with `torch.optim.Adam`, round by round;
  the median over the rounds with its 95 % bootstrap interval. Fewer than {FEWEST_ROUNDS} rounds are
  `not testable`.
- The default's own step may be eager or compiled, as its user may choose: the goal is `reproduced`
  if the interval of either is at or below the limit, `partly` if one begins there. If neither is,
  and only one was timed, it is `not testable`. (Here stood `not yet run`; both were timed then, so
  that no verdict hung on it. The paper's claims about time, of Figure 4f, are to hold of both.)"""


def claims(results: Timings) -> list[Claim]:
    """The goals."""
    return [
        _judged(results, device, workload)
        for device in results.devices or ["cpu"]
        for workload in results.study.workloads
    ]


def summary(results: Timings) -> str:
    """The findings in a few sentences."""
    parts = [
        f"{results.study.workloads[workload].title}, {device}: "
        + ", ".join(f"{each.ratio(name, PLAIN).text()} {kind}" for kind, name in _own(each).items())
        for (device, workload), each in results.measurements.items()
    ]
    return f"A whole step of the default, in times of `torch.optim.Adam`'s: {'; '.join(parts)}."


def _own(measurement: Measurement) -> dict[str, str]:
    """The default's contenders that were timed, by kind."""
    return {kind: name for kind, name in KINDS.items() if name in measurement.timings}


def _judged(results: Timings, device: str, workload: str) -> Claim:
    limit = AT_MOST[workload]
    text = (
        f"{results.study.workloads[workload].title}, {device}: a whole step of the default takes "
        f"at most {limit:.2f} times that of Adam"
    )
    source = f"{goals.SOURCE}: at most {limit:.2f}"
    measurement = results.at(device, workload)
    own = _own(measurement) if measurement else {}
    if not measurement or not own:
        return Claim(text, source, "not measured", "0", MISSING)
    found = {kind: measurement.ratio(name, PLAIN) for kind, name in own.items()}
    ratios = found.values()
    verdict = graded(any(x.high <= limit for x in ratios), any(x.low <= limit for x in ratios))
    untimed = [kind for kind in KINDS if kind not in own]
    met = [kind for kind, x in found.items() if x.high <= limit]
    finding = f"Only {met[0]}." if len(met) == 1 < len(found) else ""
    if measurement.rounds < FEWEST_ROUNDS:
        verdict, finding = NOT_TESTABLE, f"There are fewer than {FEWEST_ROUNDS} rounds."
    elif verdict == NOT and untimed:
        verdict = NOT_TESTABLE
        finding = f"It misses the limit {', '.join(own)}; {', '.join(untimed)} it was not timed."
    ours = lines(f"{kind}: {ratio.text()}" for kind, ratio in found.items())
    return Claim(text, source, ours, str(measurement.rounds), verdict, finding)


def draw(results: Timings, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    measurements = list(results.measurements.items())
    timed = {name for _, each in measurements for name in each.timings} - {PLAIN}
    names = [name for name in (FUSED, *KINDS.values(), *RIVAL_NAMES) if name in timed]
    with figure(path, (max(3 * len(measurements), 5) + 2, 3.6)) as canvas:
        canvas.suptitle(f"{results.study.title}\n{caption(results)}", size=7)
        panels = np.atleast_1d(canvas.subplots(1, len(measurements), sharey=True))
        for axes, ((device, workload), each) in zip(panels, measurements, strict=True):
            axes.axvline(1, color="black", linewidth=0.6)
            for y, name in enumerate(names):
                if name not in each.timings:
                    continue
                found = each.ratio(name, PLAIN)
                off = [[found.median - found.low], [found.high - found.median]]
                axes.errorbar(
                    found.median, y, xerr=np.nan_to_num(off), markersize=4, capsize=2,
                    color="black" if name in (OWN, COMPILED_OWN) else "gray", marker="o",
                )  # fmt: skip
            axes.set_yticks(range(len(names)), names)
            axes.set_ylim(len(names) - 0.5, -0.5)
            low, high = axes.get_xlim()  # of what is drawn so far
            axes.axvspan(
                low, limit := AT_MOST[workload], color=PALETTE[2], alpha=0.15, linewidth=0,
                label="the goal for the default",
            )  # fmt: skip
            axes.set_xlim(low, max(high, 1.02 * limit))
            axes.set_title(f"{results.study.workloads[workload].title}, {device}", size="small")
            axes.set_xlabel("times torch.optim.Adam's step", size="small")
        legend(canvas, panels, 1)
    write_text(path.with_suffix(".md"), _page(results))
    return [path.with_suffix(".svg")]


def _page(results: Timings) -> str:
    head = ["step", "ms", f"of {PLAIN}.Adam", "state / parameters"]
    tables = []
    for (device, workload), each in sorted(results.measurements.items()):
        rows = [
            [
                name, f"{each.milliseconds(name).median:.3f}", each.ratio(name, PLAIN).text(),
                f"{timing.state_bytes / timing.parameter_bytes:.2f}",
            ]
            for name, timing in each.timings.items()
        ]  # fmt: skip
        title = results.study.workloads[workload].title
        tables.append(f"## {title}: {device}\n\n{points.table(head, rows)}")
    parts = [
        f"# {results.study.title}",
        caption(results),
        *tables,
        "Whole training steps; ratios within a round, their median with its 95 % bootstrap "
        "interval. State: what the optimizer keeps, in times of the model's parameters. Green: "
        "the goal.",
        findings(claims(results)),
        f"![{results.study.title}]({results.tier}.svg)",
        ruling(RULES),
    ]
    return points.page(parts)
