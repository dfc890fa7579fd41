"""Whether a run that was trained again is what was recorded, or what it began with.

The rule: where the record is that of a run alone, on the same kind of machine with the same torch,
device and threads (`experiments.provenance.BITS`), everything must be equal to the bit. Elsewhere,
and where the run was a member of an ensemble, which agrees with one alone to rounding only, the
status must be equal, and the metric and the training loss must each lie within the 99 % prediction
interval (Student's t) of the recorded seeds of its cell at that epoch, which is never taken to be
narrower than half a point of error either way, or two percent of a perplexity or loss. One run in
eight of a study (one of fewer too, but not all) may be unlike its record even so, for such an
interval is left now and then by chance, and far too large a step size makes much of other rounding.
"""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any

from scipy import special

from experiments import tasks
from experiments.provenance import BITS
from experiments.run import Record
from experiments.train import last

# By metric: the least that is allowed, as it is and as a share of the mean.
NARROWEST = {"test_error": (0.5, 0.0)} | dict.fromkeys(
    ("test_perplexity", "test_loss", "train_loss"), (0.0, 0.02)
)
BEGINNING = ("status", "started", "curves", "final")
REPEATED = (*BEGINNING, "lr_last_epoch", "steps")


def same_bits(a: Record, b: Record) -> bool:
    """Whether two records are to be equal to the bit: of runs alone, on the same kind of machine
    and versions, and on a processor. A GPU adds in whatever order, and its libraries choose by the
    clock among ways to do so."""
    return all(repeats(r) for r in (a, b)) and all(
        a.provenance[name] == b.provenance[name] for name in BITS
    )


def repeats(record: Record) -> bool:
    """Whether a run repeats to the bit, on the same kind of machine and versions: not if it went on
    on another kind."""
    there = record.provenance
    alone = there.get("ensemble", 1) == 1
    return alone and there["device"] == "cpu" and set(there.get("mixed", ())).isdisjoint(BITS)


def difference(
    found: Record,
    recorded: Record,
    seeds: list[Record],
    repeated: Sequence[str] = REPEATED,
) -> str | None:
    """What is wrong with `found`, by the rule of this module; None if nothing is.

    Args:
        found: a run's record, just made.
        recorded: the record it is compared with.
        seeds: the records of all seeds of the same cell.
        repeated: the fields that are equal where everything is equal to the bit.
    """
    if recorded.run != found.run:
        return f"the record is that of another run, {recorded.run}"
    if found.provenance["data"] != recorded.provenance["data"]:
        return "the data are not those of the record"
    if found.status != recorded.status:
        return f"{found.status} ({found.message}), recorded {recorded.status}"
    if same_bits(found, recorded):
        unequal = [
            name for name in repeated if not _covers(getattr(found, name), getattr(recorded, name))
        ]
        return f"not equal to the bit: {', '.join(unequal)}" if unequal else None
    if found.final is None:
        return None
    for metric in (tasks.find(found.run.task).metric, "train_loss"):  # studies are judged by either
        values = [record.final[metric] for record in seeds if record.final]
        middle = statistics.mean(values)
        least, share = NARROWEST[metric]
        allowed = max(least, share * middle, _spread(values))
        value = found.final[metric]
        if not abs(value - middle) <= allowed:
            return f"{metric} {value:.3g}, but the seeds allow {middle:.3g} ± {allowed:.2g}"
    return None


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
    return float(special.stdtrit(n - 1, 0.995)) * statistics.stdev(values) * math.sqrt(1 + 1 / n)


def tolerated(count: int) -> int:
    """How many of so many runs, compared with the spread of the seeds, may be unlike it.

    One for every eight begun, but never all. Were none allowed, of twenty studies of two runs each
    one would fail by chance one time in three; with one allowed, one time in five hundred.
    """
    return min(-(-count // 8), count - 1)


def cut(record: Record, epochs: int) -> Record:
    """What `record` would be had its run been one of `epochs` epochs, in the fields `BEGINNING`."""
    run = dataclasses.replace(record.run, epochs=epochs)
    if len(record.curves.get("train_loss", ())) <= epochs:  # it diverged before, or is as long
        return dataclasses.replace(record, run=run)
    curves = _first(record.curves, epochs)
    return dataclasses.replace(
        record, run=run, status="ok", message="", curves=curves, final=last(curves)
    )


def _first(curves: Any, epochs: int) -> Any:
    """The first `epochs` values of each of the curves, however deep they are."""
    if isinstance(curves, dict):
        return {name: _first(curve, epochs) for name, curve in curves.items()}
    if curves and isinstance(curves[0], dict):
        return [_first(level, epochs) for level in curves]
    return curves[:epochs]
