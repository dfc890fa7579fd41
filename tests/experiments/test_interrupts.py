"""What the first signal does, and the second."""

import os
import signal
import time
from multiprocessing import get_context
from types import SimpleNamespace

import pytest

from experiments import interrupts

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
    interrupts.heed()
    ready.set()
    while not interrupts.asked():
        time.sleep(0.01)


def test_workers_are_asked_too():
    context = get_context("spawn")
    ready = context.Event()
    worker = context.Process(target=wait_to_be_asked, args=(ready,))
    worker.start()
    assert ready.wait(60)
    with interrupts.first_asks(lambda: [worker, SimpleNamespace(pid=None)]):
        send(signal.SIGTERM)
        worker.join(60)
    assert worker.exitcode == 0


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts.first_asks(list):
        send(signal.SIGINT)
        assert not interrupts.asked()
    assert signal.signal(signal.SIGINT, before) is signal.SIG_IGN
