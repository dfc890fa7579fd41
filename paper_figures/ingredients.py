"""What each part of the default is worth, drawn and judged."""

from pathlib import Path

from experiments.files import write_text
from experiments.rivals import PARTS
from experiments.studies.ingredients import VARIANTS, variant, without
from experiments.studies.tuning import FAR, OWN, Training, name
from paper_figures import goal_figures, goals, points
from paper_figures.claims import MISSING, NOT, PARTLY, REPRODUCED, Claim, Estimate, standing
from paper_figures.goals import SLACK, SOURCE
from paper_figures.goals import caption as caption
from paper_figures.results import Results
from paper_figures.style import PALETTE, figure

RULES = f"""\
{goals.DESIGNED}
- A part is worth having if without it the loss, on some task from some first guess, is more than
  {SLACK:g} % above that of the whole default from there: `reproduced` if nowhere without it the
  loss is more than {SLACK:g} % below, `partly` if it is, `not` if it is never more than that above.
- Where tasks or first guesses have no records it is judged by the others, and `partly` at most.
{goals.RULES}"""

LOOKS = {guess: (PALETTE[i], "osD"[i], 0.22 * (i - 1)) for i, guess in enumerate(FAR)}


def above(results: Results, training: Training, part: str, guess: float) -> Estimate:
    """By how many percent the loss is higher without the part."""
    cells = [name(training, variant(each), guess) for each in (part, "")]
    without, whole = (goals.losses(results, training, cell) for cell in cells)
    return goals.excess(without, whole, results.planned[cells[0]])


def everywhere(results: Results, part: str) -> dict[tuple[str, float], Estimate]:
    """The same by task and first guess."""
    every = goals.trainings(results)
    return {(t.title, guess): above(results, t, part, guess) for t in every for guess in FAR}


def claims(results: Results) -> list[Claim]:
    """That each part is worth having."""
    return [standing(_worth(results, part), results) for part in PARTS]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    found = []
    for part in PARTS:
        known = [each.mean for each in everywhere(results, part).values() if each.n]
        span = f"{min(known):+.1f} to {max(known):+.1f} %" if known else "not yet run"
        found.append(f"{without(part)} {span}")
    return f"What the loss of the default is higher by: {', '.join(found)}."


def _worth(results: Results, part: str) -> Claim:
    found = everywhere(results, part)
    known = {place: each for place, each in found.items() if each.n}
    most, least = (f(known, key=lambda p: known[p].mean, default=None) for f in (max, min))
    verdict = MISSING
    if most and least:
        complete = len(known) == len(found) and not goals.of_one(found.values())
        harmless = known[least].mean >= -SLACK
        whole = REPRODUCED if harmless and complete else PARTLY
        verdict = whole if known[most].mean > SLACK else NOT
    shown = [
        f"{goals.said(known[place])} ({place[0]}, from {place[1]:g})"
        for place in dict.fromkeys((most, least)) if place
    ]  # fmt: skip
    gaps = f" (places with runs: {len(known)} of {len(found)})" if len(known) < len(found) else ""
    return Claim(
        f"{without(part).capitalize()} the default is worse somewhere, and nowhere better",
        f"{SOURCE}: by more than {SLACK:g} %",
        "<br>".join(shown) + gaps,
        goals.fewest_known(found.values()),
        verdict,
    )


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    trainings = goals.trainings(results)
    with figure(path, (3.4 * len(trainings) + 1, 4.6)) as canvas:
        canvas.suptitle("\n".join(goals.head(results)), size=8)
        panels = canvas.subplots(1, len(trainings), sharey=True)
        for axes, training in zip(panels, trainings, strict=True):
            goal_figures.ruled(
                axes,
                [without(part) for part in PARTS],
                training.title,
                f"% above the whole {OWN}",
            )
            for guess, (color, marker, shift) in LOOKS.items():
                found = (above(results, training, part, guess) for part in PARTS)
                goal_figures.dots(axes, found, shift=shift, color=color, marker=marker)
                axes.plot([], [], marker, color=color, label=f"from {guess:g}")
        handles, labels = panels[0].get_legend_handles_labels()
        canvas.legend(handles, labels, loc="outside lower center", ncols=len(FAR))
    tables = [_table(results, training) for training in trainings]
    write_text(
        path.with_suffix(".md"), goals.page(results, RULES, tables, claims(results), path.stem)
    )
    return [path.with_suffix(".svg")]


def _table(results: Results, training: Training) -> str:
    head = ["", *(f"from {guess:g}" for guess in FAR)]
    body = [
        [variant(part), *(goals.both(results, training, name(training, variant(part), guess))
                          for guess in FAR)]
        for part in VARIANTS
    ]  # fmt: skip
    return (
        f"## {training.title}\n\nLoss, in parentheses {training.metric}.\n\n"
        f"{points.table(head, body)}"
    )
