"""Many runs on an executor, together or alone: resumable, each recorded as soon as it is done."""

import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from experiments import (
    ExperimentError,
    checkpoints,
    data,
    executors,
    interrupts,
    optimizers,
    provenance,
    store,
    tasks,
)
from experiments.batches import batches
from experiments.execution import NEVER, CheckpointError, Pause, execute_all
from experiments.run import Record, Run, Unfinished
from experiments.words import counted

T = TypeVar("T")


def todo(runs: Sequence[Run], records: Mapping[str, Record]) -> list[Run]:
    """The runs without a result. One that diverged has its result; one that failed has none."""
    return [run for run in runs if run.key not in records or records[run.key].status == "failed"]


def of_the_same_data(
    missing: Sequence[Run],
    path: Path,
    records: Mapping[str, Record],
    elsewhere: Mapping[str, Record],
) -> dict[str, Record]:
    """What of `elsewhere` may be copied to `path`: results of the very data that all else there is
    of, or is going to be. There may be several copies of a data set that differ a little.

    Args:
        missing: the runs that have no result in `path`.
        path, records: the file, and what is in it.
        elsewhere: results of other files, by key.

    Raises:
        ExperimentError: there are results of other data in `path`; or data that are to be trained
            on are not to be had.
    """
    found = {run.key: elsewhere[run.key] for run in missing if run.key in elsewhere}
    for name in dict.fromkeys(run.data for run in missing):
        known = {r.provenance["data"] for r in records.values() if r.run.data == name} - {None}
        copies = {key: r.provenance["data"] for key, r in found.items() if r.run.data == name}
        fresh = any(run.data == name and run.key not in found for run in missing)
        if not fresh and len(known | set(copies.values())) == 1:
            continue  # nothing is trained, so that the data need not be at hand
        here = data.load(name).fingerprint
        if known - {here}:
            raise ExperimentError(
                f"{path} has results of data called {name} whose fingerprint is "
                f"{' or '.join(sorted(known - {here}))}; that of those here is {here}, and both "
                f"must not be taken for one. Name another folder with --results, or go on with "
                f"the data that these are of"
            )
        for key, fingerprint in copies.items():
            if fingerprint != here:
                del found[key]
    return found


def sweep(
    runs: Sequence[Run],
    path: Path,
    executor: Executor,
    *,
    members: int = 1,
    device: str = "cpu",
    capture: bool = False,
    pause: Pause = NEVER,
    slots: Callable[[], int] = lambda: sys.maxsize,
    elsewhere: Mapping[str, Record] | None = None,
    report: Callable[[Record | Unfinished], object] = lambda found: None,
) -> dict[str, Record]:
    """Train the runs that have no result in `path` yet, and return all records by key.

    Reruns are handed over as soon as the runs they start from are done. Batches that were paused
    go on first, whole, be they wanted whole or in part.

    Args:
        runs: what is wanted, reruns included with the runs that they start from.
        path: the file of records; this call is its one writer.
        executor: where to train; any of `concurrent.futures`.
        members: train up to so many runs together, as an ensemble (`experiments.batches`).
        device: what to train on.
        capture: take steps by replays of CUDA graphs, where they can be captured (`Training`).
        pause: when to break off what is being trained, and leave a checkpoint beside `path`.
        slots: how many batches may be under way at a time.
        elsewhere: results of other files, by key; those that are wanted are copied.
        report: called with each new record, and with what has been paused.
    """
    if device != "cpu":  # there is always one; any other is asked for where runs are trained
        result_of(executor.submit(executors.require_device, device))
    with store.Writer(path) as writer:
        if writer.dropped:
            tqdm.write(f"{path}: a torn last line ({counted(writer.dropped, 'byte')}) was cut off")
        work = _Work(writer, path, report)
        wanted = todo(runs, work.records)
        work.copy(wanted, of_the_same_data(wanted, path, work.records, elsewhere or {}))
        missing = todo(runs, work.records)
        # An error here comes once, and before any training.
        for name in dict.fromkeys(run.task for run in missing):
            tasks.find(name).require()
        for name in dict.fromkeys(run.data for run in missing):
            data.load(name)
        for text in dict.fromkeys(run.tower for run in missing):
            optimizers.require(text)
        if missing and (capture or any(run.is_compiled for run in missing)):
            result_of(executor.submit(executors.require_compiler, device))
        source = provenance.source()
        waiting = work.waiting(missing, members)
        futures: dict[Future[list[Record | Unfinished]], Unfinished] = {}
        while True:
            for batch in list(waiting):
                if len(futures) >= slots() or pause.is_due:
                    break
                if work.ready(batch):
                    waiting.remove(batch)
                    parents = [work.records.get(run.parent or "") for run in batch.runs]
                    runs_ = list(batch.runs)
                    arguments = (runs_, parents, device, source, pause, batch.payload, capture)
                    futures[executor.submit(execute_all, *arguments)] = batch
            if not futures:
                return work.records
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                waiting[:0] = work.take(futures.pop(future), future)


