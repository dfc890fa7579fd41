"""What a task is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar

from torch import Tensor, nn


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
