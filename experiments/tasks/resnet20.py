"""He et al.'s ResNet-20 on CIFAR-10 (section 3.3.1), trained as they did."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from experiments.tasks import networks
from experiments.tasks.images import ImageTask


class ResNet20(ImageTask):
    """Channels are normalised by the training set; weight decay is the optimizer's.

    Options:
        batch: images in a batch; He et al.'s 128.
        width: channels of the first layers; He et al.'s 16.
        autocast, channels_last, compile, epoch_steps, tested: `ImageTask.shared`.
    """

    version = 1
    options = {"batch": 128, "width": 16, **ImageTask.shared}  # noqa: RUF012

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        model = networks.resnet20(chosen["width"])
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        return model
