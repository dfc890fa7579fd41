"""The default's goals: how the studies of optimizers that need no tuning are judged and drawn.

They are not the paper's claims, but are kept and judged like them: as code, with rules that were
written before the runs.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from statistics import mean

from experiments import tasks
from experiments.optimizers import RIVALS
from experiments.run import Record
from experiments.studies.tuning import OWN, RIVAL_NAMES, Training
from experiments.words import significant
from paper_figures import points
from paper_figures.claims import (
    MISSING,
    NOT,
    NOT_TESTABLE,
    PARTLY,
    REPRODUCED,
    Claim,
    Estimate,
    estimate,
    findings,
    lines,
    ruling,
    tally,
)
from paper_figures.results import TITLES, Results, particulars

SOURCE = "the default's goals"
SLACK = 2.0  # percent
WITHIN = f"{SOURCE}: within {SLACK:g} %"
AS_THEY_COME = """\
Rivals are as their authors recommend: ScheduleFreeAdamW, AdamHD and SGDHD, which still have a step
  size, with that of their packages or papers. ScheduleFreeAdamW has no warm-up, which its authors
  advise, but of no length that would suit every run."""
NAMES = """\
AdamHD and SGDHD are Adam and SGD with hypergradient descent, DAdaptAdam is Adam with
  D-Adaptation, MechanicAdam Adam with Mechanic."""
DESIGNED = """\
- The default was designed on these tasks: by single runs at first; its second and third version
  when these studies' records of the one before were known. `heldout` has other tasks."""
RULES = f"""\
- The default is in its third version. The two before were judged by these goals too, on the same
  tasks and seeds, met fewer of them (docs/findings.md), and were changed.
- The loss of a run is the mean training loss of its last epoch. It is measured at the weights that
  gradients are taken at; for an optimizer that averages weights these are not the average.
- A run that diverged, or that ends above the loss of one who knows nothing of the input (of ten
  classes, ln 10), counts with that loss.
- A loss is above another by a percentage of the other one, paired by seed over the seeds that have
  both. It is within {SLACK:g} % if the mean of that is {SLACK:g} % or less; findings say where the
  interval reaches beyond. (Claims of the paper that learning be no worse take the whole interval.)
- The best of several is that of the least mean loss over the seeds that all of them have that have
  any; if there are none, that of those whose runs are complete. (Until these results were
  in, each had the mean over its own seeds, so that one with a single lucky seed could win.)
- A goal that has several parts is `reproduced` if all of them hold, `partly` if half of them do.
  Parts that have no records are left out and counted, and then it is `partly` at most; so it is
  where of several seeds only one has run. (The latter was added when all held-out tasks had one.)
- Numbers from other data than the study's are `not testable`."""

Losses = dict[int, float]
# Of a task and a contender, the name of a cell.
Cell = Callable[[Training, str], str]


def trainings(results: Results) -> tuple[Training, ...]:
    """The tasks of the tier that the goals are about."""
    return results.study.tier(results.tier).tasks


def seen(results: Results) -> tuple[Training, ...]:
    """Those beside them, which the default was tried on while it was designed."""
    return results.study.tier(results.tier).seen


def caption(results: Results) -> str:
    """What is shown: tier, data, seeds and gaps."""
    data = dict.fromkeys(t.data for t in (*trainings(results), *seen(results)))
    shown = ", ".join(TITLES.get(name, name) for name in data)
    others = "" if results.data == results.study.data else ", which the goals are not about"
    notes = {record.provenance.get("data_note") for record in results.all()} - {None}
    parts = [shown + others, *sorted(notes), *particulars(results)]
    return f"Tier {results.tier}: {'; '.join(parts)}."


def losses(results: Results, training: Training, cell: str | None) -> Losses:
    """By seed; empty if there is no such cell, or nothing has run."""

    def loss(record: Record) -> float:
        found = float(record.final["train_loss"]) if record.final else math.inf
        return min(found, training.guess)

    found = results.records.get(cell or "", {})
    return {seed: loss(record) for seed, record in sorted(found.items())}


def loss(results: Results, training: Training, cell: str | None) -> Estimate:
    found = losses(results, training, cell)
    return estimate(found.values(), results.planned.get(cell or "", 0))


