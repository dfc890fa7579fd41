"""`results/CLAIMS.md`: every claim of the paper, ours beside it, and where ours comes from."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.files import write_text
from experiments.run import Record
from experiments.study import Study
from experiments.timing.record import Timing
from experiments.words import counted
from paper_figures import points
from paper_figures.claims import (
    MISSING,
    TOO_SHORT,
    Claim,
    findings,
)
from paper_figures.results import Results
from paper_figures.timings import Timings
from paper_figures.tower_sweeps import TowerFigure

HEAD = ("claim", "paper", "ours [95 % interval]", "n", "tier", "verdict")
MACHINE = ("processor", "vector_unit", "device", "threads", "python", "torch", "gdtuo")


# What draws a table or figure and judges it.
Drawn = ModuleType | TowerFigure
Judged = tuple[Drawn, Results | Timings, list[Claim]]


def judge(found: Sequence[tuple[Drawn, Results | Timings]]) -> list[Judged]:
    """All claims about the results in `found`, each with its module here.

    Of those that have no records the claims are there all the same, as `not yet run`.
    """
    judged = [(module, results, module.claims(results)) for module, results in found]
    return [
        (module, results, claims if results.all() else _unknown(claims))
        for module, results, claims in judged
    ]


def write(judged: Sequence[Judged], folder: Path) -> Path:
    """Write the page into `folder`; returns its path."""
    path = folder / "CLAIMS.md"
    parts = [
        "# Each claim that is judged, its rule and its evidence",
        "Written by `python -m paper_figures` from the records in this folder; "
        "[REPORT.md](REPORT.md) has the findings. Every number is a mean over seeds, or for run "
        "time a median over rounds; n is their number.",
    ]
    recorded = [each for each in judged if each[1].all()]
    for each in recorded:
        parts += _section(*each)
    for each in (each for each in judged if not each[1].all()):
        parts += _unrecorded(*each)
    found = [results for _, results, _ in recorded]
    parts += ["## Where the numbers come from", *map(_provenance, found)]
    write_text(path, points.page(parts))
    return path


def _unrecorded(module: Drawn, results: Results | Timings, claims: list[Claim]) -> list[str]:
    return [
        f"## {results.study.title}",
        f"Not yet run; `{results.study.command('smoke')}` makes a first set of records.",
        _table(results, claims),
        "### Rules, written before there are results",
        module.RULES,
    ]


def _section(module: Drawn, results: Results | Timings, claims: list[Claim]) -> list[str]:
    folder = results.study.name
    remarks = findings(claims)
    short = any(claim.verdict == TOO_SHORT for claim in claims)
    return [
        f"## {results.study.title}",
        f"{module.caption(results)} The [table]({folder}/{results.tier}.md) has the same in short.",
        _table(results, claims),
        *([_needed(results.study)] if short else []),
        f"![{results.study.title}]({folder}/{results.tier}.svg)",
        *(["### Findings", remarks] if remarks else []),
        "### Rules, written before these results were seen unless one says otherwise",
        module.RULES,
    ]


def _table(results: Results | Timings, claims: Sequence[Claim]) -> str:
    rows = [(c.text, c.paper, c.ours, c.n, results.tier, f"**{c.verdict}**") for c in claims]
    return points.table(HEAD, rows)


def _unknown(claims: Sequence[Claim]) -> list[Claim]:
    return [replace(claim, ours="-", n="0", verdict=MISSING, finding="") for claim in claims]


def _needed(study: Study) -> str:
    """The length at which what is too short would be seen."""
    name, tier = list(study.tiers.items())[-1]
    return f"What is {TOO_SHORT} takes that of tier {name} ({tier.about}): `{study.command(name)}`."


def _provenance(results: Results | Timings) -> str:
    lines = _of_timings(results) if isinstance(results, Timings) else _of_runs(results)
    return "\n".join(f"- {line}" for line in lines)


def _of_timings(results: Timings) -> list[str]:
    records = results.all()
    title = f"{results.study.title}, tier {results.tier}"
    return [
        f"{title}: {counted(len(records), 'optimizer')} timed, {_dates(records)}",
        f"code: {_each(records, _code)}",
        f"machine: {_each(records, _machine)}",
    ]


def _of_runs(results: Results) -> list[str]:
    records = results.all()
    minutes = sum(record.seconds for record in records) / 60
    steps = sum(record.steps for record in records)
    return [
        f"{results.study.title}, tier {results.tier}: {counted(len(records), 'run')}, "
        f"{counted(steps, 'step', ',')}, {counted(round(minutes), 'minute')} of processes, "
        f"{_dates(records)}",
        f"code: {_each(records, _code)}",
        f"machine: {_each(records, _machine)}",
        f"data: {_each(records, _data)}",
        f"trained: {_each(records, _company)}",
    ]


def _dates(records: Sequence[Record | Timing]) -> str:
    dates = sorted(record.provenance["finished"][:10] for record in records)
    return f"{dates[0]} to {dates[-1]}"


def _each(records: Sequence[Any], what: Callable[[Any], str]) -> str:
    """The different values there are, with the number of records where there are several."""
    counts = Counter(map(what, records))
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(
        f"{value} ({counted(count, 'record')})" for value, count in sorted(counts.items())
    )


def _code(record: Record | Timing) -> str:
    source = record.provenance
    if source.get("commit") is None:
        return "not under version control"
    return f"commit {source['commit']}" + ("" if source["clean"] else ", with changes")


def _data(record: Record) -> str:
    return f"{record.run.data}, fingerprint {record.provenance['data']}"


def _company(record: Record) -> str:
    members = record.provenance.get("ensemble", 1)
    company = "alone" if members == 1 else f"in ensembles of {members}"
    return company + (", steps replayed as CUDA graphs" if "captured" in record.provenance else "")


def _machine(record: Record | Timing) -> str:
    return ", ".join(f"{name} {record.provenance[name]}" for name in MACHINE)
