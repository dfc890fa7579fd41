"""The paper's MNIST network (section 3.1), as its published code has it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments.tasks.order import OrderedTask
from experiments.tasks.task import Figures

HIDDEN = 128
CLASSES = 10
WARM = 0.1  # the step size of a warm-up


class Mlp(OrderedTask):
    """A perceptron with one hidden layer that classifies images; the metric is in percent.

    The published model squashes its outputs by tanh too, before the softmax. It matters: the study
    `choices` says how much.

    Options:
        batch: examples in a batch; the last of an epoch is smaller.
        shuffled: whether each epoch has an order of its own, or the data set's.
        epoch_steps: steps of an epoch, all of full batches; 0: one pass through the set.
        tested: how many of the test images are looked at; 0: all.
        warmup: steps of plain SGD at 0.1 before the run begins.
        output_tanh: whether the outputs are squashed.
    """

    version = 1
    metric = "test_error"
    options = {  # noqa: RUF012
        "batch": 256, "shuffled": True, "warmup": 0, "output_tanh": True, **OrderedTask.shared,
    }  # fmt: skip

    def __init__(self, data: str, seed: int, device: str, **options: Any) -> None:
        super().__init__(data, seed, device, **options)
        self._warm_up(options.get("warmup", 0))

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(self.data.train_inputs[0].numel(), HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, CLASSES),
            *([nn.Tanh()] if chosen["output_tanh"] else []),
            nn.LogSoftmax(dim=1),
        )

    def _warm_up(self, steps: int) -> None:
        if steps:
            self.order.draw(self.order.through(steps))
        optimizer = torch.optim.SGD(self.model.parameters(), WARM)
        for step in range(steps):
            optimizer.zero_grad()
            self.loss(step).backward()
            optimizer.step()
        optimizer.zero_grad()

    @staticmethod
    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.nll_loss(outputs, targets)

    def score(self, outputs: Tensor) -> Figures:
        targets = self.data.test_targets
        wrong = int((outputs.argmax(dim=1) != targets).sum())
        return {
            "test_error": 100 * wrong / len(outputs),
            "test_loss": self.criterion(outputs, targets).item(),
        }
