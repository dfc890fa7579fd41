"""Runs that are paused between two steps and go on to the bit, here and on a Dask cluster."""

import dataclasses
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from experiments import ExperimentError, checkpoints, data, files, store
from experiments.batches import batches
from experiments.execution import CheckpointError, Pause, execute_all
from experiments.executors import cluster
from experiments.run import Run
from experiments.sweep import sweep
from experiments.train import Training

ALONE = [Run("mlp", "digits", "SGD(0.1) / SGD(0.01)", 0, 3)]
TOGETHER = [Run("mlp", "digits", "SGD(0.1) / SGD(0.01)", seed, 3) for seed in range(3)]
LSTM = [
    Run("char_rnn", "sonnets", "Adam / SGD(1e-6)", 0, 2,
        options={"batch": 4, "sequence": 16, "hidden": 8, "epoch_steps": 5})
]  # fmt: skip
SCHEDULED = [Run("mlp", "digits", "SGD(0.1, momentum=0.9)", 0, 3, schedule=(1,))]
COSINE = [Run("mlp", "digits", "Adam / SGD(1e-5)", 0, 2, schedule="cosine")]
DIVERGING = [Run("mlp", "digits", f"SGD({lr}) / SGD(0.01)", 0, 3) for lr in ("0.1", "1e39")]


class Here(Executor):
    """Trains at once, in this process."""

    def submit(self, function, /, *arguments):
        future = Future()
        try:
            future.set_result(function(*arguments))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(
    "runs", [ALONE, TOGETHER, LSTM, SCHEDULED, COSINE, DIVERGING],
    ids=["alone", "together", "lstm", "scheduled", "cosine", "diverging"],
)  # fmt: skip
def test_paused_after_every_step_a_run_ends_as_one_in_one_go(runs, step_by_step, results):
    whole = execute_all(runs, [None] * len(runs))
    parts, pauses = step_by_step(runs)
    assert pauses == max(record.steps for record in whole) - 1
    for a, b in zip(whole, parts, strict=True):
        assert results(a) == results(b)
        assert a.provenance.get("ensemble") == b.provenance.get("ensemble")
        assert "mixed" not in b.provenance


def test_a_sweep_goes_on_where_the_time_was_up(path, results):
    whole = sweep(TOGETHER, path.with_name("whole.jsonl"), Here(), members=2)
    (batch, _) = batches(TOGETHER, 2)
    found = execute_all(batch, [None] * len(batch), pause=Pause(every=0))
    checkpoints.save(path, found[0])
    assert checkpoints.progress(path) == {run.key: (1, 1) for run in batch}
    assert sweep(TOGETHER, path, Here(), members=2, pause=Pause(deadline=0)) == {}
    parts = sweep(TOGETHER, path, Here(), members=2)
    assert parts.keys() == whole.keys()
    for key, record in parts.items():
        assert results(record) == results(whole[key])
    assert not checkpoints.folder(path).exists()


def paused(runs=ALONE):
    return execute_all(runs, [None] * len(runs), pause=Pause(every=0))[0]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[:-9], "it is torn"),
        (lambda content: b"what", "it is no checkpoint"),
        (lambda content: content.replace(b'"seed": 0', b'"seed": 1', 1), "another version"),
    ],
)
def test_a_checkpoint_that_is_no_good_is_said_and_removed(path, spoil, message):
    checkpoints.save(path, paused())
    (file,) = checkpoints.folder(path).iterdir()
    file.write_bytes(spoil(file.read_bytes()))
    said = []
    assert checkpoints.load(path, set(), said.append) == []
    assert message in said[0]
    assert not file.exists()
    records = sweep(ALONE, path, Here())
    assert [record.status for record in records.values()] == ["ok"]


