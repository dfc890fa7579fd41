"""The tiny problem that the tests train on: a 6-8-3 MLP on 40 rows, in batches of 10."""

from __future__ import annotations

import functools
import json
import pathlib
from typing import Any

import torch
from torch import Tensor, nn

import gdtuo

GOLDEN = pathlib.Path(__file__).parent / "golden" / "trajectories.json"

SGD_SGD = gdtuo.SGD(0.05, momentum=0.5, optimizer=gdtuo.SGD(0.01))

#: ``lr`` alone is learned, in log coordinates
LOG: dict[str, Any] = {"coordinates": {"lr": "log"}, "learn": ("lr",)}
LOG_SGD = gdtuo.SGD(0.05, optimizer=gdtuo.SGD(1e-2), **LOG)


@functools.cache
def golden() -> dict[str, Any]:
    return json.loads(GOLDEN.read_text())


def make_model(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).to(dtype)
    initial = golden()["problem"]["initial_parameters"]
    model.load_state_dict({k: torch.tensor(v, dtype=dtype) for k, v in initial.items()})
    return model


def make_tower(rule: gdtuo.Rule = SGD_SGD) -> tuple[nn.Sequential, gdtuo.Tower]:
    model = make_model()
    return model, gdtuo.Tower(model.parameters(), rule)


@functools.cache
def batch(number: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    problem = golden()["problem"]
    rows = slice(10 * number, 10 * number + 10)
    inputs = torch.tensor(problem["inputs"][rows], dtype=dtype)
    return inputs, torch.tensor(problem["targets"][rows])


def loss_at(model: Any, step: int, dtype: torch.dtype = torch.float64) -> Tensor:
    inputs, targets = batch(step % 4, dtype)
    return nn.functional.cross_entropy(model(inputs), targets)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int,
    start: int = 0,
    dtype: torch.dtype = torch.float64,
) -> list[float]:
    """Take steps ``start`` to ``start + steps - 1``; the loss before each."""
    losses = []
    for i in range(start, start + steps):
        optimizer.zero_grad()
        loss = loss_at(model, i, dtype)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def parameters_of(model: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Equal to the bit, dtype and shape included."""
    pairs = zip(a, b, strict=True)
    return all(x.dtype == y.dtype and x.shape == y.shape and x.equal(y) for x, y in pairs)


PER = ["tower", "group", "tensor", "element"]


def halves(model: nn.Sequential) -> list[dict[str, Any]]:
    """A parameter group for each layer."""
    return [{"params": model[0].parameters()}, {"params": model[2].parameters()}]


def numbers(values: Any) -> list[float]:
    """All in nested dictionaries, lists and tensors, in order."""
    if isinstance(values, Tensor):
        return values.flatten().tolist()
    if isinstance(values, float):
        return [values]
    children = values.values() if isinstance(values, dict) else values
    return [number for child in children for number in numbers(child)]
