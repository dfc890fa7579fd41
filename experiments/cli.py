"""The command line: `python -m experiments list | run | status | plot | verify | time`."""

import argparse
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from multiprocessing import active_children
from pathlib import Path

import gdtuo
from experiments import ExperimentError, checkpoints, interrupts, store, verify
from experiments.arguments import parse
from experiments.execution import Pause
from experiments.executors import cluster, processes
from experiments.progress import Progress
from experiments.run import Record, Run
from experiments.studies import EXHIBITS, STUDIES, TIMINGS, find, having
from experiments.study import Study
from experiments.sweep import of_the_same_data, sweep, todo
from experiments.timing import session
from experiments.timing.measurement import load
from experiments.words import counted, unread

EVERY = 600.0  # seconds from one checkpoint of a run to the next


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0, 1 for a failure, 130 for an interrupt."""
    options = parse(arguments)
    try:
        with _ended_as_interrupted():
            status = COMMANDS[options.command](options)
            sys.stdout.flush()
            return status
    except (ExperimentError, gdtuo.GdtuoError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:
        unread()
    return 1


@contextmanager
def _ended_as_interrupted() -> Iterator[None]:
    """SIGTERM is what Ctrl-C is, so that it leaves no worker behind."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _list(options: argparse.Namespace) -> int:
    for study in STUDIES.values():
        print(f"{study.name}: {study.title}")
        for name, tier in study.tiers.items():
            runs = [cell.run for cell in study.select(name)]
            missing = todo(runs, store.read(study.path(name, options.results)))
            done = len(runs) - len(missing)
            print(f"  {name:<6} {done:>3} of {counted(len(runs), 'run', '>3')} done. {tier.about}")
    for timing in TIMINGS.values():
        print(f"{timing.name}: {timing.title}")
        for name, tier in timing.tiers.items():
            done = {each.workload for each in load(timing.path(name, options.results))}
            count = f"{len(done):>3} of {counted(len(tier.heights), 'workload', '>3')} measured"
            print(f"  {name:<6} {count}. {tier.about}")
    return 0


def _run(options: argparse.Namespace) -> int:
    deadline = time.time() + options.time_limit
    if options.cuda_graphs and not options.device.startswith("cuda"):
        raise ExperimentError(
            f"--cuda-graphs with the device {options.device!r}, which has none. Name a GPU, as in "
            f"--device cuda, or leave --cuda-graphs out"
        )
    named = {name: find(name) for name in options.studies}
    chosen = having(options.tier, named) if len(named) > 1 else named
    for name in named:
        if name not in chosen:
            print(f"{name} is left out: it has no tier {options.tier!r}")
    for study in chosen.values():  # before any is trained
        study.select(options.tier, options.only, options.seeds)
    # A cluster's workers belong to others.
    with nullcontext() if options.dask else interrupts.first_asks(active_children):
        for study in chosen.values():
            if status := _train(study, options, deadline):
                return status
    return 0


def _train(study: Study, options: argparse.Namespace, deadline: float) -> int:
    cells = study.select(options.tier, options.only, options.seeds)
    path = study.path(options.tier, options.results)
    known = store.read(path)
    missing = todo([cell.run for cell in cells], known)
    elsewhere = _elsewhere(path, options.results)
    if not options.dry_run:
        elsewhere = of_the_same_data(missing, path, known, elsewhere)
    unknown = todo(missing, elsewhere)
    chosen = unknown[: options.limit]
    left_off = {run.key for run in unknown} - {run.key for run in chosen}
    wanted = [run for run in missing if run.key not in left_off]
    if options.dry_run:
        keys = {run.key for run in chosen}
        for cell in cells:
            if cell.run.key in keys:
                print(f"{cell.name}, seed {cell.run.seed}: {counted(cell.run.epochs, 'epoch')}")
        copied = len(wanted) - len(chosen)
        copies = f", and {copied} copied from other records if their data are those here"
        also = copies if copied else ""
        print(f"{len(chosen)} of {counted(len(cells), 'run')} would be trained{also}, into {path}")
        return 0
    progress = Progress(cells, len(cells) - len(unknown), len(chosen))
    how = {
        "members": options.members,
        "device": options.device,
        "capture": options.cuda_graphs,
        "pause": Pause(deadline, EVERY),
        "elsewhere": elsewhere,
        "report": progress,
    }
    try:
        if options.dask:
            with cluster(options.dask) as (executor, slots):
                records = sweep(wanted, path, executor, slots=slots, **how)
        else:
            with processes(options.jobs) as executor:
                # No more than there are processes, or batches that pause would take turns.
                records = sweep(wanted, path, executor, slots=lambda: options.jobs, **how)
        left = len([run for run in todo(wanted, records) if run.key not in progress.failed])
        if left and interrupts.asked():
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        print(f"\nStopped with {progress}. The same command goes on from here", file=sys.stderr)
        return 130
    finally:
        progress.bar.close()
    print(f"{path}: {progress}")
    if left:
        why = "The time is up" if time.time() >= deadline else "A worker was told to stop"
        print(f"{why}, with {counted(left, 'run')} left. The same command goes on from here")
    return 1 if progress.counts["failed"] else 0