def tested(results: Results, training: Training, cell: str | None) -> Estimate:
    """The task's own metric, over the runs that came to an end."""
    metric = tasks.find(training.task).metric
    if cell not in results.records:
        return estimate([], 0)
    found = results.values(cell, lambda record: float(record.final[metric]))
    return estimate(found.values(), results.planned[cell])


def both(results: Results, training: Training, cell: str | None) -> str:
    """The loss, and the test's metric in parentheses; "-" if nothing has run."""
    found = loss(results, training, cell)
    if not found.n:
        return "-"
    metric = tested(results, training, cell)
    return (
        f"{found.text(3)} ({significant(metric.mean, 3)})"
        if metric.n
        else f"{found.text(3)} (diverged)"
    )


def best_cell(results: Results, training: Training, cells: Iterable[str]) -> str | None:
    """The cell of the least mean loss, of those that have records, over the seeds that all have."""
    found = {cell: x for cell in cells if (x := losses(results, training, cell))}
    if not _common(found):
        found = {cell: x for cell, x in found.items() if len(x) == results.planned[cell]}
    seeds = _common(found)
    return min(found, key=lambda cell: mean(found[cell][s] for s in seeds)) if seeds else None


def _common(found: Mapping[str, Losses]) -> list[int]:
    """The seeds that all of them have."""
    return sorted(set.intersection(*map(set, found.values()))) if found else []


def excess(ours: Losses, theirs: Losses, of: int) -> Estimate:
    """By how many percent ours is above theirs."""
    return estimate((100 * (ours[s] / theirs[s] - 1) for s in ours if s in theirs), of)


def mean_excess(pairs: Sequence[tuple[Losses, Losses]], of: int) -> Estimate:
    """The geometric mean over several tasks, of those pairs that have a seed in common."""
    known = [pair for pair in pairs if pair[0].keys() & pair[1].keys()]
    if not known:
        return estimate([], of)
    seeds = set.intersection(*({*ours} & {*theirs} for ours, theirs in known))

    def ratio(seed: int) -> float:
        return math.exp(mean(math.log(ours[seed] / theirs[seed]) for ours, theirs in known))

    return estimate((100 * (ratio(seed) - 1) for seed in sorted(seeds)), of)


def said(over: Estimate, what: str = "") -> str:
    """An excess in words: "4.2 [3.9, 4.5] % above DoG"; a negative one turned round, as "below"."""
    if not over.n:
        return over.text()
    turned = Estimate(-over.mean, -over.high, -over.low, over.n, over.of)
    found, word = (over, "above") if over.mean >= 0 else (turned, "below")
    return f"{found.text(1, ' %')} {word} {what}".rstrip()


def near(found: Estimate) -> bool | None:
    """Whether it is within the slack; None if nothing is known."""
    return bool(found.mean <= SLACK) if found.n else None


BEYOND = "The interval reaches beyond"


def edge(results: Results, cells: Mapping[Training, Sequence[str]]) -> str:
    """Where the best cell is at an end of those that were tried, in order, as a sentence, if it is
    anywhere: a longer grid may have had a better one."""
    ends = [
        training.title
        for training, tried in cells.items()
        if best_cell(results, training, tried) in (tried[0], tried[-1])
    ]
    return f"at an end of its grid, beyond which nothing was tried: {', '.join(ends)}" * bool(ends)


def beyond(over: Mapping[str, Estimate]) -> str:
    """Where the interval of what is within the slack reaches beyond it, as a sentence, if it does
    anywhere."""
    far = [name for name, each in over.items() if each.n > 1 and near(each) and each.high > SLACK]
    return f"{BEYOND} {SLACK:g} %: {', '.join(far)}." if far else ""


def below(found: Estimate) -> bool | None:
    """Whether the whole interval is below 0; None if there is no interval."""
    return bool(found.high < 0) if found.n > 1 else None


def verdict(parts: Sequence[bool | None], estimates: Collection[Estimate]) -> str:
    """The verdict on the parts of a goal; `estimates` are what they rest on."""
    known = [part for part in parts if part is not None]
    if not known:
        return NOT_TESTABLE if any(each.n for each in estimates) else MISSING
    if all(known) and len(known) == len(parts) and not of_one(estimates):
        return REPRODUCED
    return PARTLY if 2 * sum(known) >= len(known) else NOT


