"""One training step of a workload under each contender, as a function to call again and again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from gradient_descent_the_ultimate_optimizer import gdtuo as published
from torch.nn.functional import cross_entropy

import gdtuo
from tests.benchmarks.models import WORKLOADS

TORCH = "torch.optim.Adam"
PUBLISHED = "published Adam / SGD(1e-05)"
TOWERS = (
    "Adam",
    "Adam^lr / SGD(1e-05)",
    "Adam / SGD(1e-05)",
    "Adam / SGD(1e-05) / SGD(1e-07) / SGD(1e-09)",
)


def trainer(workload: str, contender: str) -> Callable[[], None]:
    """A step of ``contender``: `TORCH`, `PUBLISHED`, or the text of a tower."""
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

    tower = contender != TORCH
    parameters = model.parameters()
    optimizer = (
        gdtuo.Tower(parameters, gdtuo.parse(contender)) if tower else torch.optim.Adam(parameters)
    )

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()

    return step
