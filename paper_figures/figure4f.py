"""Figure 4f, drawn: run time by height for three tasks, to height 50 for one, and memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from experiments.files import write_text
from experiments.studies.figure4f import HEIGHTS
from experiments.timing.measurement import Interval, Measurement
from experiments.timing.workload import FUSED, PLAIN, tower
from experiments.words import counted
from paper_figures import points
from paper_figures.claims import findings, ruling
from paper_figures.figure4f_claims import KINDS, PAPER, PAPER_HIGH, claims, peak_over
from paper_figures.figure4f_claims import RULES as RULES
from paper_figures.figure4f_claims import summary as summary
from paper_figures.style import PALETTE, figure
from paper_figures.timings import Timings

HEAD = (
    "step", "ms", "% over height 0", "of torch.optim", "of torch.optim, fused", "peak MiB",
    "state / parameters",
)  # fmt: skip


@dataclass(frozen=True)
class Series:
    """The towers that are drawn alike: those of a device, eager or compiled."""

    device: str
    compiled: bool
    color: tuple[float, float, float]
    shift: float  # so that intervals stand side by side

    @property
    def label(self) -> str:
        return f"{self.device}, {'compiled' if self.compiled else 'eager'}"

    @property
    def look(self) -> dict[str, object]:
        filling = "white" if self.compiled else self.color
        marker = "s" if self.compiled else "o"
        return {"color": self.color, "marker": marker, "markerfacecolor": filling, "markersize": 5}


def draw(results: Timings, folder: Path) -> list[Path]:
    """Write the figures and their numbers into `folder`, named after the tier."""
    plots = {
        folder / results.tier: _tasks,
        folder / f"{results.tier}_heights": _high,
        folder / f"{results.tier}_memory": _memory,
    }
    for path, plot in plots.items():
        plot(results, path)
    write_text(folder / f"{results.tier}.md", table(results))
    return [path.with_suffix(".svg") for path in plots]


def caption(results: Timings) -> str:
    """What is shown: tier, machines and gaps."""
    machines = []
    for device in results.devices:
        theirs = [each for (d, _), each in results.measurements.items() if d == device]
        sources = [each.first.provenance for each in theirs]
        used = sorted({f"{each['processor']}, threads {each['threads']}" for each in sources})
        processor = f" ({' or '.join(used)})"
        rounds = sorted({each.rounds for each in theirs})
        machines.append(
            f"{device}{processor if device == 'cpu' else ''}, "
            f"{' or '.join([*map(str, rounds[:-1]), counted(rounds[-1], 'round')])}"
        )
    missing = [
        f"{name} on {device}"
        for device in results.devices
        for name in results.study.workloads
        if results.at(device, name) is None
    ]
    gaps = f" Not measured: {', '.join(missing)}." if missing else ""
    return f"Tier {results.tier}: {'; '.join(machines)}.{gaps}"


def table(results: Timings) -> str:
    """The numbers in Markdown, with what there is to say about them."""
    parts = [f"# {results.study.title}", caption(results)]
    for (device, name), measurement in sorted(results.measurements.items()):
        rows = [HEAD, ["---"] * len(HEAD), *_rows(measurement)]
        title = results.study.workloads[name].title
        rule = measurement.timings[tower(1)].rule
        parts += [
            f"## {title}: {device}",
            f"Height 1 is `{rule}`; blocks of {counted(measurement.first.steps, 'step')}.",
            "\n".join(f"| {' | '.join(row)} |" for row in rows),
        ]
    parts += [
        "Whole training steps; ratios within a round, their median with its 95 % bootstrap "
        "interval. Percent over height 0 of the same kind, eager or compiled. Peak: median of the "
        "processes, of the "
        "process on a cpu, the compiler included where there is one; of the device's memory on a "
        "GPU. State: what the optimizer keeps, in times of the model's parameters.",
        findings(claims(results)),
        f"![Run time by height]({results.tier}.svg)",
        f"![Run time to height 50]({results.tier}_heights.svg)",
        f"![Memory by height]({results.tier}_memory.svg)",
        ruling(RULES),
    ]
    return points.page(parts)


def _rows(measurement: Measurement) -> Iterator[list[str]]:
    for name, timing in measurement.timings.items():
        above = measurement.over(timing.height, timing.fast).text(1) if timing.height else ""
        yield [
            name,
            f"{measurement.milliseconds(name).median:.3f}",
            above,
            measurement.ratio(name, PLAIN).text() if name != PLAIN else "",
            measurement.ratio(name, FUSED).text() if name != FUSED else "",
            f"{timing.peak:.0f}" if timing.peak_bytes else "",
            f"{timing.state_bytes / timing.parameter_bytes:.2f}",
        ]


def _series(results: Timings) -> list[Series]:
    kinds = [(device, compiled) for device in results.devices for compiled in KINDS.values()]
    shifts = np.linspace(-0.3, 0.3, len(kinds) + 1)[1:]  # the paper's comes first
    return [
        Series(device, compiled, PALETTE[results.devices.index(device)], float(shift))
        for (device, compiled), shift in zip(kinds, shifts, strict=True)
    ]


def _intervals(
    axes: Axes, series: Series, xs: list[float], found: list[Interval], line: str = "none"
) -> None:
    medians = [each.median for each in found]
    below = [np.nan_to_num(each.median - each.low) for each in found]
    above = [np.nan_to_num(each.high - each.median) for each in found]
    axes.errorbar(
        xs, medians, yerr=[below, above], capsize=2, linewidth=1, linestyle=line,
        label=series.label, **series.look,
    )  # fmt: skip


def _tasks(results: Timings, path: Path) -> None:
    with figure(path, (9, 4)) as canvas:
        canvas.suptitle(f"Run time of a training step over height 0\n{caption(results)}")
        panels = canvas.subplots(1, 3)
        for axes, (name, (percents, half)) in zip(panels, PAPER.items(), strict=True):
            axes.axhline(0, color="gray", linewidth=0.8)
            axes.errorbar(
                [height - 0.3 for height in HEIGHTS[1:]], percents, yerr=half, fmt="D",
                color="black", markersize=4, capsize=2, linewidth=1,
                label="paper, its bars (read off)",
            )  # fmt: skip
            for series in _series(results):
                heights = [h for h in _heights(results, series, name) if 0 < h <= HEIGHTS[-1]]
                measurement = results.at(series.device, name)
                found = [measurement.over(h, series.compiled) for h in heights]
                _intervals(axes, series, [h + series.shift for h in heights], found)
            axes.set_title(results.study.workloads[name].title, size="medium")
            axes.set_xticks(HEIGHTS[1:])
            axes.set_xlim(0.5, HEIGHTS[-1] + 0.5)
            axes.grid(False, axis="x")
            axes.set_xlabel("height")
        panels[0].set_ylabel("% over height 0")
        canvas.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)


def _heights(results: Timings, series: Series, workload: str) -> list[int]:
    measurement = results.at(series.device, workload)
    return measurement.heights(series.compiled) if measurement else []


def _high(results: Timings, path: Path) -> None:
    title = results.study.workloads["mlp"].title
    with figure(path, (9, 4.6)) as canvas:
        canvas.suptitle(f"{title}: run time by height\n{caption(results)}")
        left, right = canvas.subplots(1, 2)
        top = 1
        for series in _series(results):
            heights = _heights(results, series, "mlp")
            if not heights:
                continue
            measurement = results.at(series.device, "mlp")
            top = max(top, heights[-1])
            steps = [measurement.milliseconds(tower(h, series.compiled)) for h in heights]
            _intervals(left, series, list(heights), steps, "-")
            milliseconds, percent = measurement.slope(heights, series.compiled)
            slope = f"{milliseconds.text(3)} ms, {percent.text(2)} % a level"
            over = [measurement.over(h, series.compiled) for h in heights]
            _intervals(right, series, list(heights), over, "-")
            right.containers[-1].set_label(f"{series.label}: {slope}")
        right.plot(
            [0, top], [0, PAPER_HIGH[1] * top], "--", color="black",
            label=f"2019 (read off): {PAPER_HIGH[0]:g} ms, {PAPER_HIGH[1]:g} % a level",
        )  # fmt: skip
        _plain_lines(left, results)
        left.set_ylim(bottom=0)
        left.set_ylabel("ms a step")
        right.set_ylabel("% over height 0")
        for axes in (left, right):
            axes.set_xlabel("height")
        handles, labels = right.get_legend_handles_labels()
        lines = {label: line for line, label in zip(*left.get_legend_handles_labels(), strict=True)}
        plain = [label for label in lines if PLAIN in label]
        canvas.legend(
            handles + [lines[label] for label in plain], labels + plain,
            loc="outside lower center", ncols=2,
            fontsize="small",
        )  # fmt: skip


def _plain_lines(axes: Axes, results: Timings) -> None:
    """`torch.optim`'s times, which know no height."""
    for i, device in enumerate(results.devices):
        measurement = results.at(device, "mlp")
        for name, style in ((PLAIN, ":"), (FUSED, "-.")):
            if measurement:
                axes.axhline(
                    measurement.milliseconds(name).median, color=PALETTE[i], linestyle=style,
                    linewidth=1, label=f"{device}, {name}",
                )  # fmt: skip


