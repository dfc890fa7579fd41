"""Processes to test in: started when first needed, and kept, for a start costs more than a test."""

from __future__ import annotations

import contextlib
import datetime
import multiprocessing
import os
import tempfile
import traceback
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


class Processes:
    """Run functions on some ranks, each time in a new process group (gloo, on this machine)."""

    def __init__(self) -> None:
        self._workers: list[tuple[Any, Connection]] = []

    def run(
        self, function: Callable[..., Any], ranks: int, *args: Any, group: bool = True
    ) -> list[Any]:
        """What ``function(*args)`` returns on each rank; without a ``group`` of theirs, the first
        argument is the rank. An error on any is one here."""
        while len(self._workers) < ranks:
            self._start_one()
        workers = self._workers[:ranks]
        with tempfile.TemporaryDirectory() as folder:
            for rank, (_, connection) in enumerate(workers):
                given = args if group else (rank, *args)
                store = str(Path(folder) / "store") if group else None
                connection.send((function, given, rank, ranks, store))
            try:
                answers = [connection.recv() for _, connection in workers if connection.poll(300)]
            except EOFError:
                answers = []
        errors = [text for fine, text in answers if not fine]
        if errors or len(answers) < ranks:
            self.close()  # in whatever state they are
            raise AssertionError("\n\n".join(errors) or "a process has died or hangs")
        return [result for _, result in answers]

    def close(self) -> None:
        for process, connection in self._workers:
            connection.close()
            process.terminate()
            process.join()
        self._workers = []

    def _start_one(self) -> None:
        context = multiprocessing.get_context("spawn")
        os.environ["OMP_NUM_THREADS"] = "1"
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        self._workers.append((process, ours))


def _work(connection: Connection) -> None:
    torch.set_num_threads(1)
    while True:
        try:
            function, args, rank, ranks, store = connection.recv()
        except EOFError:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                # torch's advice to models that go on in place, which none here does.
                warnings.filterwarnings("ignore", "FSDP2-wrapped module")
                warnings.filterwarnings("ignore", "`torch.jit.script")  # in the compiler
                with world(rank, ranks, store) if store else contextlib.nullcontext():
                    answer = (True, function(*args))
        except Exception:
            answer = (False, f"rank {rank}:\n{traceback.format_exc()}")
        connection.send(answer)


class world:  # noqa: N801
    """A process group while it lasts; what waits longer than ``seconds`` is an error."""

    def __init__(self, rank: int, ranks: int, store: str, seconds: float = 30) -> None:
        self.options = {
            "init_method": f"file://{store}",
            "rank": rank,
            "world_size": ranks,
            "timeout": datetime.timedelta(seconds=seconds),
        }

    def __enter__(self) -> None:
        dist.init_process_group("gloo", **self.options)

    def __exit__(self, *_: Any) -> None:
        dist.destroy_process_group()
