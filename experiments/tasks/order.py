"""Tasks whose batches are drawn from a data set, each epoch in an order of its own."""

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from experiments import data as datasets
from experiments.data import Dataset
from experiments.tasks.task import StackableTask


class Order:
    """Which examples each batch has.

    Args:
        targets: of the training examples.
        size: examples in a batch.
        seed: of the order.
        epoch_steps: steps of an epoch, all of full batches; 0: one pass through the set, whose
            last batch is smaller.
        shuffled: whether each pass has an order of its own, or the set's.

    Attributes:
        steps: how many an epoch has.
        random: the stream that orders are drawn from; the processor's, so that they don't depend
            on the device.
    """

    def __init__(
        self, targets: Tensor, size: int, seed: int, epoch_steps: int = 0, shuffled: bool = True
    ) -> None:
        self.count, self.device = len(targets), targets.device
        self.size, self.shuffled = size, shuffled
        self.steps = epoch_steps or -(-self.count // size)
        self.passes = self.through(epoch_steps) if epoch_steps else 1
        self.random = torch.Generator().manual_seed(seed)
        self.indices: Tensor | None = None

    def through(self, steps: int) -> int:
        """How many times so many full batches go through the set, begun ones included."""
        return -(-steps * self.size // self.count)

    def draw(self, passes: int) -> None:
        orders = [
            torch.randperm(self.count, generator=self.random)
            if self.shuffled
            else torch.arange(self.count)
            for _ in range(passes)
        ]
        self.indices = torch.cat(orders).to(self.device)

    def begin(self) -> None:
        self.draw(self.passes)

    def batch(self, step: int) -> Tensor:
        return self.indices[step * self.size : (step + 1) * self.size]

    def state(self) -> dict[str, Any]:
        return {"order": self.indices, "random": self.random.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        order = state["order"]
        self.indices = None if order is None else order.to(self.device)
        self.random.set_state(state["random"])


def tested(data: Dataset, count: int) -> Dataset:
    """`data` with no more than the first so many test examples; 0: all."""
    if not count:
        return data
    return dataclasses.replace(
        data, test_inputs=data.test_inputs[:count], test_targets=data.test_targets[:count]
    )


class OrderedTask(StackableTask):
    """A stackable task on one data set; a subclass says with which network, loss and figures."""

    # What every one of them lets a run choose beside the size of its batches.
    shared: ClassVar[Mapping[str, Any]] = {"epoch_steps": 0, "tested": 0}

    def __init__(self, data: str, seed: int, device: str, **options: Any) -> None:
        chosen = {**self.options, **self.chosen(options)}
        self.data = tested(self.dataset(data, device, chosen), chosen["tested"])
        self.fingerprint, self.note = self.data.fingerprint, self.data.note
        self.order = Order(
            self.data.train_targets,
            chosen["batch"],
            seed,
            chosen["epoch_steps"],
            chosen.get("shuffled", True),
        )
        self.steps = self.order.steps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.model = self.network(chosen).to(device)

    def dataset(self, data: str, device: str, chosen: Mapping[str, Any]) -> Dataset:
        """The data set as the task sees it."""
        return datasets.load(data, device)

    @abstractmethod
    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        """The network, freshly drawn from torch's own random stream."""

    def begin(self) -> None:
        self.order.begin()

    def batch(self, step: int) -> Tensor:
        return self.order.batch(step)

    def state(self) -> dict[str, Any]:
        return self.order.state()

    def restore(self, state: dict[str, Any]) -> None:
        self.order.restore(state)
