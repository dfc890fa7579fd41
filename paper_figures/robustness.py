"""Training loss by initial step size, drawn and judged: does the default need none?"""

import textwrap
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from numpy.typing import NDArray

from experiments.files import write_text
from experiments.studies.robustness import GUESSES, SOUGHT, contenders, guesses
from experiments.studies.tuning import OWN, PLAIN, Training, name
from paper_figures import curves, goal_figures, goals, points
from paper_figures.claims import (
    Claim,
    Estimate,
    lines,
    standing,
    tally,
)
from paper_figures.goals import SLACK, SOURCE
from paper_figures.goals import caption as caption
from paper_figures.results import Results
from paper_figures.style import figure, legend

# Percent above the best: where the axis of losses turns logarithmic, and its ticks.
LINEAR = 5
TICKS = (-20, -10, -5, -2, 0, 2, 5, 10, 20, 50, 100, 200)
HEIGHTS = "Height h: Adam^lr under h levels of SGD, their step sizes by the scheme of Figure 4d."
RULES = f"""\
{goals.DESIGNED}
- The best constant step size is that of Adam whose mean loss is least, of all that were tried.
  (Between 1e-5 and 0.1 these are half decades; they were decades until `peers` had been seen, where
  ResNet-20's best is between two.)
- A first guess is good if the loss it leads to is within {SLACK:g} % of that. Two contenders are
  compared by those that both have runs from. (Until after the results each stood for the decades
  to the next, which made of twelve decades thirteen or fourteen; and until those of every decade
  came in, one by one, all contenders had the same.)
- A rival's first guess is the one that its authors recommend, times the initial step size over
  1e-3: it may be a distance or a share of a norm, and only its factor can be compared.
- {goals.NAMES}
- {HEIGHTS}
  Towers with Adam at the upper levels too were not tried; in Figure 4d's study fewer of those
  diverge.
- The default has the most if it has any and no other contender has more; n is that of the contender
  of fewest runs. (Until after the results n was the default's own, and others' single runs, where
  there are to be several, did not make this `partly`.)
{goals.RULES}"""


def _guesses(results: Results) -> tuple[float, ...]:
    return guesses(results.study.tier(results.tier))


def fixed(results: Results, training: Training) -> str | None:
    """The cell of Adam's best constant step size."""
    tried = sorted({*_guesses(results), *SOUGHT})
    return goals.best_cell(results, training, [name(training, PLAIN, lr) for lr in tried])


def above(results: Results, training: Training, contender: str) -> dict[float, Estimate]:
    """By how many percent it ends above the best constant step size, by first guess."""
    best = goals.losses(results, training, fixed(results, training))
    found = {}
    for guess in _guesses(results):
        cell = name(training, contender, guess)
        ours = goals.losses(results, training, cell)
        found[guess] = goals.excess(ours, best, results.planned[cell])
    return found


def good(results: Results, training: Training, contender: str) -> list[bool | None]:
    """Whether each first guess is good."""
    return [goals.near(found) for found in above(results, training, contender).values()]


def claims(results: Results) -> list[Claim]:
    """The goals."""
    found = [_every_guess(results, training) for training in goals.trainings(results)]
    return [standing(claim, results) for claim in [*found, _most(results)]]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    counts = ", ".join(
        f"{tally(good(results, t, OWN), 'first guesses')} ({t.title})"
        for t in goals.trainings(results)
    )
    different = {t.title: _different(results, t) for t in goals.trainings(results)}
    apart = ", ".join(f"{count} ({title})" for title, count in different.items() if count)
    return (
        f"The default ends within {SLACK:g} % of Adam's best constant step size from {counts}, "
        f"between {GUESSES[0]:g} and {GUESSES[-1]:g}."
        + (
            " Its first step brings a first guess into a range, so that of the trainings of a seed "
            f"at most so many differ, by their losses: {apart}."
            if apart
            else ""
        )
    )


def _different(results: Results, training: Training) -> int:
    """How many of the default's trainings of a seed differ, at most: those of two kinds of machine
    are counted apart."""
    cells = [results.records[name(training, OWN, guess)] for guess in _guesses(results)]
    seeds = {seed for cell in cells for seed in cell}
    return max(
        (len({str(c[s].curves["train_loss"]) for c in cells if s in c}) for s in seeds), default=0
    )