@pytest.mark.parametrize("name", ["gdtuo", "torch"])
def test_a_checkpoint_of_another_version_is_left_to_it(path, name):
    checkpoints.save(path, paused())
    (file,) = checkpoints.folder(path).iterdir()
    here = f'"{name}": "'.encode()
    file.write_bytes(content := file.read_bytes().replace(here, here + b"0.", 1))
    with pytest.raises(ExperimentError, match=rf"written with {name} 0\..*, and this is .* remove"):
        sweep(ALONE, path, Here())
    assert file.read_bytes() == content
    file.unlink()
    records = sweep(ALONE, path, Here())
    assert [record.status for record in records.values()] == ["ok"]


def test_a_checkpoint_of_another_version_is_in_the_way_of_its_own_runs_alone(path):
    first, second, third = TOGETHER
    checkpoints.save(path, paused([first, second]))
    (file,) = checkpoints.folder(path).iterdir()
    file.write_bytes(content := file.read_bytes().replace(b'"torch": "', b'"torch": "0.', 1))
    records = sweep([third], path, Here())
    assert records.keys() == {third.key}
    with pytest.raises(ExperimentError, match=r"written with torch 0\..*, and this is"):
        sweep([second, third], path, Here())
    # With results of all of its runs nobody needs it, but it is not ours to remove.
    known = sweep([first, second], path.with_name("other.jsonl"), Here())
    assert len(sweep(TOGETHER, path, Here(), elsewhere=known)) == 3
    assert file.read_bytes() == content


def test_a_checkpoint_that_can_not_be_read_is_left(path, monkeypatch):
    checkpoints.save(path, paused())
    (file,) = checkpoints.folder(path).iterdir()

    def fail(self):
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(type(file), "read_bytes", fail)
        with pytest.raises(ExperimentError, match=r"cannot read .*: Too many open files\. It is"):
            checkpoints.load(path, set(), print)
    assert len(checkpoints.load(path, set(), print)) == 1


def test_a_folder_among_the_checkpoints_is_named(path):
    (checkpoints.folder(path) / "what").mkdir(parents=True)
    with pytest.raises(ExperimentError, match=r"cannot read .*what: Is a directory\..* or remove"):
        checkpoints.load(path, set(), print)


def test_a_payload_of_other_runs_is_refused():
    with pytest.raises(CheckpointError):
        execute_all(TOGETHER, [None] * 3, payload=paused().payload)


@pytest.mark.parametrize(
    ("parts", "clean"),
    [([True] * 3, True), ([False, True, True], False), ([True, False, True], False),
     ([True, True, False], False), ([None, True, True], None)],
)  # fmt: skip
def test_a_run_is_clean_if_every_part_is(parts, clean):
    payload = None
    *before, after = ({"commit": "c", "clean": part} for part in parts)
    for source in before:
        first = execute_all(ALONE, [None], source=source, pause=Pause(every=0), payload=payload)
        payload = first[0].payload
    record = execute_all(ALONE, [None], source=after, payload=payload)[0]
    assert record.provenance["clean"] is clean


def test_a_payload_of_other_data_is_refused(path, monkeypatch):
    payload = paused().payload
    other = dataclasses.replace(data.load("digits"), fingerprint="of others")
    monkeypatch.setattr(data, "load", lambda *_: other)
    what = r"its data have the fingerprint .* here of others"
    with pytest.raises(CheckpointError, match=what):
        execute_all(ALONE, [None], payload=payload)
    checkpoints.save(path, paused())
    (file,) = checkpoints.folder(path).iterdir()
    monkeypatch.setattr(data, "load", lambda *_: dataclasses.replace(other, fingerprint="theirs"))
    with pytest.raises(ExperimentError, match=rf"cannot go on from {file}: .* remove the file"):
        sweep(ALONE, path, Here())
    assert file.exists()


def test_a_full_disk_leaves_no_half_of_a_checkpoint(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ExperimentError, match="No space left on device"):
        checkpoints.save(path, paused())
    assert list(checkpoints.folder(path).iterdir()) == []


def test_a_folder_of_checkpoints_that_can_not_be_made_is_named(path):
    path.parent.mkdir()
    checkpoints.folder(path).touch()
    with pytest.raises(ExperimentError, match=r"cannot write to .*: File exists"):
        checkpoints.save(path, paused())


