"""What a user's type checker is to accept: `make lint` checks it strictly, nothing runs it."""

import torch
from torch import Tensor

import gdtuo
from gdtuo.rule import State

model = torch.nn.Linear(2, 1)
tower = gdtuo.Adam(1e-3, optimizer=gdtuo.SGD(1e-5, momentum=0.9, optimizer=gdtuo.SGD()))
by_name = gdtuo.Adam(optimizer=gdtuo.SGD(lr={"lr": 1e-3, "beta1": 1e-6}), learn=("lr", "beta1"))
optimizer: torch.optim.Optimizer = gdtuo.Tower(model.parameters(), tower, per="tensor")
ready: gdtuo.Tower = gdtuo.default(model.parameters(), lr=1e-3)
value: float = ready.hyperparameters()[0]["lr"]


class SoftSign(gdtuo.Rule):
    lr: float = gdtuo.hyperparameter(default=0.1)
    softness: float = gdtuo.constant(default=1e-3)

    def update(self, g: Tensor, state: State, h: gdtuo.Values) -> tuple[Tensor, State]:
        return h.lr * g / (g.abs() + self.softness), state


own = gdtuo.Tower(model.parameters(), SoftSign(0.2, optimizer=gdtuo.SGD(1e-3)))
