"""What the first signal does, and the second."""

import errno
import os
import signal
import subprocess
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


def wait_to_be_asked(ready, log):
    interrupts.heed()
    # What it starts, such as a compiler, ignores Ctrl-C as it does.
    with open(log, "w") as output, subprocess.Popen(["sleep", "60"], stdout=output) as child:
        ready.set()
        while not interrupts.asked():
            time.sleep(0.01)
        assert child.poll() is None
        child.kill()


@pytest.fixture
def worker(tmp_path):
    """A worker in a group of processes, as on a terminal, to all of which one can send a signal."""
    context = get_context("spawn")
    ready = context.Event()
    worker = context.Process(target=grouped, args=(ready, tmp_path / "log"))
    worker.start()
    assert ready.wait(60)
    yield worker
    worker.kill()
    worker.join(60)


def grouped(ready, log):
    os.setpgrp()
    wait_to_be_asked(ready, log)


@pytest.mark.parametrize("number", SIGNALS)
def test_workers_are_asked_too(number, worker):
    others = [SimpleNamespace(pid=None), SimpleNamespace(pid=2**22 + 1)]  # not begun, and gone
    with interrupts.first_asks(lambda: [*others, worker]):
        send(number)
        worker.join(60)
    assert worker.exitcode == 0


def test_whether_to_stop_is_not_for_a_worker_of_a_terminal_to_say(worker):
    os.killpg(worker.pid, signal.SIGINT)
    worker.join(0.5)
    assert worker.exitcode is None
    os.killpg(worker.pid, signal.SIGTERM)  # as systems end all processes of a job
    worker.join(60)
    assert worker.exitcode is not None


def test_without_a_terminal_workers_are_asked_all_the_same(worker, monkeypatch):
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
