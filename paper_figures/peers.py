"""Optimizers that are to need no tuning, drawn and judged against each other and tuned ones."""

from pathlib import Path

from experiments.files import write_text
from experiments.studies import cost
from experiments.studies.peers import GRIDS, SCHEDULED, grid
from experiments.studies.tuning import OWN, PLAIN, RIVAL_NAMES, SGD, Training, name
from experiments.timing.measurement import Measurement
from experiments.timing.workload import PLAIN as TORCH
from paper_figures import goal_figures, goals, points, timings
from paper_figures.claims import (
    Claim,
    Estimate,
    estimate,
    lines,
    standing,
    tally,
)
from paper_figures.goals import SLACK, Losses
from paper_figures.goals import caption as caption
from paper_figures.results import Results
from paper_figures.style import figure

RULES = f"""\
{goals.DESIGNED}
- {goals.AS_THEY_COME}
- {goals.NAMES}
- A tuned optimizer has the step size of its grid whose mean loss is least on the task; what it
  spent is the steps of the whole grid.
- Their time is the number of those steps times what a step costs in `cost`, at full precision, over
  a training by torch.optim.Adam.
- In the mean over tasks the default is better than a rival if the 95 % bootstrap interval of the
  geometric mean of their losses' ratios, seed by seed, is below 1.
{goals.RULES}"""

TUNED = f"{PLAIN}, tuned"
# What each line of the figure is of, and how many points of the grid it may try; None: all.
TRIED: dict[str, tuple[str, int | None]] = {
    TUNED: (PLAIN, None),
    f"{PLAIN}, first of the grid": (PLAIN, 1),
    f"{SCHEDULED}, tuned": (SCHEDULED, None),
    f"{SGD}, tuned": (SGD, None),
    f"{SGD}, first of the grid": (SGD, 1),
}
LINES = (OWN, *RIVAL_NAMES, *TRIED)


def cell(results: Results, training: Training, line: str) -> str | None:
    """The cell that a line of the figure is of; None if nothing has run."""
    if line not in TRIED:
        return name(training, line)
    contender, few = TRIED[line]
    return best(results, training, contender, few)


def best(results: Results, training: Training, contender: str, few: int | None) -> str | None:
    """The best of the first few points of a contender's grid."""
    tried = grid(results.study.tier(results.tier), contender)[:few]
    return goals.best_cell(results, training, (name(training, contender, x) for x in tried))


def losses(results: Results, training: Training, line: str) -> Losses:
    return goals.losses(results, training, cell(results, training, line))


def above(results: Results, training: Training, line: str) -> Estimate:
    """By how many percent the line is above tuned Adam."""
    ours, theirs = (losses(results, training, each) for each in (line, TUNED))
    return goals.excess(ours, theirs, results.least_planned)


def overall(results: Results, line: str) -> Estimate:
    """The same in the mean over the tasks."""
    trainings = goals.trainings(results)
    pairs = [(losses(results, t, line), losses(results, t, TUNED)) for t in trainings]
    return goals.mean_excess(pairs, results.least_planned)


def worst(results: Results, line: str) -> str:
    """By how much it is above the best line of a task, on the task where that is most."""
    over = {}
    for training in goals.trainings(results):
        means = {x: goals.loss(results, training, cell(results, training, x)) for x in LINES}
        if means[line].n:
            least = min(found.mean for found in means.values() if found.n)
            over[training.title] = 100 * (means[line].mean / least - 1)
    title = max(over, key=over.__getitem__, default=None)
    return f"{over[title]:.1f} % ({title})" if title else "-"


def reached(results: Results, training: Training, line: str) -> Estimate:
    """The steps until an epoch's mean loss is that of tuned Adam's last."""
    target, own = losses(results, training, TUNED), cell(results, training, line)
    steps = []
    for seed, record in sorted(results.records.get(own or "", {}).items()):
        means = enumerate(record.curves["train_loss"], start=1)
        goal = target.get(seed, -1.0)
        epoch = next((n for n, x in means if x is not None and x <= goal), None)
        steps += [] if epoch is None else [epoch * training.epoch_steps]
    return estimate(steps, results.planned.get(own or "", 0))


def measured(results: Results, training: Training, folder: Path) -> Measurement | None:
    """What a step takes at full precision, of the task's model; None if that is not the paper's, or
    not measured."""
    found = timings.look(cost.STUDY, folder, "paper")
    if results.data != results.study.data or found is None:
        return None
    return found.at("cpu", training.name)


def until(line: str, steps: Estimate, training: Training, costs: Measurement | None) -> str:
    """The time that so many steps take, in times of one training by `torch.optim.Adam`."""
    contender, _ = TRIED.get(line, (line, None))
    timed = TORCH if contender in (PLAIN, SCHEDULED) else contender
    if costs is None or not steps.n or timed not in costs.timings:
        return "-"
    times = [
        steps.mean / training.steps * costs.ratio(name, TORCH).median
        for name in ([OWN, cost.COMPILED_OWN] if line == OWN else [timed])
        if name in costs.timings
    ]
    return ", compiled ".join(f"{each:.2f}" for each in times)


