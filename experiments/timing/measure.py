"""Time by rounds in which all contenders take turns, and the memory that each of them takes."""

import gc
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from experiments import ExperimentError, executors
from experiments.provenance import environment
from experiments.timing.record import Timing
from experiments.timing.workload import Contender, Trainer, Workload

# A tower's first step starts its state, and the second is the first that can be compiled.
WARM_UP = 3
# What a level adds to memory shows in the first few, and each takes processes of its own on a CPU;
# time is measured at all heights.
MEMORY_UP_TO = 3

Step = Callable[[], None]


def measure(
    workload: Workload,
    contenders: Sequence[Contender],
    *,
    rounds: int,
    block_seconds: float,
    processes: int = 1,
    device: str = "cpu",
    threads: int = 1,
    source: dict[str, Any] | None = None,
) -> list[Timing]:
    """Measure all contenders of a workload; the records belong together.

    Args:
        workload, contenders: what to measure; the first contender decides the length of a block.
        rounds: how many times each contender has its turn.
        block_seconds: about how long its turn lasts.
        processes: how many measure the memory of a contender on a CPU. A GPU's allocator knows
            what each takes, in this process.
        device: where to train.
        threads: of each process.
        source: the state of the source code (`experiments.provenance.source`).
    """
    settle(device, threads)
    gpu = device.startswith("cuda")
    peaks = {
        each.name: [peak_of_process(workload, each, threads) for _ in range(processes)]
        if not gpu and (each.height is None or each.height <= MEMORY_UP_TO)
        else []
        for each in contenders
    }
    trainers = {}
    with compiled_or_refused():
        if gpu:  # once, for what libraries keep there from their first use on
            warm_up(Trainer(workload, contenders[0], device))
        for each in contenders:
            gc.collect()  # or what is no longer needed goes in the midst of that
            with taken(device) as peaks_here:
                trainers[each.name] = Trainer(workload, each, device)
                warm_up(trainers[each.name])
            peaks[each.name] += peaks_here
    steps = {name: trainer.step for name, trainer in trainers.items()}
    count = block(next(iter(steps.values())), block_seconds, device)
    seconds = interleaved(steps, rounds, count, synchronizer(device))
    provenance = {
        **environment(device),
        **(source or {}),
        "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }
    return [
        Timing(
            workload=workload.name,
            contender=each.name,
            rule=workload.rule(each),
            height=each.height,
            fast=each.fast,
            seconds=[float(f"{value:.6g}") for value in seconds[each.name]],
            steps=count,
            peak_bytes=peaks[each.name],
            state_bytes=state_bytes(trainers[each.name]),
            parameter_bytes=total_bytes(list(trainers[each.name].model.parameters())),
            together=len(contenders),
            provenance=provenance,
        )
        for each in contenders
    ]


def interleaved(
    steps: Mapping[str, Step],
    rounds: int,
    count: int,
    synchronize: Step,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Seconds a step by contender, one value for each round.

    In a round each contender takes a block of `count` steps, in an order that is drawn anew: what
    the machine does meanwhile meets all of them, and none always follows the same other.
    """
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(steps), len(steps)):
            steps[name]()  # untimed: the contender before left nothing of this one in the caches
            synchronize()
            start = clock()
            for _ in range(count):
                steps[name]()
            synchronize()
            seconds[name].append((clock() - start) / count)
    return seconds


def block(step: Step, seconds: float, device: str) -> int:
    """How many steps take about so many seconds, one at least."""
    trial = interleaved({"": step}, rounds=3, count=1, synchronize=synchronizer(device))
    return max(1, math.ceil(seconds / min(trial[""])))


@contextmanager
def taken(device: str) -> Iterator[list[int]]:
    """Gets, of a GPU, the most memory that was taken meanwhile beside what was taken before."""
    found: list[int] = []
    if not device.startswith("cuda"):
        yield found
        return
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    yield found
    found.append(torch.cuda.max_memory_allocated(device) - before)


def peak_of_process(workload: Workload, contender: Contender, threads: int) -> int:
    """`peak_bytes` in a fresh process."""
    with executors.processes(1) as executor:
        try:
            return executor.submit(peak_bytes, workload, contender, threads).result()
        except BrokenProcessPool as error:
            raise ExperimentError(
                f"the process that trained {workload.name}, {contender.name}, died (was it short "
                f"of memory?)"
            ) from error


def peak_bytes(workload: Workload, contender: Contender, threads: int) -> int:
    """The most memory that this process has taken when it has trained on a CPU.

    To be called in a process that has done nothing else. A compiled contender's has the compiler
    too.
    """
    settle("cpu", threads)
    with compiled_or_refused():
        warm_up(Trainer(workload, contender, "cpu"))
    # Not getrusage's ru_maxrss: a process inherits that from the one that started it.
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return 1024 * int(line.split()[1])
    raise ExperimentError("/proc/self/status has no VmHWM, so peak memory is unknown")


def state_bytes(trainer: Trainer) -> int:
    """The tensors that an optimizer keeps beside the parameters."""
    optimizer = trainer.optimizer
    kept = [list(optimizer.state.values())]
    kept += [[v for k, v in group.items() if k != "params"] for group in optimizer.param_groups]
    return total_bytes(kept)


def total_bytes(node: Any) -> int:
    """The bytes of all memory that tensors in nested containers refer to, each once."""
    storages = {storage.data_ptr(): storage.nbytes() for storage in _storages(node)}
    return sum(storages.values())


def _storages(node: Any) -> Iterator[torch.UntypedStorage]:
    if isinstance(node, Tensor):
        yield node.untyped_storage()
    elif isinstance(node, Mapping):
        yield from _storages(list(node.values()))
    elif isinstance(node, (list, tuple)):
        for each in node:
            yield from _storages(each)


def warm_up(trainer: Trainer) -> None:
    for _ in range(WARM_UP):
        trainer.step()


def settle(device: str, threads: int) -> None:
    """This process as training runs have it; denormals would slow a step down tenfold."""
    executors.require_device(device)
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)


def synchronizer(device: str) -> Step:
    """A function that waits until the device has done its work."""
    if device.startswith("cuda"):
        return lambda: torch.cuda.synchronize(device)
    return lambda: None


@contextmanager
def compiled_or_refused() -> Iterator[None]:
    """A tower that can't be compiled warns and steps eagerly, which would be timed as compiled."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "gdtuo: steps can't be compiled", RuntimeWarning)
        try:
            yield
        except RuntimeWarning as warning:
            raise ExperimentError(
                f"{warning} Install a C++ compiler, or time eager steps alone with --no-compile"
            ) from warning
