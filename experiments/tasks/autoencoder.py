"""A deep autoencoder of images."""

import itertools
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from experiments.tasks.order import OrderedTask
from experiments.tasks.task import Figures

# Half as wide as Hinton and Salakhutdinov's of 2006 (1000-500-250-30), so that a step takes
# milliseconds; the bottleneck is theirs, and so is the measure, the squared error of an image.
HIDDEN = (500, 250, 125, 30)


class Autoencoder(OrderedTask):
    """Images through a bottleneck and back; the metric is the squared error of an image.

    The loss is hundreds of times a classifier's and the network is deep and narrow, so that a step
    size that suits the other tasks need not suit this one.

    Options:
        batch: examples in a batch; Hinton and Salakhutdinov's 100.
        epoch_steps, tested: as those of `Mlp`.
    """

    version = 1
    metric = "test_loss"
    options = {"batch": 100, **OrderedTask.shared}  # noqa: RUF012

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        half = (self.data.train_inputs[0].numel(), *HIDDEN)
        layers: list[nn.Module] = [nn.Flatten()]
        for inputs, outputs in itertools.pairwise([*half, *half[-2::-1]]):
            layers += [nn.Linear(inputs, outputs), nn.Tanh()]
        return nn.Sequential(*layers[:-1], nn.Sigmoid())

    def examples(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        images = self.data.train_inputs[indices]
        return images, images

    @staticmethod
    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets.flatten(1)).square().sum(dim=1).mean()

    def score(self, outputs: Tensor) -> Figures:
        return {"test_loss": self.criterion(outputs, self.data.test_inputs).item()}
