"""The models of the paper's three tasks, at its sizes, on made-up data: only their cost matters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(784, 128), nn.Tanh(), nn.Linear(128, 10), nn.Tanh())


class Block(nn.Module):
    """A basic block of He et al. 2016, with the parameter-free shortcut A."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.added = stride, outputs - inputs

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        return (y + nn.functional.pad(shortcut, (0, 0, 0, 0, 0, self.added))).relu()


def resnet20() -> nn.Module:
    widths = [16, 16, 16, 16, 32, 32, 32, 64, 64, 64]
    blocks = [
        Block(inputs, outputs, outputs // inputs) for inputs, outputs in itertools.pairwise(widths)
    ]
    stem = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class CharLSTM(nn.Module):
    """War and Peace's 87 characters, two layers of 128."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(87, 64)
        self.lstm = nn.LSTM(64, 128, 2, batch_first=True)
        self.output = nn.Linear(128, 87)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.lstm(self.embedding(x))[0]).flatten(0, 1)


@dataclass(frozen=True)
class Workload:
    """A model and one batch."""

    model: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    at_most: float  #: a step with Adam / SGD over a step with torch.optim.Adam


WORKLOADS = {
    "mlp": Workload(
        mlp,
        lambda: (torch.rand(256, 784), torch.randint(10, (256,))),
        # Eager elementwise work dominates here, and a pull-back is three times plain Adam's.
        at_most=3.0,
    ),
    "lstm": Workload(
        CharLSTM, lambda: (torch.randint(87, (50, 50)), torch.randint(87, (2500,))), at_most=1.25
    ),
    "resnet20": Workload(
        resnet20, lambda: (torch.rand(128, 3, 32, 32), torch.randint(10, (128,))), at_most=1.10
    ),
}
