"""What a `History` shows: its curves as a table, as scalars and as a figure."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gdtuo.errors import GdtuoError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers, without the yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
STYLES = ("-", "--", ":")


class Curve(NamedTuple):
    """One number against the step."""

    group: int
    level: int
    name: str
    part: str
    steps: list[int]
    values: list[float]
    hypergradients: list[float] | None  #: None: it is not learned


def frame(curves: Iterable[Curve]) -> Any:
    """A pandas DataFrame of a row for each step and number."""
    pandas = _imported("pandas", "History.to_frame")
    columns = ("step", "group", "level", "name", "part", "value", "hypergradient")
    rows = [
        (step, c.group, c.level, c.name, c.part, value, slope)
        for c in curves
        for step, value, slope in itertools.zip_longest(
            c.steps, c.values, c.hypergradients or (), fillvalue=float("nan")
        )
    ]
    return pandas.DataFrame(rows, columns=columns)


def scalars(curves: Iterable[Curve], prefix: str) -> Iterator[tuple[str, float, int]]:
    """Tag, value and step of all that a curve has."""
    for c in curves:
        tag = f"{prefix}/group{c.group}/level{c.level}/{c.name}"
        tag += f"/{c.part}" if c.part else ""
        written = {tag: c.values, f"{tag}/hypergradient": c.hypergradients or []}
        for name, numbers in written.items():
            for step, number in zip(c.steps, numbers, strict=False):
                yield name, number, step


def figure(curves: Sequence[Curve]) -> Figure:
    """A row for all that is learned, its value and its hypergradient, a line for each curve."""
    figures = _imported("matplotlib.figure", "History.plot")
    several = len({c.group for c in curves}) > 1
    curves = [c for c in curves if c.hypergradients is not None]
    if not curves:
        raise GdtuoError(
            "History.plot: nothing that is learned is recorded. Take steps with a tower of at "
            "least two levels first; to_frame() has the constants."
        )
    panels = sorted({(c.level, c.name): None for c in curves}, key=lambda panel: panel[0])
    figure = figures.Figure(figsize=(9.0, 0.6 + 1.9 * len(panels)), layout="constrained")
    pairs = figure.subplots(len(panels), 2, sharex=True, squeeze=False)
    for (level, name), (left, right) in zip(panels, pairs, strict=True):
        drawn = [c for c in curves if (c.level, c.name) == (level, name)]
        for k, c in enumerate(drawn):
            colour, style = COLOURS[k % 7], STYLES[k // 7 % 3]
            label = f"group {c.group} {c.part}" if several else c.part
            left.plot(c.steps, c.values, style, color=colour)
            right.plot(c.steps, c.hypergradients, style, color=colour, label=label)
        numbers = [v for c in drawn for v in c.values if math.isfinite(v)]
        if numbers and min(numbers) > 0 and max(numbers) > 100 * min(numbers):
            left.set_yscale("log")
        left.set_ylabel(f"level {level}: {name}")
        right.set_ylabel("hypergradient")
        if 1 < len(drawn) <= 21:
            right.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="x-small")
    for axes in pairs[-1]:
        axes.set_xlabel("step")
    return figure  # type: ignore[no-any-return]


def _imported(name: str, by: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise GdtuoError(f"{by} needs {package}. Install it: pip install {package}") from None
