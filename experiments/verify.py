"""Train a few recorded runs again and compare.

Each is trained alone. The rule: where the record is that of a run alone, on the same kind of
machine with the same torch, device and threads (`experiments.provenance.BITS`), everything must be
equal to the bit. Elsewhere, and where the run was a member of an ensemble, which agrees with one
alone to rounding only, the status must be equal, and the metric must lie within the 99 % prediction
interval (Student's t) of the recorded seeds of its cell, which is never taken to be narrower than
half a point of error either way, or two percent of a perplexity.
"""

import math
import os
import random
import statistics
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

from scipy import stats

from experiments import ExperimentError, data, store, tasks
from experiments.provenance import BITS
from experiments.run import Record, execute
from experiments.study import RESULTS, Cell, Study

# By metric: the least that is allowed, as it is and as a share of the mean.
NARROWEST = {"test_error": (0.5, 0.0), "test_perplexity": (0.0, 0.02)}
SECONDS = 20.0  # of recorded training for each study: what one waits for
REPEATED = ("status", "started", "curves", "final", "lr_last_epoch", "steps")


def verify(
    study: Study,
    executor: Executor,
    *,
    tier: str | None = None,
    sample: int = 8,
    seed: int = 0,
    results: Path = RESULTS,
) -> bool:
    """Print how a sample of the study's cheaper runs compares; whether all agree.

    Args:
        study: whose records.
        executor: where to train.
        tier: the tier; None takes the fullest that has records and whose data are to be had.
        sample: how many runs; one of them is a rerun, from the recorded values of its parent.
        seed: of the choice.
        results: the folder of the records.

    Raises:
        ExperimentError: there is nothing to compare with.
    """
    tier = tier or _fullest(study, results)
    path = study.path(tier, results)
    records = store.read(path)
    cells = study.select(tier)
    chosen = _choose(cells, records, sample, seed)
    if not chosen:
        raise ExperimentError(f"nothing was compared: {path} has no records of {study.name}")
    data.load(study.tier(tier).data)
    print(f"Training {len(chosen)} runs of {study.name}, tier {tier}, again.")
    found = [executor.submit(execute, c.run, records.get(c.run.parent or "")) for c in chosen]
    faults = [
        _check(cell, future.result(), records, cells)
        for cell, future in zip(chosen, found, strict=True)
    ]
    bad = sum(faults)
    print(f"{len(faults) - bad} of {len(faults)} agree." if bad else f"All {len(faults)} agree.")
    return not bad


def _fullest(study: Study, results: Path) -> str:
    for name, tier in reversed(study.tiers.items()):
        if not store.read(study.path(name, results)):
            continue
        try:
            data.load(tier.data)
        except ExperimentError as error:
            if "GDTUO_DATA" in os.environ:
                raise
            print(f"Tier {name} is left out, for want of {tier.data}: {error}")
            continue
        print(f"Data set: {tier.data}.")
        return name
    raise ExperimentError(f"nothing was compared: no tier of {study.name} has records in {results}")


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


def _check(cell: Cell, found: Record, records: dict[str, Record], cells: list[Cell]) -> bool:
    """Print one comparison; whether it found a fault."""
    recorded = records[cell.run.key]
    seeds = [records[c.run.key] for c in cells if c.name == cell.name and c.run.key in records]
    fault = difference(found, recorded, seeds)
    manner = "to the bit" if same_bits(found, recorded) else "within the spread of the seeds"
    print(f"  {cell.name}, seed {cell.run.seed}: {fault or f'equal {manner}'}", flush=True)
    return fault is not None


def same_bits(a: Record, b: Record) -> bool:
    """Whether two records are of runs alone, on the same kind of machine and versions."""
    alone = all(record.provenance.get("ensemble", 1) == 1 for record in (a, b))
    return alone and all(a.provenance[name] == b.provenance[name] for name in BITS)


def difference(found: Record, recorded: Record, seeds: list[Record]) -> str | None:
    """What is wrong with `found`, by the rule of this module; None if nothing is.

    Args:
        found: a run's record, just made.
        recorded: the record it is compared with.
        seeds: the records of all seeds of the same cell.
    """
    if recorded.run != found.run:
        return f"the record is that of another run, {recorded.run}"
    if found.provenance["data"] != recorded.provenance["data"]:
        return "the data are not those of the record"
    if found.status != recorded.status:
        return f"{found.status} ({found.message}), recorded {recorded.status}"
    if same_bits(found, recorded):
        unequal = [
            name for name in REPEATED if not _covers(getattr(found, name), getattr(recorded, name))
        ]
        return f"not equal to the bit: {', '.join(unequal)}" if unequal else None
    if found.final is None:
        return None
    metric = tasks.find(found.run.task).metric
    values = [record.final[metric] for record in seeds if record.final]
    middle = statistics.mean(values)
    least, share = NARROWEST[metric]
    allowed = max(least, share * middle, _spread(values))
    if abs(found.final[metric] - middle) <= allowed:
        return None
    return f"{metric} {found.final[metric]:.2f}, but the seeds allow {middle:.2f} ± {allowed:.2f}"


def _covers(found: Any, recorded: Any) -> bool:
    """Whether all that was recorded is found; rules may have gained hyperparameters since."""
    if isinstance(recorded, dict):
        return found.keys() >= recorded.keys() and all(
            _covers(found[name], value) for name, value in recorded.items()
        )
    if isinstance(recorded, list):
        return len(found) == len(recorded) and all(map(_covers, found, recorded))
    return bool(found == recorded)


def _spread(values: list[float]) -> float:
    """Half the prediction interval; 0 where there is but one value."""
    n = len(values)
    if n < 2:
        return 0.0
    return float(stats.t.ppf(0.995, n - 1)) * statistics.stdev(values) * math.sqrt(1 + 1 / n)
