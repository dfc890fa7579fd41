"""What a step costs, counted and not timed: the same on every machine.

`kernels` of an eager step and `compile_counts` of a compiled one depend on the version of torch;
`kept_bytes` does not.
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch._dynamo.utils import counters
from torch._inductor import metrics
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode


class Dispatched(TorchDispatchMode):
    """Counts what is dispatched under it."""

    def __init__(self) -> None:
        super().__init__()
        self.ops = 0  #: all of them: each has its overhead
        self.kernels = 0  #: those that compute; the others are views

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func.namespace != "profiler":  # its marks of a step's beginning and end
            self.ops += 1
            self.kernels += not func.is_view
        return func(*args, **(kwargs or {}))


def dispatched(step: Callable[[], Any]) -> dict[str, int]:
    """The operators that an eager step dispatches."""
    with Dispatched() as counted:
        step()
    return {"ops": counted.ops, "kernels": counted.kernels}


def compiled(make_step: Callable[[], Callable[[], Any]], calls: int) -> dict[str, int]:
    """The graphs and kernels that are compiled while what ``make_step`` makes is called."""
    torch.compiler.reset()
    counters.clear()
    metrics.reset()
    step = make_step()
    for _ in range(calls):
        step()
    return {
        "graphs": counters["stats"]["unique_graphs"],
        "kernels": metrics.generated_kernel_count,
    }


def kept_bytes(optimizer: torch.optim.Optimizer) -> int:
    """Of all tensors in ``state`` and ``param_groups``, the parameters aside; each storage once."""
    tensors = [v for state in optimizer.state.values() for v in state.values()]
    tensors += [v for group in optimizer.param_groups for k, v in group.items() if k != "params"]
    return _bytes_of(t for t in tensors if isinstance(t, torch.Tensor))


@contextlib.contextmanager
def new_tensors() -> Iterator[Callable[[], int]]:
    """Gives what tells the bytes of all tensors that were made since and are still alive, in
    ``state`` or wherever else; each storage once."""
    gc.collect()
    gc.freeze()  # what there is already is no object of the collector's meanwhile

    def alive() -> int:
        gc.collect()
        wrapped = torch._C._functorch.is_functorch_wrapped_tensor
        kinds = (torch.Tensor, torch.nn.Parameter)  # no fake ones, of the compiler's
        found = [each for each in gc.get_objects() if type(each) in kinds]
        return _bytes_of(each for each in found if not wrapped(each))

    try:
        yield alive
    finally:
        gc.unfreeze()


def _bytes_of(tensors: Iterable[torch.Tensor]) -> int:
    storages = (tensor.untyped_storage() for tensor in tensors)
    return sum({s.data_ptr(): s.nbytes() for s in storages}.values())


def bytes_of_a_step(step: Callable[[], Any]) -> int:
    """The most that is allocated during a step beyond what was before it, by torch's allocator.

    Of two steps it is the second's: the profiler knows nothing of memory from before itself, which
    the first one frees.
    """
    mark = "the second step"
    gc.collect()
    gc.disable()  # when it runs depends on what ran before
    try:
        with _quietly(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made:
            step()
            with record_function(mark):
                step()
    finally:
        gc.enable()
    events = sorted(made.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    start = next(event.start_ns() for event in events if event.name() == mark)
    held = highest = 0
    for event in events:
        if event.name() == "[memory]" and event.start_ns() >= start:
            held += event.nbytes()
            highest = max(highest, held)
    if not any(event.name() == "[memory]" for event in events):
        raise RuntimeError("the profiler of this torch records no memory")
    return highest


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The profiler's notes of its own start and end go nowhere: no setting of its own does that."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
