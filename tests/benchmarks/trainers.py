"""What is measured, under each contender, as a function to call again and again."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from gradient_descent_the_ultimate_optimizer import gdtuo as published
from torch import nn
from torch.nn.functional import cross_entropy

import gdtuo
from tests.benchmarks.models import WORKLOADS

TORCH = "torch.optim.Adam"
FUSED = "torch.optim.Adam(fused=True)"
PUBLISHED = "published Adam / SGD(1e-05)"
PROMISED = "Adam / SGD(1e-05)"
LR_ONLY = "Adam^lr / SGD(1e-05)"
DEFAULT = "default"
COMPILED = ", compiled"
HEIGHTS = (0, 1, 2, 3, 8, 20)


def tower(height: int) -> str:
    """Adam under ``height`` levels of SGD, whose step sizes stay within float32."""
    return " / ".join(["Adam", *(f"SGD({10.0 ** -(5 + 2 * min(i, 2)):g})" for i in range(height))])


def label(height: int) -> str:
    """The tower's text, where that is short."""
    return tower(height) if height <= 3 else f"Adam / {height} of SGD"


TALL = {label(height): tower(height) for height in HEIGHTS}
TOWERS = (LR_ONLY, *TALL)


def optimizer_of(contender: str, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """`TORCH`, `FUSED`, or a tower: `DEFAULT`, one of `TOWERS` or the text of another; perhaps
    `COMPILED`."""
    if contender in (TORCH, FUSED):
        return torch.optim.Adam(parameters, fused=contender == FUSED or None)
    text = contender.removesuffix(COMPILED)
    if text == DEFAULT:
        return gdtuo.default(parameters, compile=contender.endswith(COMPILED))
    rule = gdtuo.parse(TALL.get(text, text))
    return gdtuo.Tower(parameters, rule, compile=contender.endswith(COMPILED))


def trainer(workload: str, contender: str) -> Callable[[], None]:
    """A whole training step of a workload, of `PUBLISHED` or as in `optimizer_of`."""
    torch.manual_seed(0)
    model = WORKLOADS[workload].model()
    x, y = WORKLOADS[workload].batch()
    if contender == PUBLISHED:
        optimizer = published.Adam(optimizer=published.SGD(1e-5))
        wrapper = published.ModuleWrapper(model, optimizer=optimizer)
        wrapper.initialize()

        def published_step() -> None:
            wrapper.begin()
            loss = cross_entropy(wrapper.forward(x), y)
            wrapper.zero_grad()
            loss.backward(create_graph=True)  # as its README has it
            wrapper.step()

        return published_step

    optimizer = optimizer_of(contender, model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    return step


def with_gradients(shapes: Iterable[Iterable[int]]) -> list[nn.Parameter]:
    """Parameters of these shapes, their gradients random and set once."""
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(*shape)) for shape in shapes]
    for p in parameters:
        p.grad = torch.randn_like(p)
    return parameters


def of_model(workload: str) -> list[nn.Parameter]:
    """Parameters shaped as the workload's, with gradients."""
    return with_gradients(p.shape for p in WORKLOADS[workload].model().parameters())
