"""A plain convolutional network."""

import itertools
from collections.abc import Mapping
from typing import Any

from torch import nn

from experiments.tasks.images import ImageTask


class ConvNet(ImageTask):
    """Three convolutions with pooling between them and one linear layer.

    Without batch normalization the scale of the weights matters, and a step that is too large is
    not forgiven.

    Options:
        batch: images in a batch.
        width: channels of the first layer, doubled at each other; 16 takes milliseconds a step.
        autocast, channels_last, compile, epoch_steps, tested: `ImageTask.shared`.
    """

    version = 1
    options = {"batch": 64, "width": 16, **ImageTask.shared}  # noqa: RUF012

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        widths = [3, *(chosen["width"] * factor for factor in (1, 2, 4))]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        side = self.data.train_inputs.shape[-1] // 8
        classes = int(self.data.train_targets.max()) + 1
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(widths[-1] * side**2, classes))
