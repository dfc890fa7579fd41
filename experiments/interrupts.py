"""Ctrl-C and SIGTERM while runs are trained: the first leaves checkpoints, the second does not."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from threading import Thread

REQUEST = signal.SIGUSR1  # from the process that workers belong to

_asked = False


def asked() -> bool:
    """Whether this process is to stop as soon as it can be gone on from there."""
    return _asked


def heed() -> None:
    """Let the process that this one, a worker, belongs to ask it, and end with that one.

    SIGTERM, which may be sent to all processes of a job, asks as well; a second one ends the
    worker. A terminal sends Ctrl-C to all its processes too, but then whether to stop is not for a
    worker to say: it is ignored, by what a worker starts as well, such as a compiler.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _note_first)
    signal.signal(REQUEST, _note)
    if parent := parent_process():
        Thread(target=_end_with, args=[parent], daemon=True).start()


def _end_with(parent: BaseProcess) -> None:
    """Nobody takes results any more once it was killed, and a worker would wait for ever."""
    parent.join()
    os._exit(1)


def _note_first(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_DFL)
    _note(number, frame)


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
        for worker in workers():
            if worker.pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(worker.pid, REQUEST)
        with suppress(OSError):  # the terminal may be gone
            os.write(2, b"\nStopping where the same command can go on. Once more stops at once.\n")

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
