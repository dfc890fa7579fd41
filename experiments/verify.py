"""Train a few recorded runs again and compare (`experiments.comparison` has the rule).

Each is trained alone; of one that takes long only as many of its first epochs as fit in `SECONDS`,
at least one, and the beginnings of its curves are compared. A run that could only be compared with
its own one seed is not chosen.
"""

import dataclasses
import math
import os
import random
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from pathlib import Path

from experiments import ExperimentError, data, executors, optimizers, store, tasks
from experiments.comparison import (
    BEGINNING,
    REPEATED,
    cut,
    difference,
    repeats,
    same_bits,
    tolerated,
)
from experiments.execution import execute
from experiments.provenance import BITS, environment
from experiments.run import Record, Run
from experiments.study import RESULTS, Cell, Study
from experiments.sweep import result_of
from experiments.train import COSINE
from experiments.words import counted

SECONDS = 8.0  # of recorded training for each study: what one waits for
LONGEST = 60.0  # the same, where even the first epoch of a run takes longer


def verify(
    studies: Sequence[Study],
    executor: Executor,
    *,
    tier: str | None = None,
    sample: int = 8,
    seed: int = 0,
    results: Path = RESULTS,
    longest: float = math.inf,
    device: str = "cpu",
) -> bool:
    """Print how a sample of each study's cheaper runs compares; whether all agree.

    Args:
        studies: whose records.
        executor: where to train.
        tier: the tier; None takes the fullest that has records and whose data are to be had.
        sample: how many runs; one of them is a rerun, from the recorded values of its parent.
        seed: of the choice.
        results: the folder of the records.
        longest: leave out a study whose least comparison takes more recorded seconds.
        device: where to train. What was made on a processor is compared on one, and what was made
            on a GPU on one, as else nobody could tell how long it takes.

    Raises:
        ExperimentError: there is nothing to compare with; the device is not to be had.
    """
    executors.require_device(device)
    asked: _Asked = {}
    begun = [
        _begin(study, executor, tier, sample, seed, results, longest, device, asked)
        for study in studies
    ]
    under_way = [each for each in begun if each is not None]
    if not under_way:
        raise ExperimentError("nothing was compared: every tier with records was left out")
    return all([_finish(*each) for each in under_way])


_Check = tuple[Cell, Run, Future[Record]]
# By data set, why it is not to be had, or None: asked once, as a network may be slow to refuse.
_Asked = dict[str, ExperimentError | None]


def _begin(
    study: Study,
    executor: Executor,
    tier: str | None,
    sample: int,
    seed: int,
    results: Path,
    longest: float,
    device: str,
    asked: _Asked,
) -> tuple[str, list[_Check], list[Cell], dict[str, Record]] | None:
    """What is trained, as said in a line; with what; and what it is compared with. None: nothing
    of this study can be trained here."""
    found = _fullest(study, [tier] if tier else list(study.tiers), results, device, asked)
    if found is None:
        return None
    tier, records, left_out = found
    cells = study.select(tier)
    here = records.keys() - left_out
    there = [cell for cell in cells if cell.run.key in here]
    comparable = [cell for cell in there if _is_comparable(cell, records, cells, device)]
    if there and not comparable:
        print(
            f"{study.name}, tier {tier}, is left out: its runs have one seed each, and were made "
            "on another kind of machine"
        )
        return None
    chosen = _choose(comparable, records, sample, seed)
    if not chosen:
        path = study.path(tier, results)
        raise ExperimentError(f"nothing was compared: {path} has no results of {study.name}")
    first = records[chosen[0].run.key]
    least = (
        first.seconds * beginning(first).epochs / max(1, len(first.curves.get("train_loss", ())))
    )
    if least > longest:
        print(
            f"{study.name}, tier {tier}, is left out: the first epoch of a run takes {least:.0f} "
            f"seconds; python -m experiments verify {study.name} trains it"
        )
        return None
    checks = []
    for cell in chosen:
        run = beginning(records[cell.run.key])
        parent = records.get(run.parent or "")
        checks.append((cell, run, executor.submit(execute, run, parent, device)))
    where = f"{study.name}, tier {tier}, on {study.tier(tier).data}"
    title = f"Training {counted(len(chosen), 'run')} again of {where}."
    return title, checks, cells, records


def _finish(
    title: str, checks: list[_Check], cells: list[Cell], records: dict[str, Record]
) -> bool:
    print(title)
    found = [_check(cell, run, result_of(each), records, cells) for cell, run, each in checks]
    bad = sum(not agrees for agrees, _ in found)
    if not bad:
        print(f"All {len(found)} agree." if len(found) > 1 else "It agrees.")
        return True
    print(f"{len(found) - bad} of {len(found)} agree." if len(found) > 1 else "It does not agree.")
    exact = [agrees for agrees, to_the_bit in found if to_the_bit]
    others = len(found) - len(exact)
    if not all(exact) or bad > tolerated(others):
        return False
    print(f"Of {others} compared with the spread of the seeds {tolerated(others)} may differ.")
    return True


def beginning(record: Record) -> Run:
    """The run of `record`, or as many of its first epochs as took no longer than `SECONDS`.

    Under a cosine schedule the beginning depends on the length, and is not that of a shorter run.
    """
    seen = len(record.curves.get("train_loss", ()))
    if record.seconds <= SECONDS or seen < 2 or record.run.schedule == COSINE:
        return record.run
    return dataclasses.replace(record.run, epochs=max(1, int(seen * SECONDS / record.seconds)))


