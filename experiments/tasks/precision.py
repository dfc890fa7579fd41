"""Mixed precision: the network in bfloat16, weights and all the rest in float32."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from experiments import ExperimentError

# The vector unit that torch has convolutions in bfloat16 for. Elsewhere they take many times as
# long as those in float32.
NATIVE = "AVX512"


def mixed_precision(device: str, autocast: str) -> Callable[[], AbstractContextManager[Any]]:
    """What opens the block that a network is computed in: "bfloat16", or "none" as it is.

    Raises:
        ExperimentError: `autocast` is something else.
    """
    if autocast not in ("none", "bfloat16"):
        raise ExperimentError(f"option autocast is {autocast!r}; expected 'none' or 'bfloat16'")
    kind = torch.device(device).type
    enabled = autocast == "bfloat16"
    if enabled and kind == "cpu" and torch.backends.cpu.get_cpu_capability() != NATIVE:
        return _without_native_convolutions
    return partial(torch.autocast, kind, torch.bfloat16, enabled=enabled)


@contextmanager
def _without_native_convolutions() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16), Convolutions():
        yield


class Convolutions(TorchFunctionMode):
    """Convolutions in bfloat16, by way of float32.

    Operands are rounded to bfloat16, and so are the result and, on the way back, its gradient and
    those of the operands; products and sums in between are float32's. This is what native ones do:
    they differ in the order of the sums, as any two processors do.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is not torch.conv2d:
            return function(*args, **kwargs)
        with torch.autocast("cpu", enabled=False):
            args = map(_rounded, args)
            kwargs = {name: _rounded(value) for name, value in kwargs.items()}
            return function(*args, **kwargs).to(torch.bfloat16)


def _rounded(operand: Any) -> Any:
    return operand.to(torch.bfloat16).float() if isinstance(operand, Tensor) else operand
