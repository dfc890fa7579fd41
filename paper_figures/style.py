"""One look for all figures, and files whose bytes depend on the records alone."""

import io
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import seaborn as sns
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from experiments.files import replacing

PALETTE = sns.color_palette("colorblind")
# Opaque and light, so that a figure reads the same on a light page and on a dark one.
SETTINGS = {
    **sns.axes_style("whitegrid"),
    **sns.plotting_context("paper"),
    "font.family": "DejaVu Sans",  # comes with matplotlib, so it is the same everywhere
    "figure.facecolor": "white",
    "figure.dpi": 150,
}


@contextmanager
def figure(path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    """A figure to draw on, saved at the end of the block as `path` with .svg and .png."""
    with rc_context(SETTINGS):
        canvas = Figure(size, layout="constrained")
        yield canvas
        png, svg = io.BytesIO(), io.BytesIO()
        # Without what would differ from one drawing to the next. `savefig` would lay the figure
        # out for each file, which takes longer than to draw it: here it is done once.
        FigureCanvasAgg(canvas).print_png(png, metadata={"Software": None})
        canvas.set_layout_engine("none")
        FigureCanvasSVG(canvas).print_svg(svg, metadata={"Date": None, "Creator": None})
        path.parent.mkdir(parents=True, exist_ok=True)
        for kind, drawn in [(".png", png.getvalue()), (".svg", canonical(svg.getvalue()))]:
            with replacing(path.with_suffix(kind)) as stream:
                stream.write(drawn)


def canonical(svg: bytes) -> bytes:
    """`svg` without what differs from one drawing or processor to the next: the last digits of
    coordinates, and the names of what is referred to, which are random.

    >>> canonical(b'<path id="m0123456789" d="M 34.39824 232.457842"/><use href="#m0123456789"/>')
    b'<path id="shared1" d="M 34.398 232.458"/><use href="#shared1"/>'
    """
    names: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        return found[1] + names.setdefault(found[2], f"shared{len(names) + 1}")

    text = re.sub(r'(id="|#)([A-Za-z]\w*?[0-9a-f]{10})\b', named, svg.decode())
    return re.sub(r"-?\d+\.\d{5,}", lambda found: f"{float(found[0]):.3f}", text).encode()


def heading(title: str, caption: str, width: int = 90) -> str:
    """Of a figure nine inches wide, or more: no line has more characters than `width`."""
    return "\n".join([title, *textwrap.wrap(caption, width)])


def legend(canvas: Figure, panels: Iterable[Axes], columns: int) -> None:
    """One legend below all panels, in which what several have has one place."""
    handles: dict[str, object] = {}
    for axes in panels:
        handles |= dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    canvas.legend(handles.values(), handles, loc="outside lower center", ncols=columns)


def numbered(axis: Axis, ticks: Sequence[float]) -> None:
    """Plain numbers at `ticks` of a logarithmic axis, and nothing between."""
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")