def _want(asked: _Asked, dataset: str) -> str:
    """The end of a line that says what is left out for want of a data set; "" if it is to be had.

    Why it is not is told the first time.
    """
    if new := dataset not in asked:
        asked[dataset] = None
        try:
            data.load(dataset)
        except ExperimentError as error:
            asked[dataset] = error
    reason = f": {asked[dataset]}" if new else " too"
    return f", for want of {dataset}{reason}" if asked[dataset] else ""


def _fullest(
    study: Study, tiers: list[str], results: Path, device: str, asked: _Asked
) -> tuple[str, dict[str, Record], set[str]] | None:
    """The first of `tiers`, as `Study.preferred` has them, that has records and what it takes to
    train them; its records; and the keys of its runs that are left out: of data beside the tier's
    own that are lacking; of another kind of device."""
    for name in tiers:
        study.tier(name)
    recorded = {name: store.read(study.path(name, results)) for name in tiers}
    recorded = {name: records for name, records in recorded.items() if records}
    if not recorded:
        raise ExperimentError(
            f"nothing was compared: {study.name}, tier {' or '.join(tiers)}, has no records in "
            f"{results}"
        )
    for name in study.preferred(recorded):
        records = recorded[name]
        lacking = f"{study.name}, tier {name}, is left out"
        try:
            runs = [cell.run for cell in study.select(name)]
            for task in dict.fromkeys(run.task for run in runs):
                tasks.find(task).require()
            for text in dict.fromkeys(run.tower for run in runs):
                optimizers.require(text)
            if any(run.is_compiled for run in runs):
                executors.require_compiler(device)
        except ExperimentError as error:
            print(f"{lacking}: {error}")
            continue
        there = [run for run in runs if run.key in records]
        foreign = _foreign(study.name, there, records, device, lacking)
        if there and len(foreign) == len(there):
            continue
        own, absent = study.tier(name).data, set[str]()
        for dataset in dict.fromkeys(run.data for run in runs):
            want = _want(asked, dataset)
            if (error := asked[dataset]) is None:
                continue
            if dataset == own and "GDTUO_DATA" in os.environ:
                raise error
            absent.add(dataset)
            part = lacking if dataset == own else f"{lacking} where it is of {dataset}"
            print(f"{part}{want}")
        lost = [run for run in runs if run.data in absent or run in foreign]
        if own not in absent and (not there or set(there) - set(lost)):
            return name, records, {run.key for run in lost}
    return None


def _foreign(
    name: str, runs: list[Run], records: dict[str, Record], device: str, lacking: str
) -> list[Run]:
    """The `runs` of another kind of device, which is said in a line that starts with `lacking`."""
    made = {run: records[run.key].provenance["device"] for run in runs}
    foreign = [run for run in runs if (made[run] == "cpu") != (device == "cpu")]
    if foreign:
        part = " where it was" if len(foreign) < len(runs) else ": it was"
        where = " and ".join(sorted({made[run] for run in foreign}))
        other = "cuda" if device == "cpu" else "cpu"
        print(
            f"{lacking}{part} trained on {where}; python -m experiments verify {name} "
            f"--device {other} trains that again"
        )
    return foreign


def _is_comparable(cell: Cell, records: dict[str, Record], cells: list[Cell], device: str) -> bool:
    """Whether there is something that a new run is to be equal to: the record itself to the bit,
    or a spread of seeds."""
    record, here = records[cell.run.key], environment(device)
    here["threads"] = 1  # a run sees to that
    if repeats(record) and all(record.provenance.get(name) == here[name] for name in BITS):
        return True
    return sum(c.name == cell.name and c.run.key in records for c in cells) > 1


def _choose(cells: list[Cell], records: dict[str, Record], sample: int, seed: int) -> list[Cell]:
    """A sample of the cheaper half of the runs that have results, a rerun first if there is one.

    Another is added only while all together took less than `SECONDS`.
    """
    known = [c for c in cells if c.run.key in records and records[c.run.key].status != "failed"]
    cheap = sorted(known, key=lambda cell: records[cell.run.key].seconds)
    cheap = cheap[: max(sample, len(cheap) // 2)]
    random.Random(seed).shuffle(cheap)
    rerun = [cell for cell in cheap if cell.run.parent][:1]
    chosen: list[Cell] = []
    for cell in (rerun + [cell for cell in cheap if cell not in rerun])[:sample]:
        chosen.append(cell)
        if sum(records[c.run.key].seconds for c in chosen) > SECONDS:
            break
    return chosen


def _check(
    cell: Cell, run: Run, found: Record, records: dict[str, Record], cells: list[Cell]
) -> tuple[bool, bool]:
    """Print one comparison; whether it agrees, and whether it had to do so to the bit."""
    seeds = [records[c.run.key] for c in cells if c.name == cell.name and c.run.key in records]
    seeds = [cut(record, run.epochs) for record in seeds]
    recorded = cut(records[cell.run.key], run.epochs)
    whole = run == cell.run
    fault = difference(found, recorded, seeds, REPEATED if whole else BEGINNING)
    exact = same_bits(found, recorded)
    manner = "to the bit" if exact else "within the spread of the seeds"
    part = "" if whole else f", {run.epochs} of {cell.run.epochs} epochs"
    print(f"  {cell.name}, seed {run.seed}{part}: {fault or f'equal {manner}'}", flush=True)
    return fault is None, exact