def of_one(estimates: Iterable[Estimate]) -> bool:
    """Whether some have one run where there are to be several."""
    return any(each.n == 1 < each.of for each in estimates)


def unfinished(estimates: Collection[Estimate], what: str) -> str:
    """How many of the estimates, each of a `what`, have fewer runs than there are to be; empty if
    none has."""
    few = sum(each.n < each.of for each in estimates)
    return f" Of {len(estimates)} {what} {few} have fewer runs than planned." if few else ""


def fewest_known(estimates: Iterable[Estimate]) -> str:
    """The least count of runs, of those estimates that have any."""
    return min((e for e in estimates if e.n), key=lambda e: e.n, default=estimate([], 0)).count


def over_best(results: Results, cell: Cell) -> dict[Training, tuple[Estimate, str]]:
    """By how many percent the default is above the best rival of each task, and which that is."""
    found = {}
    for training in trainings(results):
        best = best_cell(results, training, (cell(training, rival) for rival in RIVAL_NAMES))
        ours, theirs = (losses(results, training, x) for x in (cell(training, OWN), best))
        over = excess(ours, theirs, results.planned[cell(training, OWN)])
        rival = next((r for r in RIVAL_NAMES if cell(training, r) == best), "nobody yet")
        found[training] = (over, rival)
    return found


def no_worse(results: Results, cell: Cell) -> Claim:
    """That on no task the default is worse than the best rival."""
    found = over_best(results, cell)
    over = {t.title: each for t, (each, _) in found.items()}
    parts = [near(each) for each in over.values()]
    return Claim(
        f"On no task is the default more than {SLACK:g} % worse than the best rival",
        WITHIN,
        lines(f"{t.title}: {said(each, rival)}" for t, (each, rival) in found.items()),
        fewest_known(over.values()),
        verdict(parts, over.values()),
        f"It holds on {tally(parts, 'tasks')}. {beyond(over)}".rstrip(),
    )


def _better_than(over: Mapping[str, Estimate], parts: Sequence[bool | None]) -> str:
    if any(each.n for each in over.values()) and all(part is None for part in parts):
        less = [each.mean < 0 if each.n else None for each in over.values()]
        return f"It is below {tally(less, 'rivals')}."
    return f"It is better than {tally(parts, 'rivals')}."


def better(results: Results, cell: Cell) -> Claim:
    """That in the mean over tasks the default is better than each rival."""
    of, over, complete = results.least_planned, {}, True
    for rival in RIVAL_NAMES:
        pairs = [
            tuple(losses(results, t, cell(t, contender)) for contender in (OWN, rival))
            for t in trainings(results)
        ]
        complete = complete and all(ours.keys() & theirs.keys() for ours, theirs in pairs)
        over[rival] = mean_excess(pairs, of)
    parts = [below(found) for found in over.values()]
    return Claim(
        "In the mean over the tasks the default is better than each rival",
        f"{SOURCE}: below each, with the whole interval",
        lines(said(found, rival) for rival, found in over.items()),
        fewest_known(over.values()),
        verdict(parts if complete else [*parts, None], over.values()),
        _better_than(over, parts)
        + ("" if complete else " Not all tasks have runs of all of them."),
    )


def head(results: Results) -> list[str]:
    """What is shown; of which data; of what the losses are, and who is tested by an average."""
    averaged = [n for n, r in RIVALS.items() if r.averages and any(n in c for c in results.planned)]
    measured = "Training loss of the last epoch, at the weights that gradients are taken at."
    if averaged:
        measured += f" What is tested of {' and '.join(averaged)} is an average."
    return [results.study.title, caption(results), measured]


def page(
    results: Results, rules: str, tables: Sequence[str], claims: Sequence[Claim], *figures: str
) -> str:
    """The page of a tier, in Markdown."""
    title, *about = head(results)
    parts = [
        f"# {title}",
        *about,
        *tables,
        findings(claims),
        *(f"![{title}]({figure}.svg)" for figure in figures),
        ruling(rules),
    ]
    return points.page(parts)
