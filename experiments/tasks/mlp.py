"""The paper's MNIST network (section 3.1), as its published code has it."""

from typing import Any

import torch
from torch import Tensor, nn

from experiments import data as datasets
from experiments.tasks.task import Figures, StackableTask

HIDDEN = 128
CLASSES = 10
WARM = 0.1  # the step size of a warm-up


class Mlp(StackableTask):
    """A perceptron with one hidden layer that classifies images; the metric is in percent.

    The published model squashes its outputs by tanh too, before the softmax. It matters: the study
    `choices` says how much.

    Options:
        batch: examples in a batch; the last of an epoch is smaller.
        shuffled: whether each epoch has an order of its own, or the data set's.
        epoch_steps: steps of an epoch, all of full batches; 0: one pass through the set.
        warmup: steps of plain SGD at 0.1 before the run begins.
        output_tanh: whether the outputs are squashed.
    """

    version = 1
    metric = "test_error"
    options = {  # noqa: RUF012
        "batch": 256, "shuffled": True, "epoch_steps": 0, "warmup": 0, "output_tanh": True,
    }  # fmt: skip

    def __init__(self, data: str, seed: int, device: str, **options: Any) -> None:
        chosen = {**self.options, **self.chosen(options)}
        self.size, self.shuffled = chosen["batch"], chosen["shuffled"]
        self.data = datasets.load(data, device)
        self.fingerprint = self.data.fingerprint
        self.passes, self.steps = 1, -(-len(self.data.train_targets) // self.size)
        if steps := chosen["epoch_steps"]:
            self.passes, self.steps = self._passes(steps), steps
        # Both streams are the processor's, so that they don't depend on the device.
        self.random = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = nn.Sequential(
                nn.Flatten(),
                nn.Linear(self.data.train_inputs[0].numel(), HIDDEN),
                nn.Tanh(),
                nn.Linear(HIDDEN, CLASSES),
                *([nn.Tanh()] if chosen["output_tanh"] else []),
                nn.LogSoftmax(dim=1),
            ).to(device)
        self._warm_up(chosen["warmup"])

    def _passes(self, steps: int) -> int:
        """How many times so many full batches go through the set, begun ones included."""
        return -(-steps * self.size // len(self.data.train_targets))

    def _warm_up(self, steps: int) -> None:
        self.order = self._drawn(self._passes(steps)) if steps else None
        optimizer = torch.optim.SGD(self.model.parameters(), WARM)
        for step in range(steps):
            optimizer.zero_grad()
            self.loss(step).backward()
            optimizer.step()
        optimizer.zero_grad()

    def begin(self) -> None:
        self.order = self._drawn(self.passes)

    def _drawn(self, passes: int) -> Tensor:
        """The order of the examples in so many passes through the set."""
        count = len(self.data.train_targets)
        orders = [
            torch.randperm(count, generator=self.random) if self.shuffled else torch.arange(count)
            for _ in range(passes)
        ]
        return torch.cat(orders).to(self.data.train_targets.device)

    def batch(self, step: int) -> Tensor:
        return self.order[step * self.size : (step + 1) * self.size]

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

    def state(self) -> dict[str, Any]:
        return {"order": self.order, "random": self.random.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.order = state["order"]
        self.random.set_state(state["random"])
