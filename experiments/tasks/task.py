"""What a task is."""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from experiments import ExperimentError
from experiments.data import Dataset

Figures = dict[str, float]


class Task(ABC):
    """A model, its data, its loss and its metrics, made afresh for each run.

    Initial weights and the order of the batches depend on the seed alone, so that runs that
    share a seed are paired whatever their optimizers do.

    Attributes:
        version: raised whenever the numbers of a run would change; part of every run's key.
        metric: the name of the figure, among those of `evaluate`, that runs are judged by; the
            lower the better.
        options: what a run may choose beside data and seed, with the defaults.
        choices: the values there are of an option, where they are few.
        model: what is trained.
        steps: how many an epoch has.
        fingerprint: a hash of the data.
        note: what every record must say about the data; usually nothing.
        clip: gradients are clipped to this, element by element; None: not.
    """

    version: ClassVar[int]
    metric: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    choices: ClassVar[Mapping[str, Collection[str]]] = {"autocast": ("none", "bfloat16")}
    model: nn.Module
    steps: int
    fingerprint: str
    note: str = ""
    clip: float | None = None

    @abstractmethod
    def __init__(self, data: str, seed: int, device: str, **options: Any) -> None: ...

    @classmethod
    def chosen(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """The `options` that differ from the defaults, by name.

        Raises:
            ExperimentError: the task has no such option, or the value is of another kind, or none
                of the few there are.
        """
        for name, value in options.items():
            if name not in cls.options:
                known = ", ".join(cls.options) or "none"
                raise ExperimentError(f"{cls.__name__} has no option {name!r}; it has {known}")
            if type(value) is not type(cls.options[name]):
                raise ExperimentError(
                    f"option {name} of {cls.__name__} is {value!r}; expected something like "
                    f"{cls.options[name]!r}"
                )
            if value not in (few := cls.choices.get(name, (value,))):
                expected = " or ".join(map(repr, few))
                raise ExperimentError(f"option {name} is {value!r}; expected {expected}")
        return {n: v for n, v in sorted(options.items()) if v != cls.options[n]}

    @classmethod  # noqa: B027
    def require(cls) -> None:
        """Check that what the task needs beside its data is installed.

        Raises:
            ExperimentError: it is not.
        """

    @abstractmethod
    def begin(self) -> None:
        """Start an epoch: draw what is drawn once for all its steps."""

    @abstractmethod
    def inputs(self, step: int) -> tuple[Tensor, ...]:
        """What the loss of batch `step` of this epoch depends on beside the model, on the device;
        steps come in order, from 0."""

    @abstractmethod
    def loss_of(self, *inputs: Tensor) -> Tensor:
        """The loss, of shape (), of `inputs`.

        It does nothing but operations on the device, and writes what it leaves for the next step
        where that is: a CUDA graph may capture it, whose replays run no Python.
        """

    def loss(self, step: int) -> Tensor:
        """The loss of batch `step` of this epoch."""
        return self.loss_of(*self.inputs(step))

    @abstractmethod
    def evaluate(self) -> Figures:
        """The figures of the model as it is, `metric` among them."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What the rest of the run depends on beside the model: tensors, numbers and strings.

        Taken between two steps, and given to `restore` of a task made in the same way, it lets the
        run go on to the bit.
        """

    @abstractmethod
    def restore(self, state: dict[str, Any]) -> None: ...


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
    def batch(self, step: int) -> Tensor:
        """The indices of batch `step` of this epoch among the training examples."""

    @staticmethod
    @abstractmethod
    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch, of shape ()."""

    @abstractmethod
    def score(self, outputs: Tensor) -> Figures:
        """The figures, from the outputs for the whole test set."""

    def examples(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """The training inputs and targets at `indices`, in whatever shape those are."""
        return self.data.train_inputs[indices], self.data.train_targets[indices]

    @property
    def test_inputs(self) -> Tensor:
        return self.data.test_inputs

    def inputs(self, step: int) -> tuple[Tensor, ...]:
        return (self.batch(step),)

    def loss_of(self, indices: Tensor) -> Tensor:
        inputs, targets = self.examples(indices)
        return self.criterion(self.model(inputs), targets)

    @torch.no_grad()
    def evaluate(self) -> Figures:
        return self.score(self.model(self.test_inputs))
