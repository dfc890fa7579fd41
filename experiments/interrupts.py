"""Ctrl-C and SIGTERM while runs are trained: the first leaves checkpoints, the second does not."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess

_asked = False


def asked() -> bool:
    """Whether this process is to stop as soon as it can be gone on from there."""
    return _asked


def heed() -> None:
    """Let Ctrl-C ask this process, which is a worker; it reaches every process of the terminal."""
    signal.signal(signal.SIGINT, _note)


def _note(number: int, frame: object) -> None:
    global _asked
    _asked = True


@contextmanager
def first_asks(workers: Callable[[], Iterable[BaseProcess]]) -> Iterator[None]:
    """Inside, the first signal asks this process and its workers, and the next interrupts it.

    A signal that is ignored, as a shell has it with what runs in the background, stays so.
    """
    global _asked

    def ask(number: int, frame: object) -> None:
        if _asked:
            raise KeyboardInterrupt
        _note(number, frame)
        os.write(2, b"\nStopping where the same command can go on. Once more stops at once.\n")
        for worker in workers():
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGINT)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(each, ask)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        _asked = False
