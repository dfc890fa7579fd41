"""The networks of the paper's three tasks, at its sizes."""

from __future__ import annotations

import itertools

from torch import Tensor, nn


def mlp() -> nn.Module:
    """MNIST's 784-128-10 perceptron; the loss has the softmax."""
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
    """The residual network of He et al. 2016 for CIFAR-10, with 20 layers."""
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
