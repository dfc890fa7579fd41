"""Where runs are trained: processes on this machine, or the workers of a Dask cluster."""

import multiprocessing
import platform
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch

import gdtuo
from experiments import ExperimentError, interrupts

PATIENCE = 10  # seconds to wait for a scheduler


@contextmanager
def processes(jobs: int) -> Iterator[Executor]:
    """An executor of `jobs` processes on this machine, ended at once if the block raises."""
    others = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    executor = ProcessPoolExecutor(jobs, context, initializer=interrupts.heed)
    try:
        yield executor
    except BaseException:
        for worker in set(multiprocessing.active_children()) - others:
            worker.kill()  # to SIGTERM it would take its time
        raise
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def cluster(address: str) -> Iterator[tuple[Executor, Callable[[], int]]]:
    """An executor on the workers of a Dask scheduler, and a function that counts them.

    Raises:
        ExperimentError: there is no scheduler or worker, or the workers are not as they must be.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ExperimentError(
            "--dask needs the package distributed: pip install '.[cluster]' in the clone"
        ) from error
    try:
        client = Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise ExperimentError(
            f"no Dask scheduler answers at {address} ({type(error).__name__}: {error}). Start "
            f"one with `dask scheduler`, and workers with `dask worker ADDRESS --nthreads 1`"
        ) from error
    with client:
        _check(client, address)
        executor = client.get_executor(pure=False)
        try:
            yield executor, lambda: max(1, len(client.nthreads()))
        finally:
            executor.shutdown(wait=False)


def require_device(device: str) -> None:
    """Check that this process can train on `device`.

    Raises:
        ExperimentError: it can't.
    """
    try:
        torch.zeros(1, device=device).tolist()  # tensors on "meta" have no values
    except Exception as error:
        raise ExperimentError(
            f"torch {torch.__version__} can't use the device {device!r} here ({_reason(error)}). "
            f"Name one that this machine has, such as cpu or cuda:0, or leave --device out"
        ) from error


def require_compiler(device: str) -> None:
    """Check that this process can compile for `device`, by compiling next to nothing.

    Raises:
        ExperimentError: it can't.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(2, device=device))
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise ExperimentError(
            f"what is to be trained needs a compiler for {device}, and torch finds none here "
            f"({reason}). Install one, such as g++, or name yours in the environment variable CXX; "
            f"a GPU needs triton too"
        ) from error


def _reason(error: Exception) -> str:
    """The first sentence of what torch says."""
    return str(error).partition("\n")[0].partition(". ")[0]


def versions() -> dict[str, str]:
    """Those that must be the same wherever runs are trained."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"gdtuo": gdtuo.__version__, "torch": torch.__version__, "python": python}


def _check(client: Any, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=PATIENCE)
        found = client.run(versions)
    except TimeoutError as error:
        raise ExperimentError(
            f"the scheduler at {address} has no workers. Start some with `dask worker {address} "
            f"--nthreads 1`"
        ) from error
    except Exception as error:
        raise ExperimentError(
            f"a worker of {address} can't run this code ({type(error).__name__}: {error}). Start "
            f"workers in a checkout of it, with the same packages"
        ) from error
    for worker, theirs in found.items():
        if theirs != versions():
            raise ExperimentError(
                f"worker {worker} has {theirs}, and here are {versions()}. Install the same there"
            )
    for worker, threads in client.nthreads().items():
        if threads != 1:
            raise ExperimentError(
                f"worker {worker} has {threads} threads, which would draw from one random stream. "
                f"Start it with --nthreads 1, and more workers instead"
            )
