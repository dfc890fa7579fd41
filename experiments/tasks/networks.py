"""The networks of the paper's three tasks, at its sizes."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

Carried = Tensor | tuple[Tensor, Tensor] | None


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


def resnet20(width: int = 16) -> nn.Module:
    """The residual network of He et al. 2016 for CIFAR-10, with 20 layers; theirs has width 16."""
    widths = [width * factor for factor in (1, 1, 1, 1, 2, 2, 2, 4, 4, 4)]
    blocks = [
        Block(inputs, outputs, outputs // inputs) for inputs, outputs in itertools.pairwise(widths)
    ]
    stem = [nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4 * width, 10)]
    return nn.Sequential(*stem, *blocks, *head)


class CharLSTM(nn.Module):
    """Two layers of 128 as a default, and War and Peace's 87 characters.

    `layers` are LSTM's, or those of another recurrent network such as `nn.GRU`.
    """

    def __init__(
        self, characters: int = 87, hidden: int = 128, layers: type[nn.RNNBase] = nn.LSTM
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(characters, 64)
        self.lstm = layers(64, hidden, 2, batch_first=True)
        self.output = nn.Linear(hidden, characters)

    def forward(self, x: Tensor) -> Tensor:
        return self.carried(x, None)[0]

    def carried(self, x: Tensor, state: Carried) -> tuple[Tensor, Carried]:
        """The logits for each character of `x` in turn, and the state to go on from."""
        outputs, state = self.lstm(self.embedding(x), state)
        return self.output(outputs).flatten(0, 1), state
