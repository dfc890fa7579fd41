"""What a task is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from experiments.data import Dataset


class Task(ABC):
    """A model, its data, its loss and its metric, made afresh for each run.

    Initial weights and the order of the batches depend on the seed alone, so that runs that
    share a seed are paired whatever their optimizers do.

    Attributes:
        version: raised whenever the numbers of a run would change; part of every run's key.
        metric: the name that `evaluate`'s figure has in the records.
        model: what is trained.
        fingerprint: a hash of the data.
    """

    version: ClassVar[int]
    metric: ClassVar[str]
    model: nn.Module
    fingerprint: str

    @abstractmethod
    def __init__(self, data: str, seed: int, device: str) -> None: ...

    @abstractmethod
    def losses(self) -> Iterator[Tensor]:
        """One epoch of training, lazily: the loss of each batch at the weights of that moment.

        Whatever is carried from batch to batch lives in the generator's own variables.
        """

    @abstractmethod
    def evaluate(self) -> float:
        """The metric on the test set; the lower the better."""


class StackableTask(Task):
    """A task whose runs can be trained together, as a `gdtuo.Ensemble`.

    Its model is one that `torch.vmap` can batch, and a batch is a choice of images or the like
    from a data set that all runs share. A run alone and a member of an ensemble differ in nothing
    but who calls what is declared here.

    Attributes:
        data: the data set.
    """

    data: Dataset

    @abstractmethod
    def batches(self) -> Iterator[Tensor]:
        """One epoch: the indices of each batch among the training examples."""

    @staticmethod
    @abstractmethod
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, of shape ()."""

    @abstractmethod
    def score(self, outputs: Tensor) -> float:
        """The metric, from the outputs for the whole test set."""

    def examples(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The training inputs and targets at `indices`, in whatever shape those are."""
        return self.data.train_inputs[indices], self.data.train_targets[indices]

    @property
    def test_inputs(self) -> Tensor:
        return self.data.test_inputs

    def losses(self) -> Iterator[Tensor]:
        for indices in self.batches():
            inputs, targets = self.examples(indices)
            yield self.loss(self.model(inputs), targets)

    @torch.no_grad()
    def evaluate(self) -> float:
        return self.score(self.model(self.test_inputs))
