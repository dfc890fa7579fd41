"""What the first signal does, and the second."""

import errno
import os
import select
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from types import SimpleNamespace

import pytest

from experiments import execution, interrupts

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def send(number):
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def handlers(heeds_interrupts):
    before = [signal.getsignal(each) for each in SIGNALS]
    yield
    assert [signal.getsignal(each) for each in SIGNALS] == before
    assert not interrupts.asked()


@pytest.mark.parametrize("first", SIGNALS)
@pytest.mark.parametrize("second", SIGNALS)
def test_the_first_signal_asks_and_the_second_interrupts(first, second, capfd):
    with pytest.raises(KeyboardInterrupt), interrupts.first_asks(list):  # noqa: PT012
        assert not interrupts.asked()
        send(first)
        assert interrupts.asked()
        assert "Once more stops at once" in capfd.readouterr().err
        send(second)
        pytest.fail("it went on")


def wait_to_be_asked(ready):
    """In a group of processes, as on a terminal, to all of which one can send a signal."""
    os.setpgrp()
    interrupts.heed()
    # What it starts, such as a compiler, ignores Ctrl-C as it does.
    with subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL) as child:
        ready.set()
        while not interrupts.asked():
            time.sleep(0.01)
        assert child.poll() is None
        child.kill()


def wait_for_ever(ready):
    interrupts.heed()
    ready.set()
    while True:
        time.sleep(1)


@pytest.fixture
def start():
    """Starts a worker, which is killed at the end."""
    context, workers = get_context("spawn"), []

    def start(target):
        ready = context.Event()
        workers.append(context.Process(target=target, args=(ready,)))
        workers[-1].start()
        assert ready.wait(60)
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.join(60)


@pytest.mark.parametrize("number", SIGNALS)
def test_workers_are_asked_too(number, start):
    worker = start(wait_to_be_asked)
    others = [SimpleNamespace(pid=None), SimpleNamespace(pid=2**22 + 1)]  # not begun, and gone
    with interrupts.first_asks(lambda: [*others, worker]):
        send(number)
        worker.join(60)
    assert worker.exitcode == 0


def test_whether_to_stop_is_not_for_a_worker_of_a_terminal_to_say(start):
    worker = start(wait_to_be_asked)
    os.killpg(worker.pid, signal.SIGINT)
    worker.join(0.5)
    assert worker.exitcode is None
    worker.terminate()  # as systems end all processes of a job
    worker.join(60)
    assert worker.exitcode == 0  # what it had started was still there


def test_a_second_sigterm_ends_a_worker(start):
    worker = start(wait_for_ever)
    worker.terminate()
    worker.join(0.5)
    assert worker.exitcode is None
    worker.terminate()
    worker.join(60)
    assert worker.exitcode == -signal.SIGTERM


KILLED = """
import os, signal
from experiments.executors import processes
if __name__ == "__main__":
    with processes(1) as executor:
        print(executor.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_no_worker_outlives_a_run_that_is_killed(tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, script]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        worker = int(process.stdout.readline())
        assert process.wait(60) == -signal.SIGKILL
        ended, _, _ = select.select([process.stdout], [], [], 30)  # nobody has the pipe any more
        if not ended:
            os.kill(worker, signal.SIGKILL)
    assert ended


def test_without_a_terminal_workers_are_asked_all_the_same(start, monkeypatch):
    worker = start(wait_to_be_asked)

    def closed(file, text):
        if file == 2:
            raise OSError(errno.EIO, "Input/output error")
        return write(file, text)

    write = os.write
    monkeypatch.setattr(os, "write", closed)
    with interrupts.first_asks(lambda: [worker]):
        send(signal.SIGTERM)
        worker.join(60)
    assert worker.exitcode == 0


def test_what_fails_as_it_is_asked_has_no_result(run, monkeypatch):
    """A signal to all processes ends compilers too."""

    def train(*arguments):
        send(signal.SIGTERM)
        raise RuntimeError("the compiler was terminated")

    monkeypatch.setattr(execution, "_train", train)
    with interrupts.first_asks(list):
        assert execution.execute_all([run], [None]) == []


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts.first_asks(list):
        send(signal.SIGINT)
        assert not interrupts.asked()
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN
