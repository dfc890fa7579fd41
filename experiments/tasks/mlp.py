"""The paper's MNIST network (section 3.1), as its published code has it."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from experiments import data as datasets
from experiments.tasks.task import StackableTask

HIDDEN = 128
CLASSES = 10
BATCH = 256


class Mlp(StackableTask):
    """A perceptron with one hidden layer that classifies images; the metric is in percent.

    The published model squashes its outputs by tanh too, before the softmax. It matters: without
    that, plain SGD's test error would be a point lower than the paper's.
    """

    version = 1
    metric = "test_error"

    def __init__(self, data: str, seed: int, device: str) -> None:
        self.data = datasets.load(data, device)
        self.fingerprint = self.data.fingerprint
        # Both streams are the processor's, so that they don't depend on the device.
        self.order = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = nn.Sequential(
                nn.Flatten(),
                nn.Linear(self.data.train_inputs[0].numel(), HIDDEN),
                nn.Tanh(),
                nn.Linear(HIDDEN, CLASSES),
                nn.Tanh(),
                nn.LogSoftmax(dim=1),
            ).to(device)

    def batches(self) -> Iterator[Tensor]:
        targets = self.data.train_targets
        order = torch.randperm(len(targets), generator=self.order).to(targets.device)
        return iter(order.split(BATCH))

    @staticmethod
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.nll_loss(outputs, targets)

    def score(self, outputs: Tensor) -> float:
        wrong = int((outputs.argmax(dim=1) != self.data.test_targets).sum())
        return 100 * wrong / len(outputs)
