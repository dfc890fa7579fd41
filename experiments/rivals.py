"""How the rivals of `experiments.optimizers` are made from what their packages offer."""

import dataclasses
import importlib
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

import gdtuo
from experiments import ExperimentError

Parameters = Iterable[Tensor]
# What `gdtuo.default` is made of beside Adam with a learned step size.
PARTS = ("average", "trace", "push", "early_push", "climb", "start", "stride")


def imported(module: str) -> Any:
    """The module, which is imported only where a run needs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ExperimentError(
            f"this optimizer needs {module}, which cannot be imported ({error}). Install it with "
            f"pip install '.[peers]' in the clone"
        ) from error


def _overflows(kind: type[Optimizer]) -> Any:
    """`kind`, whose weights are no number once it can't go on for numbers that are too large.

    It then raises an error that depends on the optimizer; but a run that diverged is no error.
    """

    class Overflows(kind):  # type: ignore[misc, valid-type]
        def step(self, closure: Any = None) -> Any:
            try:
                return super().step(closure)
            except (AssertionError, OverflowError, RuntimeError) as error:
                if isinstance(error, RuntimeError) and "overflow" not in str(error):
                    raise
            with torch.no_grad():
                for p in _parameters(self):
                    p.fill_(torch.nan)

    return Overflows


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def packaged(name: str) -> Callable[..., Optimizer]:
    """What makes the module's optimizer `name`."""

    def make(module: Any, parameters: Parameters, **settings: Any) -> Optimizer:
        optimizer: Optimizer = _overflows(getattr(module, name))(parameters, **settings)
        return optimizer

    return make


def distance(optimizer: Optimizer) -> float:
    """The step size of Prodigy and D-Adaptation: the estimate of the distance, times lr."""
    group = optimizer.param_groups[0]
    return float(group["d"] * group["lr"])


def warmed_up(optimizer: Optimizer) -> float:
    group = optimizer.param_groups[0]
    warmth = group.get("step", 0) / group["warmup_steps"] if group["warmup_steps"] else 1.0
    return float(group["lr"] * min(1.0, warmth))


def dog(module: Any, parameters: Parameters, gamma: float, **settings: Any) -> Optimizer:
    """DoG with its authors' polynomial-decay average, which their class takes from a whole model.

    The average is part of the state here, so that a state dict has it.
    """

    class AveragedDoG(_overflows(module.DoG)):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(parameters, **settings)
            for group in self.param_groups:
                group |= {"gamma": gamma, "steps": 0, "averaged": False}

        @torch.no_grad()
        def step(self, closure: Any = None) -> Any:
            loss = super().step(closure)
            for group in self.param_groups:
                group["steps"] += 1
                weight = (group["gamma"] + 1) / (group["gamma"] + group["steps"])
                for p in group["params"]:
                    average = self.state[p].setdefault("average", torch.zeros_like(p))
                    average.mul_(1 - weight).add_(p, alpha=weight)
            return loss

        def train(self) -> None:
            self._put(averaged=False)

        def eval(self) -> None:
            self._put(averaged=True)

        @torch.no_grad()
        def _put(self, averaged: bool) -> None:
            """Swap weights and average, unless they are where they should be."""
            for group in self.param_groups:
                if group["averaged"] != averaged and group["steps"]:
                    for p in group["params"]:
                        other = self.state[p]["average"]
                        kept = p.clone()
                        p.copy_(other)
                        other.copy_(kept)
                    group["averaged"] = averaged

    return AveragedDoG()


def dog_eta(optimizer: Optimizer) -> float:
    """Of the last step; not a number before the first."""
    eta = optimizer.param_groups[0].get("eta")
    return float(eta[0]) if eta else float("nan")


def mechanic_adam(
    module: Any, parameters: Parameters, s_init: float, s_decay: float, **settings: Any
) -> Optimizer:
    mechanic = module.mechanize(torch.optim.Adam, s_init=s_init, s_decay=s_decay)
    optimizer: Optimizer = _overflows(mechanic)(parameters, **settings)
    optimizer.register_state_dict_post_hook(_with_numbers)
    optimizer.register_load_state_dict_post_hook(_with_parameters)
    return optimizer


# Mechanic's own state goes by parameters, which are others once they are loaded.
def _with_numbers(optimizer: Optimizer, state_dict: dict[str, Any]) -> None:
    if own := state_dict["state"].get("_mechanic"):
        places = {p: i for i, p in enumerate(_parameters(optimizer))}
        state_dict["state"]["_mechanic"] = {places.get(key, key): own[key] for key in own}


def _with_parameters(optimizer: Optimizer) -> None:
    if own := optimizer.state.get("_mechanic"):
        parameters = dict(enumerate(_parameters(optimizer)))
        optimizer.state["_mechanic"] = {parameters.get(key, key): own[key] for key in own}


def mechanic_scale(optimizer: Optimizer) -> float:
    """The sum of its scales, times the lr of Adam."""
    own = optimizer.state.get("_mechanic")
    return float(own["s"].sum() * optimizer.param_groups[0]["lr"]) if own else float("nan")


def hypergradient_descent(name: str) -> Callable[..., Optimizer]:
    """What makes the rule `name` with a step size that is learned by gradient descent."""

    def make(module: Any, parameters: Parameters, lr: float, hypergrad_lr: float) -> Optimizer:
        rule = getattr(module, name)(lr=lr, learn=("lr",), optimizer=module.SGD(hypergrad_lr))
        return gdtuo.Tower(parameters, rule)

    return make


def default(
    module: Any, parameters: Parameters, lr: float, compile: bool, **parts: bool
) -> Optimizer:
    """`gdtuo.default`, or what is left of it without some of its parts."""
    parameters = list(parameters)
    whole: gdtuo.Tower = module.default(parameters, lr, compile=compile)
    if all(parts.values()):
        return whole
    rule, seek, safe = whole.rule, whole.rule.optimizer, whole.safeguards
    seek = dataclasses.replace(
        seek,
        push=seek.push if parts["push"] else 0.0,
        max_push=seek.max_push if parts["early_push"] else seek.push,
        boost=seek.boost if parts["climb"] else 0.0,
    )
    rule = dataclasses.replace(rule, trace=rule.trace if parts["trace"] else None, optimizer=seek)
    if not parts["average"]:
        shared = {n: getattr(rule, n) for n in ("lr", "learn", "coordinates", "trace", "optimizer")}
        rule = module.Adam(**shared)
    safe = dataclasses.replace(
        safe,
        start=safe.start if parts["start"] else None,
        stride=safe.stride if parts["stride"] else None,
    )
    return gdtuo.Tower(parameters, rule, safeguards=safe, compile=compile)
