"""The models of the paper's three tasks, at its sizes, on made-up data: only their cost matters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from experiments.tasks.networks import CharLSTM, mlp, resnet20


@dataclass(frozen=True)
class Workload:
    """A model and one batch."""

    model: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    at_most: float  #: a step with Adam / SGD over a step with torch.optim.Adam


WORKLOADS = {
    "mlp": Workload(
        mlp,
        lambda: (torch.rand(256, 784), torch.randint(10, (256,))),
        # Eager elementwise work dominates here, and a pull-back is three times plain Adam's.
        at_most=3.0,
    ),
    "lstm": Workload(
        CharLSTM, lambda: (torch.randint(87, (50, 50)), torch.randint(87, (2500,))), at_most=1.25
    ),
    "resnet20": Workload(
        resnet20, lambda: (torch.rand(128, 3, 32, 32), torch.randint(10, (128,))), at_most=1.10
    ),
}