def claims(results: Results) -> list[Claim]:
    """The goals."""
    found = [_tuned(results), goals.no_worse(results, name), goals.better(results, name)]
    return [standing(claim, results) for claim in found]


def summary(results: Results) -> str:
    """The findings in a few sentences."""
    over = {line: overall(results, line) for line in LINES if line != TUNED}
    own = over.pop(OWN)
    if not own.n:
        return "The default and tuned Adam have no runs in common yet."
    others = ", ".join(f"{line} {goals.said(x)}" for line, x in over.items() if x.n)
    edges = {line: _edge(results, contender) for line, (contender, few) in TRIED.items() if not few}
    ends = "".join(f" {line} was best {end}." for line, end in edges.items() if end)
    return (
        "Where the loss ends, against that of tuned Adam, which took "
        f"{len(GRIDS[PLAIN])} times as many steps, in the mean over the tasks: "
        f"the default {goals.said(own)}" + (f"; {others}." if others else ".") + ends
    )


def _edge(results: Results, contender: str) -> str:
    tried = sorted(grid(results.study.tier(results.tier), contender))
    return goals.edge(
        results, {t: [name(t, contender, x) for x in tried] for t in goals.trainings(results)}
    )


def _tuned(results: Results) -> Claim:
    found = {t.title: above(results, t, OWN) for t in goals.trainings(results)}
    parts = [goals.near(each) for each in found.values()]
    return Claim(
        f"On every task the default ends within {SLACK:g} % of tuned Adam",
        goals.WITHIN,
        lines(f"{title}: {goals.said(each)}" for title, each in found.items()),
        goals.fewest_known(found.values()),
        goals.verdict(parts, found.values()),
        f"It holds on {tally(parts, 'tasks')}.",
    )


def draw(results: Results, folder: Path) -> list[Path]:
    """Write the figure and its numbers into `folder`, named after the tier."""
    path = folder / results.tier
    trainings = goals.trainings(results)
    with figure(path, (3 * (len(trainings) + 1) + 1.5, 5)) as canvas:
        canvas.suptitle("\n".join(goals.head(results)), size=8)
        panels = canvas.subplots(1, len(trainings) + 1, sharey=True)
        for axes, training in zip(panels, trainings, strict=False):
            goal_figures.ruled(axes, LINES, training.title, "% above tuned Adam")
            goal_figures.dots(axes, (above(results, training, line) for line in LINES))
        goal_figures.ruled(panels[-1], LINES, "mean over the tasks", "% above tuned Adam")
        goal_figures.dots(panels[-1], (overall(results, line) for line in LINES))
    tables = [_overall(results)]
    for training in trainings:
        tables.append(_table(results, training, measured(results, training, folder.parent)))
    write_text(
        path.with_suffix(".md"), goals.page(results, RULES, tables, claims(results), path.stem)
    )
    return [path.with_suffix(".svg")]


def _overall(results: Results) -> str:
    head = ["contender", "above tuned Adam, mean over tasks", "above the best, on its worst task"]
    body = [[x, overall(results, x).text(1, " %"), worst(results, x)] for x in LINES]
    return points.table(head, body)


def _table(results: Results, training: Training, costs: Measurement | None) -> str:
    head = ["contender", f"loss ({training.metric})", "above tuned Adam",
            "steps to tuned Adam's loss", "their time, in trainings by Adam", "steps spent",
            "from"]  # fmt: skip
    body = []
    for line in LINES:
        own = cell(results, training, line)
        contender, few = TRIED.get(line, (line, 1))
        tried = len(grid(results.study.tier(results.tier), contender)[:few]) if few is None else few
        body.append([
            line, goals.both(results, training, own), above(results, training, line).text(1, " %"),
            (steps := reached(results, training, line)).text(0),
            until(line, steps, training, costs), f"{tried * training.steps:,}",
            (own or "-").partition(" from ")[2] or "as recommended",
        ])  # fmt: skip
    return f"## {training.title}\n\n{points.table(head, body)}\n\n{_bought(results, training)}"


def _bought(results: Results, training: Training) -> str:
    """What Adam comes to by how many points of its grid are tried, in their order."""
    tried = grid(results.study.tier(results.tier), PLAIN)
    found = []
    for few in range(1, len(tried) + 1, 2):
        loss = goals.loss(results, training, best(results, training, PLAIN, few))
        found.append(f"{loss.text(3)} with {few * training.steps:,} steps")
    return f"Adam, the best of the first points of its grid: {', '.join(found)}."
