"""Logistic regression."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from experiments import data as datasets
from experiments.data import Dataset
from experiments.tasks.order import OrderedTask
from experiments.tasks.task import Figures


class Logistic(OrderedTask):
    """A convex loss, of a conditioning that is known; the metric is the loss on other examples.

    White inputs such as those of the data set `gaussian` are given a covariance whose eigenvalues
    go from 1 down to 1/condition by equal factors. The largest is always 1, so that plain gradient
    descent bears the same step size at any condition, and only needs the longer. The axes are those
    of the cosine transform, not the weights': a step size for each weight is no way out.

    Options:
        batch: examples in a batch; 100 of 5000, so that noise matters but doesn't hide the rest.
        condition: of the covariance; at 10 any method is fast, at 1e4 steps must be many.
        epoch_steps, tested: as those of `Mlp`.
    """

    version = 1
    metric = "test_loss"
    options = {"batch": 100, "condition": 10.0, **OrderedTask.shared}  # noqa: RUF012

    def dataset(self, data: str, device: str, chosen: Mapping[str, Any]) -> Dataset:
        white = datasets.load(data, device)
        mixing = _mixing(white.train_inputs[0].numel(), chosen["condition"]).to(device)
        return dataclasses.replace(
            white,
            train_inputs=white.train_inputs.flatten(1) @ mixing,
            test_inputs=white.test_inputs.flatten(1) @ mixing,
        )

    def network(self, chosen: Mapping[str, Any]) -> nn.Module:
        return nn.Linear(self.data.train_inputs.shape[1], 1)

    @staticmethod
    def criterion(outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.binary_cross_entropy_with_logits(outputs[:, 0], targets.float())

    def score(self, outputs: Tensor) -> Figures:
        targets = self.data.test_targets
        wrong = int(((outputs[:, 0] > 0) != targets.bool()).sum())
        return {
            "test_loss": self.criterion(outputs, targets).item(),
            "test_error": 100 * wrong / len(outputs),
        }


def _mixing(size: int, condition: float) -> Tensor:
    """What white rows of so many entries are multiplied by."""
    along = torch.arange(size, dtype=torch.float64)
    cosines = torch.cos(math.pi / size * along[:, None] * (along + 0.5))
    axes = cosines / cosines.norm(dim=1, keepdim=True)
    deviations = condition ** (-along / (2 * max(1, size - 1)))
    return (deviations[:, None] * axes).float()
