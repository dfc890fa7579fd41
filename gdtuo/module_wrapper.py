"""The published loop: initialize, begin, forward, zero_grad, step, on top of a `Tower`."""

from __future__ import annotations

from typing import Any

from torch import nn

from gdtuo.errors import GdtuoError
from gdtuo.rule import Rule
from gdtuo.tower import Tower


class ModuleWrapper:
    """Train a module with the loop of the published package, unchanged.

    The module keeps its own parameters: tied weights stay tied, frozen ones frozen, and
    ``copy.deepcopy(module)`` works at any time. New code is shorter with `Tower`.

    Args:
        module: the model.
        optimizer: the tower, such as ``gdtuo.Adam(optimizer=gdtuo.SGD(1e-5))``.

    Attributes:
        module: the model that was given.
        tower: the `Tower` that trains it; ``tower.hyperparameters()`` reads what is learned.

    Raises:
        GdtuoError: the first argument is no module, or the second no rule.

    Example:
        >>> import gdtuo, torch
        >>> model, rule = torch.nn.Linear(2, 1), gdtuo.SGD(0.1, optimizer=gdtuo.SGD(1e-3))
        >>> mw = gdtuo.ModuleWrapper(model, optimizer=rule)
        >>> mw.initialize()
        >>> for _ in range(3):
        ...     mw.begin()
        ...     loss = mw.forward(torch.ones(4, 2)).square().mean()
        ...     mw.zero_grad()
        ...     loss.backward()  # create_graph=True is not needed; it does no harm
        ...     mw.step()
        >>> len(mw.tower.hyperparameters())
        2
    """

    def __init__(self, module: nn.Module, optimizer: Rule) -> None:
        if not isinstance(module, nn.Module):
            raise GdtuoError(
                f"ModuleWrapper: the first argument is a {type(module).__name__}. Give a module: "
                "gdtuo.ModuleWrapper(model, optimizer=rule)."
            )
        self.module = module
        self.tower = Tower(module.parameters(), optimizer)

    def initialize(self) -> None:
        """Nothing is left to do: the tower is ready from construction."""

    def begin(self) -> None:
        """Nothing is left to do: parameters are leaf tensors, which track their gradients."""

    def zero_grad(self) -> None:
        """Forget the gradients of the last step."""
        self.module.zero_grad()

    def forward(self, *inputs: Any, **named_inputs: Any) -> Any:
        """Run the module."""
        return self.module(*inputs, **named_inputs)

    __call__ = forward

    def train(self) -> None:
        """Put the module in training mode."""
        self.module.train()

    def eval(self) -> None:
        """Put the module in evaluation mode."""
        self.module.eval()

    def step(self) -> None:
        """Update the hyperparameters of every level, then the parameters."""
        self.tower.step()
        for p in self.module.parameters():
            if p.grad is not None and p.grad.requires_grad:
                # backward(create_graph=True) hangs the whole graph on it, in a cycle with p.
                p.grad = p.grad.detach()
