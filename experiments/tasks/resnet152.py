"""A ResNet-152 that knows ImageNet, fine-tuned on Caltech-256 (section 3.4, Fig. 4e)."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from experiments import ExperimentError
from experiments.tasks.images import ImageTask
from experiments.vision import torchvision

WEIGHTS = "IMAGENET1K_V1"  # those there were in 2022


def _models() -> ModuleType:
    return torchvision("the task resnet152").models


class ResNet152(ImageTask):
    """torchvision's network and weights, with a last layer of its own; all of it is trained.

    Options:
        batch: images in a batch; the paper doesn't say.
        network: the name of one of torchvision's residual networks.
        pretrained: whether it starts from ImageNet's weights, and images are normalised as theirs.
        autocast, channels_last, compile, epoch_steps, tested: `ImageTask.shared`.
    """

    version = 1
    options = {  # noqa: RUF012
        "batch": 32, "network": "resnet152", "pretrained": True, **ImageTask.shared,
    }  # fmt: skip
    evaluated = 100

    @classmethod
    def require(cls) -> None:
        _models()

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        name = chosen["network"]
        models = _models()
        try:
            model = models.get_model(name, weights=WEIGHTS if chosen["pretrained"] else None)
        except (OSError, RuntimeError) as error:  # no network; a file with a wrong checksum
            raise ExperimentError(
                f"cannot fetch the ImageNet weights of {name} ({type(error).__name__}: {error}). "
                f"Connect to the network once, or put the file that torchvision names into "
                f"{torch.hub.get_dir()}/checkpoints"
            ) from error
        classes = int(self.data.train_targets.max()) + 1
        model.fc = nn.Linear(model.fc.in_features, classes)
        return model

    def statistics(self, chosen: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        if not chosen["pretrained"]:
            return super().statistics(chosen)
        preset = _models().get_model_weights(chosen["network"])[WEIGHTS].transforms()
        # Theirs are of colours in [0, 1], and the images are bytes.
        device = self.data.train_inputs.device
        mean, deviation = (
            255 * torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in (preset.mean, preset.std)
        )
        return mean, deviation
