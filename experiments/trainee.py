"""What is trained: the model of one task, or those of several as an ensemble."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

import gdtuo
from experiments import optimizers
from experiments.tasks import Task
from experiments.tasks.task import Figures

Levels = list[dict[str, float]]


def flat(levels: list[dict[str, Any]]) -> Levels:
    """`levels` with a number for each name: of a step size for each hyperparameter beneath, such as
    {"lr": {"momentum": 1e-6}}, one is "lr.momentum"."""
    plain: Levels = []
    for level in levels:
        parts = {name: x if isinstance(x, dict) else {"": x} for name, x in level.items()}
        named = (
            (f"{name}.{key}".rstrip("."), x)
            for name, part in parts.items()
            for key, x in part.items()
        )
        plain.append(dict(named))
    return plain


class Alone:
    """The model of one task under whatever optimizer."""

    def __init__(
        self, tasks: Sequence[Task], rules: Sequence[optimizers.Rule], capturable: bool = False
    ) -> None:
        (self.task,), (self.rule,) = tasks, rules
        self.optimizer = optimizers.make(self.rule, self.task.model.parameters(), capturable)

    def parameters(self) -> Iterator[Tensor]:
        return self.task.model.parameters()

    def inputs(self, step: int) -> tuple[Tensor, ...]:
        """What the losses of batch `step` of this epoch depend on beside the weights."""
        return self.task.inputs(step)

    def losses(self, *inputs: Tensor) -> Tensor:
        """The loss of each member."""
        return self.task.loss_of(*inputs)[None]

    def figures(self) -> list[Figures]:
        """The task's figures of each member."""
        with optimizers.evaluating(self.rule, self.optimizer):
            return [self.task.evaluate()]

    def levels(self, member: int) -> Levels:
        """The hyperparameters of a member, level 0 first; of what is no tower, its step size."""
        if isinstance(self.optimizer, gdtuo.Tower):
            return flat(self.optimizer.hyperparameters())
        return [{"lr": optimizers.step_size(self.rule, self.optimizer)}]

    def finite(self) -> list[bool]:
        """Whether all weights of a member are finite, of each."""
        return [all(bool(p.isfinite().all()) for p in self.task.model.parameters())]

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from: weights and hyperparameters."""
        return {
            "model": self.task.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        self.task.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


class Together:
    """The models of several stackable tasks as a `gdtuo.Ensemble`, each with its own batches."""

    def __init__(self, tasks: Sequence[Task], rules: Sequence[gdtuo.Rule]) -> None:
        self.tasks = tasks
        self.optimizer = gdtuo.Ensemble([task.model for task in tasks], rules)

    def parameters(self) -> Iterator[Tensor]:
        return self.optimizer.parameters()

    def inputs(self, step: int) -> tuple[Tensor, ...]:
        return (torch.stack([task.batch(step) for task in self.tasks]),)

    def losses(self, indices: Tensor) -> Tensor:
        first = self.tasks[0]
        inputs, targets = first.examples(indices)
        return torch.vmap(first.criterion)(self.optimizer(inputs, separate=True), targets)

    @torch.no_grad()
    def figures(self) -> list[Figures]:
        first = self.tasks[0]
        return [first.score(outputs) for outputs in self.optimizer(first.test_inputs)]

    def levels(self, member: int) -> Levels:
        return flat(self.optimizer.hyperparameters(member))

    def finite(self) -> list[bool]:
        tensors = [p.isfinite().flatten(1).all(dim=1) for p in self.optimizer.parameters()]
        return torch.stack(tensors).all(dim=0).tolist()

    def state(self) -> dict[str, Any]:
        return self.optimizer.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(state)