def _elsewhere(path: Path, results: Path) -> dict[str, Record]:
    """The records of all other studies and tiers: what is the same run is trained once."""
    paths = [each.path(tier, results) for each in STUDIES.values() for tier in each.tiers]
    others = [each for each in paths if each != path]
    return store.best(record for other in others for record in store.read(other).values())


def _time(options: argparse.Namespace) -> int:
    study = TIMINGS[options.study]
    path = study.path(options.tier, options.results)
    session.session(
        study,
        options.tier,
        path,
        only=options.only,
        device=options.device,
        threads=options.threads,
        compiled=options.compile,
        report=lambda measurement: print(*session.table(measurement), sep="\n", flush=True),
    )
    print(path)
    return 0


def _status(options: argparse.Namespace) -> int:
    if timing := TIMINGS.get(options.study):
        path = timing.path(options.tier, options.results)
        print(*session.status(timing, options.tier, path, options.only), sep="\n")
        return 0
    study = find(options.study)
    cells = study.select(options.tier, options.only)
    path = study.path(options.tier, options.results)
    records, elsewhere = store.read(path), _elsewhere(path, options.results)
    begun = checkpoints.progress(path)

    def state(run: Run) -> str:
        record = records.get(run.key)
        if record is not None and record.status == "failed":
            return "to run (failed last time)"
        if record is not None:
            return {"ok": "cached"}.get(record.status, record.status)
        if not todo([run], elsewhere):
            return "to copy (trained for another study or tier)"
        if run.key in begun:
            return f"to run (paused in epoch {begun[run.key][0]} of {run.epochs})"
        parent = records.get(run.parent or "")
        if run.parent is not None and (parent is None or parent.status == "failed"):
            return "to run (waits for the run it starts from)"
        return "to run (never trained)"

    width = max(len(cell.name) for cell in cells)
    for name in dict.fromkeys(cell.name for cell in cells):
        counts = Counter(state(cell.run) for cell in cells if cell.name == name)
        print(f"{name:<{width}}  " + ", ".join(f"{n} {what}" for what, n in counts.items()))
    for cell in cells:
        record = records.get(cell.run.key)
        if record and record.status != "ok":
            print(f"{record.status}: {cell.name}, seed {cell.run.seed}: {record.message}")
    total = Counter(state(cell.run).split(" (")[0] for cell in cells)
    print(f"in all {len(cells)}: " + ", ".join(f"{n} {what}" for what, n in total.items()))
    return 0


def _plot(options: argparse.Namespace) -> int:
    if options.study not in (None, *EXHIBITS):
        find(options.study)  # which says which there are
    # Drawing depends on this package, so it is called as a user would call it.
    command = [sys.executable, "-m", "paper_figures", "--results", os.fspath(options.results)]
    command += [options.study] if options.study else []
    command += ["--tier", options.tier] if options.tier else []
    return subprocess.run(command).returncode


def _verify(options: argparse.Namespace) -> int:
    chosen = [find(options.study)] if options.study else _recorded(options.results, options.tier)
    with processes(options.jobs) as executor:
        agree = verify.verify(
            chosen,
            executor,
            tier=options.tier,
            sample=options.sample,
            seed=options.seed,
            results=options.results,
            longest=math.inf if options.study else verify.LONGEST,
            device=options.device,
        )
    return 0 if agree else 1


def _recorded(results: Path, tier: str | None) -> list[Study]:
    """The studies that have records, of `tier` or of any."""

    def has_records(study: Study) -> bool:
        tiers = [tier] if tier else study.tiers
        return any(store.read(study.path(name, results)) for name in tiers)

    chosen = [study for study in having(tier, STUDIES).values() if has_records(study)]
    if not chosen:
        raise ExperimentError(
            f"nothing was compared: no study has records{f' of tier {tier}' if tier else ''} in "
            f"{results}"
        )
    return chosen


COMMANDS = {
    "list": _list,
    "run": _run,
    "status": _status,
    "plot": _plot,
    "verify": _verify,
    "time": _time,
}
