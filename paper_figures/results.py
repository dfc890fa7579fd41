"""The records of one tier of a study, arranged for drawing and judging."""

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from experiments import ExperimentError, store, tasks
from experiments.run import Record, Run
from experiments.study import Exhibit, Study
from experiments.timing.study import TimingStudy
from experiments.words import counted
from paper_figures import timings
from paper_figures.timings import Timings


@dataclass(frozen=True)
class Results:
    """What a tier has come to.

    Attributes:
        study, tier: whose results.
        records: by name of the cell and by seed; those of failed runs are left out.
        planned: how many runs each cell is to have.
        begun: how far fuller tiers are that are not shown yet; empty if there are none.
    """

    study: Study
    tier: str
    records: dict[str, dict[int, Record]]
    planned: dict[str, int]
    begun: str = ""

    @property
    def data(self) -> str:
        return self.study.tier(self.tier).data

    @property
    def least_planned(self) -> int:
        """The runs that each cell is to have, or more."""
        return min(self.planned.values())

    @property
    def done(self) -> str:
        """How many of the runs there are."""
        return f"{len(self.all())} of {counted(sum(self.planned.values()), 'run')}"

    def ok(self, name: str) -> list[Record]:
        """The records of the cell's runs that came to an end, by seed."""
        return [record for _, record in sorted(self.records[name].items()) if record.final]

    def values(self, name: str, value: Callable[[Record], float]) -> dict[int, float]:
        """`value` of each of `ok`'s records, by seed."""
        return {record.run.seed: value(record) for record in self.ok(name)}

    def all(self) -> list[Record]:
        return [record for cell in self.records.values() for record in cell.values()]


TITLES = {
    "mnist": "MNIST", "fashion": "Fashion-MNIST", "cifar10": "CIFAR-10", "tolstoy": "War and Peace",
    "caltech256": "Caltech-256", "gaussian": "made-up Gaussian inputs",
    "low_rank": "a made-up matrix of low rank",
}  # fmt: skip
TASKS = {"char_rnn": "the LSTM", "resnet20": "ResNet-20"}  # those that may be in mixed precision


def caption(results: Results) -> str:
    """What is shown: tier, data, seeds and gaps, and of a shortened tier the length."""
    shown = TITLES.get(results.data, results.data)
    others = "" if results.data == results.study.data else ", which are not the paper's data"
    note = shown + others
    copies = {record.provenance.get("data_note") for record in results.all()} - {None}
    note = "; ".join([note, *sorted(copies)])
    return f"Tier {results.tier}: {'; '.join([note, *particulars(results)])}."


def particulars(results: Results) -> list[str]:
    """Of which precision, extent and length the runs are, and how far a fuller tier is."""
    said = [precision(results), extent(results), length(results), results.begun]
    return [text for text in said if text]


def precision(results: Results) -> str:
    """Which networks are computed in mixed precision; empty if none is."""
    mixed: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for run in (record.run for record in results.all()):
        mixed[run.mixed_precision][TASKS.get(run.task, run.task)] = None
    if not mixed[True]:
        return ""
    which = " and ".join(mixed[True]) if mixed[False] else "networks"
    return f"{which} in mixed precision, bfloat16"


def length(results: Results) -> str:
    """How long the runs of a shortened tier are, and those of the fullest; empty for another."""
    runs = [record.run for record in results.all()]
    if not runs or not results.study.tier(results.tier).shortened:
        return ""
    fullest = list(results.study.tiers)[-1]
    trained, _ = _lengths(runs)
    full, unit = _lengths(cell.run for cell in results.study.select(fullest))
    return f"trained for {trained} of tier {fullest}'s {full} {unit}"


def _lengths(runs: Iterable[Run]) -> tuple[str, str]:
    """All there are, and their unit: an epoch of so many steps is no pass through the data, and not
    what others call one."""
    counts, unit = set(), "epochs"
    for run in runs:
        if steps := {**tasks.find(run.task).options, **dict(run.options)}["epoch_steps"]:
            unit = "steps"
        counts.add(run.epochs * (steps or 1))
    return " or ".join(f"{count:,}" for count in sorted(counts)), unit


def extent(results: Results) -> str:
    """How many seeds, of how many where cells that have runs lack some, and how many of the runs
    where any are missing."""
    begun = [name for name, found in results.records.items() if found] or list(results.records)
    have = [len(results.records[name]) for name in begun]
    of = [results.planned[name] for name in begun]
    seeds = " to ".join(str(count) for count in dict.fromkeys((min(have), max(have))))
    if have != of:
        seeds += f" of {'' if min(of) == max(of) else 'up to '}{max(of)}"
    gaps = f", {results.done}" if sum(have) < sum(results.planned.values()) else ""
    return f"{seeds} seed{'' if max(of) == 1 else 's'}{gaps}"


def nothing(study: Exhibit) -> Results | Timings:
    """What there is before anything has run: its fullest tier, with no records."""
    tier = list(study.tiers)[-1]
    if isinstance(study, TimingStudy):
        return Timings(study, tier, {})
    return _arranged(study, tier, {})


def look(study: Exhibit, results: Path, tier: str | None = None) -> Results | Timings | None:
    """The results of `tier`, or of that which `Study.preferred` has first, and how far fuller ones
    are; None if there are none."""
    if isinstance(study, TimingStudy):
        return timings.look(study, results, tier)
    names = [tier] if tier else study.tiers
    tried = {n: _arranged(study, n, store.read(study.path(n, results))) for n in names}
    found = {name: each for name, each in tried.items() if each.all()}
    if not found:
        return None
    first, *_ = study.preferred({n: {r.key for r in each.all()} for n, each in found.items()})
    _, *fuller = itertools.dropwhile(lambda name: name != first, found)
    begun = [f"tier {name} has {found[name].done} so far and isn't shown" for name in fuller]
    return replace(found[first], begun="; ".join(begun))


def _arranged(study: Study, tier: str, known: Mapping[str, Record]) -> Results:
    cells = study.select(tier)
    records: dict[str, dict[int, Record]] = {cell.name: {} for cell in cells}
    planned = dict.fromkeys(records, 0)
    for cell in cells:
        planned[cell.name] += 1
        record = known.get(cell.run.key)
        if record is not None and record.status != "failed":
            records[cell.name][cell.run.seed] = record
    return Results(study, tier, records, planned)


def load(study: Exhibit, results: Path, tier: str | None = None) -> Results | Timings:
    """The same, where there must be some.

    Raises:
        ExperimentError: there are none.
    """
    if tier:
        study.tier(tier)
    found = look(study, results, tier)
    if found is None:
        raise ExperimentError(
            f"{results / study.name} has no records{f' of tier {tier}' if tier else ''}; "
            f"make them with {study.command(tier or 'smoke')}"
        )
    return found
