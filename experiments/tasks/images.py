"""Classification of images that are augmented in batches, on the device."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from experiments import data as datasets
from experiments.tasks.order import Order, tested
from experiments.tasks.precision import mixed_precision
from experiments.tasks.task import Figures, Task


class ImageTask(Task):
    """Images padded by an eighth on each side and cropped at random; the metric is in percent.

    Photographs are flipped at random too; a flipped digit would be no digit. The last batch of an
    epoch is smaller, unless `epoch_steps` is given: every image is seen in every epoch.

    Attributes:
        evaluated: test images at once.
        full: the model, compiled where that was chosen, for full batches.
    """

    metric = "test_error"
    # What every one of them lets a run choose: "bfloat16" computes the network in mixed precision;
    # channels_last is the layout of images in memory, faster where the hardware likes it;
    # compile has torch.compile fuse what lies between the convolutions, for full batches of
    # training, equal to rounding; epoch_steps are steps of an epoch, all of full batches, 0 one
    # pass through the set; tested is how many of the test images are looked at, 0 all.
    shared: ClassVar[Mapping[str, Any]] = {
        "autocast": "none", "channels_last": False, "compile": False, "epoch_steps": 0, "tested": 0,
    }  # fmt: skip
    evaluated: ClassVar[int] = 1000

    def __init__(self, data: str, seed: int, device: str, **options: Any) -> None:
        chosen = {**self.options, **self.chosen(options)}
        self.mixed = mixed_precision(device, chosen["autocast"])
        self.layout = torch.channels_last if chosen["channels_last"] else torch.contiguous_format
        self.data = tested(datasets.load(data, device), chosen["tested"])
        self.fingerprint, self.note = self.data.fingerprint, self.data.note
        self.flips = data in datasets.PHOTOGRAPHS
        targets = self.data.train_targets
        self.order = Order(targets, chosen["batch"], seed, chosen["epoch_steps"])
        self.steps = self.order.steps
        self.mean, self.deviation = self.statistics(chosen)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.network(chosen)
        self.model = model.to(device, memory_format=self.layout)
        self.full = torch.compile(self.model, dynamic=False) if chosen["compile"] else self.model

    @abstractmethod
    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        """The network, freshly drawn from torch's own random stream."""

    def statistics(self, chosen: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by channel, which images are normalised by."""
        return _statistics(self.data.train_inputs)

    def begin(self) -> None:
        self.order.begin()

    def inputs(self, step: int) -> tuple[Tensor, ...]:
        indices = self.order.batch(step)
        return indices, *self._crops(len(indices))

    def loss_of(self, indices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        images = self._cropped(self._normalised(self.data.train_inputs[indices]), rows, columns)
        network = self.full if len(indices) == self.order.size else self.model
        outputs = self._outputs(network, images)
        return nn.functional.cross_entropy(outputs, self.data.train_targets[indices])

    @torch.no_grad()
    def evaluate(self) -> Figures:
        self.model.eval()
        wrong, total = 0, 0.0
        for images, targets in zip(
            self.data.test_inputs.split(self.evaluated),
            self.data.test_targets.split(self.evaluated),
            strict=True,
        ):
            outputs = self._outputs(self.model, self._normalised(images))
            wrong += int((outputs.argmax(dim=1) != targets).sum())
            total += nn.functional.cross_entropy(outputs, targets, reduction="sum").item()
        self.model.train()
        count = len(self.data.test_targets)
        return {"test_error": 100 * wrong / count, "test_loss": total / count}

    def state(self) -> dict[str, Any]:
        return self.order.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.order.restore(state)

    def _outputs(self, network: nn.Module, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=self.layout)
        with self.mixed():
            return network(images).float()

    def _normalised(self, images: Tensor) -> Tensor:
        return (_as_colour(images).float() - self.mean) / self.deviation

    def _crops(self, count: int) -> tuple[Tensor, Tensor]:
        """The rows and the columns of `count` padded images that make a crop, flipped or not."""
        side = self.data.train_inputs.shape[-1]
        random = self.order.random
        draw = torch.randint(2 * (side // 8) + 1, (2, count, 1), generator=random)
        flipped = torch.randint(2, (count, 1), generator=random).bool() & self.flips
        along = torch.arange(side)
        rows = draw[0] + along
        columns = draw[1] + torch.where(flipped, along.flip(0), along)
        return rows.to(self.mean.device), columns.to(self.mean.device)

    def _cropped(self, images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        """Each image cropped from a padded one; 0 is the mean colour."""
        count, channels, side, _ = images.shape
        padded = nn.functional.pad(images, [side // 8] * 4)
        return padded[
            torch.arange(count, device=images.device)[:, None, None, None],
            torch.arange(channels, device=images.device)[:, None, None],
            rows[:, None, :, None],
            columns[:, None, None, :],
        ]


def _as_colour(images: Tensor) -> Tensor:
    """Grey images get three channels."""
    return images if images.dim() == 4 else images[:, None].expand(-1, 3, -1, -1)


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over `images`."""
    parts = [_as_colour(part).double() for part in images.split(10_000)]
    count = sum(part[:, 0].numel() for part in parts)
    mean = sum(part.sum(dim=(0, 2, 3)) for part in parts) / count
    square = sum(part.square().sum(dim=(0, 2, 3)) for part in parts) / count
    deviation = (square - mean.square()).sqrt()
    return mean.float()[:, None, None], deviation.float()[:, None, None]
