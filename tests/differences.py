"""Hypergradients by central finite differences: the step before last made again, perturbed.

Independent of the derivative that is tested: the update rules are only run forward, and what they
are run on is checked to give the very parameters and hyperparameters that the tower has.
"""

from __future__ import annotations

import copy
import dataclasses
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import gdtuo
from gdtuo import learner
from gdtuo.core import Inputs, Level, remade
from gdtuo.layout import levels_of
from tests.problem import loss_at, train


def inputs_of(level: Level, store: dict[str, Any], prefix: str, lr_factor: float = 1.0) -> Inputs:
    """What the last update was made of, as the tower has it in its state."""
    state = {key: store[prefix + key] for key in level.state_keys}
    w = store.get(prefix + "previous_parameter")
    return Inputs(
        store.get(prefix + "previous_gradient"), state, store[prefix + "step"], w, lr_factor
    )


@dataclasses.dataclass
class LastStep:
    """The step that a tower of one group has just made, to be made again with other values."""

    model: nn.Module
    tower: gdtuo.Tower
    before: dict[str, Tensor]  #: the coordinates before it
    parameters_before: list[Tensor]

    def __post_init__(self) -> None:
        self.levels = levels_of(self.tower.rule)
        self.group = self.tower.param_groups[0]
        self.learning = [level.learned for level in self.levels].index(())  # levels beneath it

    def coordinates(self, i: int) -> tuple[Tensor, Tensor]:
        return self.group[f"level{i}.learned"], self.group[f"level{i}.constant"]

    def inputs(self, i: int) -> Inputs:
        return inputs_of(self.levels[i], self.group, f"level{i}.")

    def remade(self, i: int, x: Tensor) -> list[Tensor]:
        """The parameters, had the learned coordinates of level ``i`` been ``x`` in that step."""
        for j in range(i, 0, -1):
            step, _ = remade(self.levels[j], x, self.coordinates(j)[1], self.inputs(j))
            x = self.before[f"level{j - 1}.learned"] - step
        made, factor = [], self.group["previous_lr_factor"]
        for p, w in zip(self.model.parameters(), self.parameters_before, strict=True):
            if self.tower.state.get(p, {}).get("is_kept"):
                inputs = inputs_of(self.levels[0], self.tower.state[p], "", factor)
                w = w - remade(self.levels[0], x, self.coordinates(0)[1], inputs)[0]
            made.append(w)
        return made

    def loss(self, i: int, x: Tensor, step: int) -> float:
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for p, w in zip(model.parameters(), self.remade(i, x), strict=True):
                p.copy_(w)
            return loss_at(model, step).item()

    def differences(self, i: int, step: int, e: float) -> Tensor:
        """dL/dx of level ``i``'s learned coordinates, by the five-point stencil."""
        x = self.coordinates(i)[0].clone()
        result = torch.zeros_like(x)
        for k in range(x.numel()):
            for weight, distance in ((1, -2), (-8, -1), (8, 1), (-1, 2)):
                moved = x.clone()
                moved[k] += distance * e
                result[k] += weight * self.loss(i, moved, step)
        return result / (12 * e)


def last_step(model: nn.Module, tower: gdtuo.Tower, step: int, take: Any = train) -> LastStep:
    """Make one step, and check that what the tower keeps of it gives what it made."""
    before = {k: v.clone() for k, v in tower.param_groups[0].items() if k.endswith(".learned")}
    parameters = [p.detach().clone() for p in model.parameters()]
    take(model, tower, 1, start=step)
    last = LastStep(model, tower, before, parameters)
    for i in range(last.learning):
        for w, p in zip(last.remade(i, last.coordinates(i)[0]), model.parameters(), strict=True):
            torch.testing.assert_close(w, p.detach(), rtol=1e-14, atol=1e-14)
    return last


def check(
    model: nn.Module,
    tower: gdtuo.Tower,
    steps: int = 6,
    *,
    e: float = 1e-3,
    rtol: float = 5e-6,
    away_from_zero: float = 1e-7,
    take: Any = train,
) -> list[Tensor]:
    """Every hypergradient of the step after ``steps`` against finite differences, relatively."""
    take(model, tower, steps - 1)
    last = last_step(model, tower, steps - 1, take)
    expected = [last.differences(i, steps, e) for i in range(last.learning)]
    for i, derivative in enumerate(expected):
        assert derivative.abs().min() > away_from_zero, (i, derivative)
    with mock.patch.object(learner, "update", wraps=learner.update) as updates:
        take(model, tower, 1, start=steps)
    # From the top down; the hypergradient of level i is the gradient that level i + 1 steps on.
    found = [call.args[3].g for call in updates.call_args_list][::-1]
    assert len(found) == len(expected) > 0
    for hypergradient, derivative in zip(found, expected, strict=True):
        torch.testing.assert_close(hypergradient, derivative, rtol=rtol, atol=0.0)
    return expected