def _every_guess(results: Results, training: Training) -> Claim:
    found = above(results, training, OWN)
    parts = [goals.near(each) for each in found.values()]
    known = {guess: each for guess, each in found.items() if each.n}
    worst = max(known, key=lambda guess: known[guess].mean, default=None)
    far = ", ".join(f"{g:g}" for g, part in zip(found, parts, strict=True) if part is False)
    return Claim(
        f"{training.title}: from every first guess the default ends within {SLACK:g} % of Adam's "
        "best constant step size",
        goals.WITHIN,
        tally(parts, "first guesses")
        + (f"; at worst {goals.said(known[worst])}, from {worst:g}" if worst else ""),
        goals.fewest_known(found.values()),
        goals.verdict(parts, found.values()),
        " ".join(
            filter(
                None,
                [
                    f"Not from {far}." if far else "",
                    goals.beyond({f"{g:g}": e for g, e in found.items()}),
                ],
            )
        ),
    )


def _most(results: Results) -> Claim:
    parts, shown, runs = [], [], []
    for training in goals.trainings(results):
        own, *others = contenders(training)
        counts = {c: _beside(results, training, c) for c in others}
        parts += [None if pair is None else pair[0] >= max(1, pair[1]) for pair in counts.values()]
        known = {c: pair for c, pair in counts.items() if pair}
        for contender in (own, *known):
            runs += above(results, training, contender).values()
        if known:
            most = max(known, key=lambda c: (known[c][1] - known[c][0], known[c][1]))
            shown.append(
                f"{training.title}: {tally(good(results, training, own))}, of {len(known)} others "
                f"at most {most} with {tally(good(results, training, most))}"
            )
    gaps = [None for each in runs if not each.n]  # a first guess that is not yet tried is a part
    return Claim(
        "No other contender has more good first guesses than the default",
        f"{SOURCE}: the most",
        lines(shown),
        goals.fewest_known(runs),
        goals.verdict([*parts, *gaps], runs),
        f"It holds beside {tally(parts, 'pairs of a task and a contender')}."
        + goals.unfinished(runs, "first guesses of a contender"),
    )


