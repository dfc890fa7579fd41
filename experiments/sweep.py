"""Many runs on an executor, together or alone: resumable, each recorded as soon as it is done."""

import multiprocessing
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from experiments import ExperimentError, data, provenance, store
from experiments.batches import batches
from experiments.run import Record, Run, execute_all
from experiments.study import Cell


def todo(runs: Sequence[Run], records: dict[str, Record]) -> list[Run]:
    """The runs without a result. One that diverged has its result; one that failed has none."""
    return [run for run in runs if run.key not in records or records[run.key].status == "failed"]


def sweep(
    runs: Sequence[Run],
    path: Path,
    executor: Executor,
    *,
    members: int = 1,
    device: str = "cpu",
    report: Callable[[Record], object] = lambda record: None,
) -> dict[str, Record]:
    """Train the runs that have no result in `path` yet, and return all records by key.

    Reruns are handed over as soon as the runs they start from are done.

    Args:
        runs: what is wanted, reruns included with the runs that they start from.
        path: the file of records; this call is its one writer.
        executor: where to train; any of `concurrent.futures`.
        members: train up to so many runs together, as an ensemble (`experiments.batches`).
        device: what to train on.
        report: called with each new record.
    """
    with store.Writer(path) as writer:
        if writer.dropped:
            tqdm.write(f"{path}: a torn last line ({writer.dropped} bytes) was cut off")
        records = store.read(path)
        missing = todo(runs, records)
        for name in dict.fromkeys(run.data for run in missing):
            data.load(name)  # an error here comes once, and before any training
        source = provenance.source()
        waiting = batches(missing, members)
        pending = {run.key for run in missing}
        futures: set[Future[list[Record]]] = set()

        def submit_ready() -> None:
            for batch in list(waiting):
                if pending.isdisjoint(run.parent for run in batch):
                    waiting.remove(batch)
                    parents = [records.get(run.parent or "") for run in batch]
                    futures.add(executor.submit(execute_all, batch, parents, device, source))

        submit_ready()
        while futures:
            for future in wait(futures, return_when=FIRST_COMPLETED).done:
                futures.remove(future)
                found = _result(future)
                for record in found:  # all, before anything else can break off
                    writer.append(record)
                    records[record.key] = record
                    pending.discard(record.key)
                for record in found:
                    report(record)
                submit_ready()
        return records


def _result(future: Future[list[Record]]) -> list[Record]:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ExperimentError(
            "a worker process died (was it short of memory?). What was recorded is safe; start "
            "again to go on, with fewer --jobs or --members if need be"
        ) from error


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """An executor of `jobs` processes on this machine, ended at once if the block raises."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    executor = ProcessPoolExecutor(jobs, context, initializer=_ignore_interrupt)
    try:
        yield executor
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _ignore_interrupt() -> None:
    """Ctrl-C reaches every process of the terminal; the parent alone is to act on it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


class Progress:
    """The state of a sweep: a bar on a terminal, otherwise a line for each run that is done."""

    def __init__(self, cells: Sequence[Cell], cached: int, missing: int) -> None:
        self.names = {cell.run.key: f"{cell.name}, seed {cell.run.seed}" for cell in cells}
        self.counts = Counter(done=0, cached=cached, diverged=0, failed=0)
        self.bar = tqdm(total=missing, unit="run", disable=not sys.stderr.isatty())

    def __call__(self, record: Record) -> None:
        self.counts["done"] += 1
        if record.status != "ok":
            self.counts[record.status] += 1
        name = self.names[record.key]
        line = f"{name}: {record.message or 'ok'} ({record.seconds:.1f} s)"
        if self.bar.disable:
            print(f"[{self.counts['done']}/{self.bar.total}] {line}", flush=True)
        elif record.status != "ok":
            self.bar.write(line)
        self.bar.set_postfix(self.counts)
        self.bar.update()

    def __str__(self) -> str:
        return ", ".join(f"{count} {name}" for name, count in self.counts.items())