def peaks(measurement: Measurement, height: int, compiled: bool) -> Interval:
    """Percent over the median peak at height 0: of the processes the median, least and greatest."""
    base = measurement.timings[tower(0, compiled)].peak
    each = measurement.timings[tower(height, compiled)].peak_bytes
    low, high = (100 * (bound(each) / 2**20 / base - 1) for bound in (min, max))
    return Interval(peak_over(measurement, height, compiled), low, high)


def _memory(results: Timings, path: Path) -> None:
    with figure(path, (9, 5.2)) as canvas:
        canvas.suptitle(f"Memory by height\n{caption(results)}")
        panels = canvas.subplots(2, 3, sharex=True)
        for column, name in enumerate(PAPER):
            peak, state = panels[:, column]
            for series in _series(results):
                heights = [h for h in _heights(results, series, name) if h <= HEIGHTS[-1]]
                measurement = results.at(series.device, name)
                xs = [h + series.shift for h in heights]
                timings = [measurement.timings[tower(h, series.compiled)] for h in heights]
                kept = [timing.state_bytes / timing.parameter_bytes for timing in timings]
                _intervals(
                    peak, series, xs, [peaks(measurement, h, series.compiled) for h in heights]
                )
                state.plot(xs, kept, linestyle="none", **series.look)
            peak.axhline(0, color="gray", linewidth=0.8)
            low, high = peak.get_ylim()
            peak.set_ylim(min(low, -1), max(high, 5))
            state.set_ylim(-0.2, max(state.get_ylim()[1], 3.5))
            peak.set_title(results.study.workloads[name].title, size="medium")
            state.set_xticks(HEIGHTS)
            state.set_xlim(-0.5, HEIGHTS[-1] + 0.5)
            state.set_xlabel("height")
        panels[0, 0].set_ylabel("peak: % over height 0,\nleast to greatest process")
        panels[1, 0].set_ylabel("optimizer's state\n(times the parameters)")
        handles = panels[0, 0].get_legend_handles_labels()
        canvas.legend(*handles, loc="outside lower center", ncols=4)
