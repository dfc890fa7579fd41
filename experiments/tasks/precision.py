"""Mixed precision: the network in bfloat16, weights and all the rest in float32."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

# The vector unit that torch has bfloat16 for. Elsewhere convolutions take many times as long as in
# float32, matrix products a few times, and an LSTM is an error, as a GRU is on any processor.
NATIVE = "AVX512"
EVERYWHERE = (torch.gru,)
ELSEWHERE = (*EVERYWHERE, torch.lstm, torch.conv2d, torch.nn.functional.linear)


def mixed_precision(device: str, autocast: str) -> Callable[[], AbstractContextManager[Any]]:
    """What opens the block that a network is computed in: "bfloat16", or "none" as it is."""
    kind = torch.device(device).type
    enabled = autocast == "bfloat16"
    if enabled and kind == "cpu":
        native = torch.backends.cpu.get_cpu_capability() == NATIVE
        return partial(_on_a_processor, EVERYWHERE if native else ELSEWHERE)
    return partial(torch.autocast, kind, torch.bfloat16, enabled=enabled)


@contextmanager
def _on_a_processor(lacking: Collection[Any]) -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16), ByWayOfFloat32(lacking):
        yield


class ByWayOfFloat32(TorchFunctionMode):
    """Functions in bfloat16 that a processor lacks, by way of float32.

    Operands are rounded to bfloat16, and so are the results and, on the way back, their gradients
    and those of the operands; all in between is float32's. Of a convolution this is what a native
    one does: they differ in the order of the sums, as any two processors do. A native LSTM rounds
    its output at each step as well, and here only what comes out is rounded.

    Args:
        functions: those of `torch`, such as `torch.conv2d`.
    """

    def __init__(self, functions: Collection[Any]) -> None:
        super().__init__()
        self.functions = functions

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function not in self.functions:
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            result = function(*_rounded(args), **{n: _rounded(v) for n, v in kwargs.items()})
        return _each(lambda tensor: tensor.to(torch.bfloat16), result)


def _rounded(operands: Any) -> Any:
    return _each(lambda tensor: tensor.to(torch.bfloat16).float(), operands)


def _each(function: Callable[[Tensor], Tensor], of: Any) -> Any:
    """`of`, a tensor or a collection of them and of others, with `function` of each tensor."""
    if isinstance(of, Tensor):
        return function(of)
    return type(of)(_each(function, part) for part in of) if isinstance(of, tuple | list) else of
