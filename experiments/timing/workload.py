"""What is timed: the training step of a model under one optimizer after another."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

import gdtuo
from experiments import optimizers

PLAIN = "torch.optim"
FUSED = "torch.optim, fused"
COMPILED = "compile=True"  # in the text of an optimizer


@dataclass(frozen=True)
class Contender:
    """One optimizer for a workload.

    Attributes:
        height: the levels above the bottom; None: the bottom's rule as `torch.optim` has it, or
            what `text` says.
        fast: a compiled tower by height, or `torch.optim`'s fused optimizer.
        text: another optimizer than the workload's (`experiments.optimizers`), which says itself
            whether it is compiled.
    """

    height: int | None = None
    fast: bool = False
    text: str = ""

    @property
    def name(self) -> str:
        if self.text:
            return self.text
        if self.height is None:
            return FUSED if self.fast else PLAIN
        return tower(self.height, self.fast)


def tower(height: int, compiled: bool = False) -> str:
    """The name of the contender that is a tower."""
    return f"height {height}{', compiled' if compiled else ''}"


@dataclass(frozen=True)
class Workload:
    """A model, a batch, and the towers that train it; made-up data, as only the cost matters.

    Its functions are importable by name, so that another process can be given it.

    Attributes:
        name, title: on the command line, and in a figure.
        model: makes the model.
        batch: makes inputs and the classes they are of.
        bottom: the rule at a tower's bottom, as text.
        above: the rule of each level above it.
        plain: makes `torch.optim`'s optimizer of the same rule from parameters.
    """

    name: str
    title: str
    model: Callable[[], nn.Module]
    batch: Callable[[], tuple[Tensor, Tensor]]
    bottom: str
    above: str
    plain: Callable[..., Optimizer]

    def rule(self, contender: Contender) -> str:
        """What the contender steps by, as text."""
        if contender.text:
            return contender.text
        if contender.height is None:
            return f"{contender.name} of {self.bottom}"
        return str(gdtuo.parse(" / ".join([self.bottom, *[self.above] * contender.height])))

    def optimizer(self, contender: Contender, parameters: Iterable[Tensor]) -> Optimizer:
        if contender.text:
            return optimizers.make(optimizers.parse(contender.text), parameters)
        if contender.height is None:
            # False would forbid torch the choice that it makes by itself.
            return self.plain(parameters, fused=contender.fast or None)
        rule = gdtuo.parse(self.rule(contender))
        return gdtuo.Tower(parameters, rule, compile=contender.fast)


def contenders(
    heights: Sequence[int], compiled: bool = True, texts: Sequence[str] = ()
) -> list[Contender]:
    """A tower of each height, eager and compiled, `torch.optim`, plain and fused, and others."""
    kinds = [Contender(height) for height in heights]
    kinds += [Contender(height, fast=True) for height in heights if compiled]
    kinds += [Contender(), Contender(fast=True)]
    return kinds + [Contender(text=each) for each in texts if compiled or COMPILED not in each]


class Trainer:
    """The whole training step of a contender, on one batch again and again.

    Attributes:
        model, optimizer: what is trained, and by what.
    """

    def __init__(self, workload: Workload, contender: Contender, device: str) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = workload.model().to(device)
            self._inputs, self._targets = (tensor.to(device) for tensor in workload.batch())
        self.optimizer = workload.optimizer(contender, self.model.parameters())

    def step(self) -> None:
        self.optimizer.zero_grad()
        nn.functional.cross_entropy(self.model(self._inputs), self._targets).backward()
        self.optimizer.step()
