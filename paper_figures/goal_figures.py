"""How the studies of optimizers that need no tuning are drawn: their lines, and dots in percent."""

import math
from collections.abc import Iterable, Sequence

import seaborn as sns
from matplotlib.axes import Axes

from experiments.studies.tuning import OWN, PLAIN, RIVAL_NAMES, SGD, TOWERS
from paper_figures.claims import Estimate
from paper_figures.goals import SLACK
from paper_figures.style import PALETTE

# The axis of percentages: linear up to here, and where it may end.
LINEAR = 10
TICKS = (-50, -20, -LINEAR, LINEAR, 20, 50, 100, 200, 500, 1000, 10_000)


def style(contender: str) -> dict[str, object]:
    """The line of a contender, the same in every figure."""
    if contender == OWN:
        return {"color": "black", "marker": "o", "linestyle": "-", "linewidth": 2.2, "zorder": 5}
    if contender in (PLAIN, SGD):
        dashes = "-" if contender == PLAIN else ":"
        return {"color": "gray", "marker": "s", "linestyle": dashes, "linewidth": 1.6}
    if contender in TOWERS:
        place = TOWERS[contender] - 1
        blue = sns.color_palette("Blues", 5)[2 + place]
        return {"color": blue, "marker": "^v<"[place], "linestyle": "-.", "linewidth": 1.2}
    # Of the palette without its first blue and the gray, which are taken.
    colors = [color for i, color in enumerate(PALETTE) if i not in (0, 7)]
    place = RIVAL_NAMES.index(contender)
    color, marker = colors[place % len(colors)], "XPD*hp8d"[place % 8]
    return {"color": color, "marker": marker, "linestyle": "--", "linewidth": 1.0}


def ruled(axes: Axes, rows: Sequence[str], title: str, label: str) -> None:
    """An empty panel for `dots`, with the slack as a band."""
    axes.axvspan(-SLACK, SLACK, color=PALETTE[2], alpha=0.15, linewidth=0)
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_xscale("symlog", linthresh=LINEAR)
    axes.set_xlim(-12, 12)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_title(title, size="small")
    axes.set_xlabel(f"{label}\n(logarithmic beyond {LINEAR})", size="small")


def dots(axes: Axes, rows: Iterable[Estimate], *, shift: float = 0, **look: object) -> None:
    """By how many percent each is above something: a dot with its interval, row by row. Beyond 10 a
    narrow panel has room for the last tick of a side alone."""
    look = {"color": "black", "marker": "o", **look}
    for y, found in enumerate(rows):
        if found.n:
            off = [[max(found.mean - found.low, 0)], [max(found.high - found.mean, 0)]]
            axes.errorbar(
                found.mean, y + shift, xerr=off if found.n > 1 else None, markersize=4, capsize=2,
                linestyle="none", **look,
            )  # fmt: skip
            ends = [x for x in (found.mean, found.low, found.high) if not math.isnan(x)]
            low, high = axes.get_xlim()
            axes.set_xlim(min(low, 1.3 * min(ends)), max(high, 1.3 * max(ends)))
    low, high = axes.get_xlim()
    shown = [tick for tick in TICKS if low <= tick <= high]
    ticks = sorted({shown[0], 0, LINEAR, shown[-1]})
    axes.set_xticks(ticks, [str(tick) for tick in ticks], size="x-small")