class _Work:
    """What is recorded, and what has still to be done."""

    def __init__(
        self, writer: store.Writer, path: Path, report: Callable[[Record | Unfinished], object]
    ) -> None:
        self.writer, self.path, self.report = writer, path, report
        self.records = store.read(path)
        self.pending: set[str] = set()

    def copy(self, runs: Sequence[Run], elsewhere: Mapping[str, Record]) -> None:
        """Record what other files have the result of."""
        missing = {run.key for run in todo(runs, elsewhere)}
        found = [elsewhere[run.key] for run in runs if run.key not in missing]
        if found:
            self.writer.append(*found)
            self.records |= {record.key: record for record in found}
            tqdm.write(f"copied from other records: {counted(len(found), 'result')}")

    def waiting(self, missing: Sequence[Run], members: int) -> list[Unfinished]:
        """What is to be done: what was paused, then all else in batches of one kind."""
        wanted = {run.key for run in missing}
        started = []
        for each in checkpoints.load(self.path, wanted, tqdm.write):
            if not todo(each.runs, self.records):
                checkpoints.remove(self.path, each.runs)
            elif any(run.key in wanted for run in each.runs):
                started.append(each)
        taken = {run.key for each in started for run in each.runs}
        fresh = [run for run in missing if run.key not in taken]
        self.pending = wanted | taken
        return started + [_afresh(batch) for batch in batches(fresh, members)]

    def ready(self, batch: Unfinished) -> bool:
        return self.pending.isdisjoint(run.parent for run in batch.runs)

    def take(
        self, batch: Unfinished, future: Future[list[Record | Unfinished]]
    ) -> list[Unfinished]:
        """Keep what came of a batch, and return what of it has to go on."""
        try:
            found = result_of(future)
        except CheckpointError as error:
            file = checkpoints.place(self.path, batch.runs)
            raise ExperimentError(
                f"cannot go on from {file}: {error}. All records are safe; mend that and start "
                f"again, or remove the file, and its runs start afresh"
            ) from error
        paused = [each for each in found if isinstance(each, Unfinished)]
        # Those of a batch that was broken off between its records are here already.
        fresh = todo([each.run for each in found if isinstance(each, Record)], self.records)
        keys = {run.key for run in fresh}
        new = [each for each in found if isinstance(each, Record) and each.key in keys]
        self.writer.append(*new)  # all, before anything else can break off
        self.records |= {record.key: record for record in new}
        self.pending -= {each.key for each in found if isinstance(each, Record)}
        for each in paused:
            checkpoints.save(self.path, each)
        failed = any(isinstance(each, Record) and each.status == "failed" for each in found)
        if failed and batch.payload:
            tqdm.write(
                f"{checkpoints.place(self.path, batch.runs)} stays: the same command goes on from "
                "there. Remove it to start afresh"
            )
        elif found and batch.runs not in [each.runs for each in paused]:
            checkpoints.remove(self.path, batch.runs)
        for each in [*new, *paused]:
            self.report(each)
        return paused


def _afresh(runs: Sequence[Run]) -> Unfinished:
    return Unfinished(tuple(runs), epoch=1, batch=0, payload=b"")


def result_of(future: Future[T]) -> T:
    """What a worker returned; whatever kept it from that is an `ExperimentError` that says so."""
    try:
        return future.result()
    except ExperimentError:
        raise
    except BrokenProcessPool as error:
        if interrupts.asked():  # before it had come so far that it could heed that
            raise KeyboardInterrupt from error
        raise ExperimentError(
            "a worker process died (was it short of memory?). What was recorded is safe; start "
            "again to go on, with fewer --jobs or --members if need be"
        ) from error
    except Exception as error:
        # Of a cluster: the error of a run is a record.
        raise ExperimentError(
            f"the workers did not return a result ({type(error).__name__}: {error}). What was "
            f"recorded is safe; start again to go on"
        ) from error