def _beside(results: Results, training: Training, other: str) -> tuple[int, int] | None:
    """How many first guesses are good for the default, and for the other one, of those that both
    have runs from; None if there are none."""
    pairs = zip(*(good(results, training, c) for c in (OWN, other)), strict=True)
    both = [(ours, theirs) for ours, theirs in pairs if None not in (ours, theirs)]
    return (sum(x for x, _ in both), sum(y for _, y in both)) if both else None


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figures and their numbers into `folder`, named after the tier."""
    path = folder / results.tier
    steps = path.with_name(f"{results.tier}_step_sizes")
    trainings = goals.trainings(results)
    size = (4.2 * len(trainings), 5.4)
    with figure(path, size) as canvas:
        canvas.suptitle("\n".join([*goals.head(results), HEIGHTS]), size=8)
        panels = canvas.subplots(1, len(trainings))
        for axes, training in zip(panels, trainings, strict=True):
            _panel(axes, results, training)
        panels[0].set_ylabel(
            f"training loss; above Adam's best (logarithmic beyond {LINEAR} %)", size=8
        )
        legend(canvas, panels, 7)
    shades = ScalarMappable(LogNorm(GUESSES[0], GUESSES[-1]), "viridis")  # by first guess
    with figure(steps, size) as canvas:
        canvas.suptitle(f"The step size that the default learns\n{caption(results)}", size=8)
        panels = canvas.subplots(1, len(trainings))
        for axes, training in zip(panels, trainings, strict=True):
            _step_sizes(axes, results, training, shades)
        panels[0].set_ylabel("step size of the default")
        canvas.colorbar(shades, ax=panels, label="first guess", shrink=0.9)
        legend(canvas, [panels[0]], 2)
    write_text(path.with_suffix(".md"), _page(results, path.stem, steps.stem))
    return [path.with_suffix(".svg"), steps.with_suffix(".svg")]


def _panel(axes: Axes, results: Results, training: Training) -> None:
    absent = []
    for contender in contenders(training):
        tried = {*_guesses(results), *(SOUGHT if contender == PLAIN else ())}
        line = {x: goals.loss(results, training, name(training, contender, x)) for x in tried}
        line = {x: found for x, found in sorted(line.items()) if found.n}
        look = {
            "markersize": 3.5,
            "capsize": 1.5,
            "elinewidth": 0.8,
            **goal_figures.style(contender),
        }
        if line:
            points.line(axes, list(line), list(line.values()), label=contender, **look)
        else:
            absent.append(contender)
    if best := fixed(results, training):
        least = goals.loss(results, training, best).mean
        label = f"Adam's best, and {SLACK:g} % above"
        axes.axhspan(least, least * (1 + SLACK / 100), color="gray", alpha=0.35, label=label)
        _stretch(axes, least)
    gaps = textwrap.wrap(f"not run: {', '.join(absent)}", 60) if absent else []
    axes.set_title("\n".join([training.title, *gaps]), size="small")
    axes.set_xscale("log")
    axes.set_xlim(GUESSES[0] / 3, GUESSES[-1] * 3)
    axes.set_xlabel("initial step size (of a rival: the factor on its own, times 1e-3)", size=7)


def _stretch(axes: Axes, least: float) -> None:
    """Losses by how many percent they are above the `least`: most contenders are within a few of
    it, and some at many times that."""

    def above(loss: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.arcsinh(100 * (loss / least - 1) / LINEAR)

    def back(y: NDArray[np.float64]) -> NDArray[np.float64]:
        return least * (1 + LINEAR * np.sinh(y) / 100)

    ends = above(axes.dataLim.intervaly)
    low, high = back(ends + 0.04 * (ends[1] - ends[0]) * np.array([-1, 1]))
    axes.set_yscale("function", functions=(above, back))
    axes.set_ylim(low, high)
    ticks = {least * (1 + percent / 100): percent for percent in TICKS}
    shown = {y: percent for y, percent in ticks.items() if low <= y <= high}
    axes.set_yticks(
        list(shown), [f"{y:.2f}  {p:+d} %" if p else f"{y:.2f}  best" for y, p in shown.items()]
    )
    axes.tick_params(axis="y", labelsize="x-small")


def _step_sizes(axes: Axes, results: Results, training: Training, shades: ScalarMappable) -> None:
    every = _guesses(results)
    for guess in every:
        color = shades.to_rgba(guess)
        curves.plot(
            axes, results, name(training, OWN, guess), curves.curve("lr"), color=color, label="",
            scale=training.epoch_steps,
        )  # fmt: skip
        label = "first guess" if guess == every[0] else None
        axes.plot(0, guess, "x", color=color, label=label)
    if best := fixed(results, training):
        lr = float(best.rpartition(" from ")[2])
        axes.axhline(lr, color="gray", linestyle=":", label="Adam's best constant one")
    axes.set_yscale("log")
    axes.set_title(training.title, size="small")
    # Records have a value an epoch; what happens before the first shows nowhere.
    axes.set_xlim(-0.05 * training.steps, 1.05 * training.steps)
    axes.set_xlabel(f"step; lines begin after {training.epoch_steps}")


def _page(results: Results, *figures: str) -> str:
    tables = [_table(results, training) for training in goals.trainings(results)]
    return goals.page(results, RULES, [HEIGHTS, *tables], claims(results), *figures)


def _table(results: Results, training: Training) -> str:
    every = _guesses(results)
    head = ["contender", "good first guesses", *(f"{x:g}" for x in every)]
    body = []
    for contender in contenders(training):
        row = [contender, tally(good(results, training, contender))]
        row += [goals.both(results, training, name(training, contender, x)) for x in every]
        body.append(row)
    best = fixed(results, training)
    least = f"{best}: {goals.both(results, training, best)}" if best else "not yet run"
    return (
        f"## {training.title}\n\nThe best constant step size: {least}. Loss by initial step size, "
        f"in parentheses {training.metric}.\n\n{points.table(head, body)}"
    )