@pytest.mark.parametrize("runs", [ALONE, TOGETHER], ids=["alone", "together"])
def test_an_error_after_a_pause_leaves_the_checkpoint(path, monkeypatch, runs, results):
    """It may be one that passes, such as of a memory that others use too."""
    whole = execute_all(runs, [None] * len(runs))
    checkpoints.save(path, paused(runs))

    def fail(self, until):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(Training, "run", fail)
        records = sweep(runs, path, Here())
    assert {r.status for r in records.values()} == {"failed"}
    assert {r.message for r in records.values()} == {"RuntimeError: no memory"}
    assert checkpoints.progress(path) == {run.key: (1, 1) for run in runs}
    started = []
    go_on = Training.run
    monkeypatch.setattr(
        Training, "run", lambda self, until: started.append(self.batch) or go_on(self, until)
    )
    records = sweep(runs, path, Here())
    assert started == [1]
    for record in whole:
        assert results(records[record.key]) == results(record)
    assert not checkpoints.folder(path).exists()


def test_the_same_run_of_another_study_is_copied(path):
    known = sweep(ALONE, path.with_name("other.jsonl"), Here())
    monster = Here()
    monster.submit = None  # nothing is trained
    records = sweep(ALONE, path, monster, elsewhere=known)
    assert records == known
    assert store.read(path) == known


def test_seconds_add_up(monkeypatch):
    """Those of the parts, without what lies between them."""
    clock = iter([0.0, 5.0, 100.0, 107.0])
    times = SimpleNamespace(time=time.time, perf_counter=lambda: next(clock))
    monkeypatch.setattr("experiments.execution.time", times)
    (record,) = execute_all(ALONE, [None], payload=paused().payload)
    assert record.seconds == 12.0


@contextmanager
def dask(workers):
    """A scheduler and its workers, as processes of their own; the address, and the workers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "distributed.cli.dask_{}"]

    def start(kind, *words):
        words = [*command[:2], f"distributed.cli.dask_{kind}", *words]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(words, env=environment, **quiet)

    port = address.rsplit(":", 1)[1]
    scheduler = start("scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard")
    started = [
        start("worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard")
        for _ in range(workers)
    ]
    try:
        yield address, started
    finally:
        for process in [*started, scheduler]:
            process.kill()
            process.wait()


@pytest.mark.filterwarnings("default")  # of the cluster's own making, as its worker is killed
def test_a_worker_that_is_killed_loses_nothing(path):
    pytest.importorskip("distributed")
    runs = [dataclasses.replace(ALONE[0], seed=seed, epochs=15) for seed in range(6)]
    kills = []
    with dask(2) as (address, workers):

        def kill_one(found):
            if not kills:
                kills.append(workers[0].send_signal(signal.SIGKILL))

        with cluster(address) as (executor, slots):
            deadline = time.time() + 30
            while slots() < 2 and time.time() < deadline:
                time.sleep(0.1)
            records = sweep(runs, path, executor, slots=slots, report=kill_one)
    assert kills
    assert {record.status for record in records.values()} == {"ok"}
    lines = path.read_text().splitlines()
    assert len(lines) == len(runs) == len(records)
    assert records.keys() == {run.key for run in runs}


@pytest.mark.filterwarnings("default")
def test_without_a_scheduler_the_address_is_named(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("experiments.executors.PATIENCE", 1)
    with (
        pytest.raises(ExperimentError, match="no Dask scheduler answers at"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_without_its_package_a_cluster_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(ExperimentError, match=r"pip install '\.\[cluster\]' in the clone"),
        cluster("tcp://127.0.0.1:9"),
    ):
        pass


def test_what_was_paused_on_a_gpu_is_read_without_one(monkeypatch):
    with monkeypatch.context() as gpu:
        gpu.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        payload = paused().payload
    (record,) = execute_all(ALONE, [None], payload=payload)
    assert record.status == "ok"
