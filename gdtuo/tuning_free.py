"""A tower that needs no number: `default`, and the two rules that it is made of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import StepSize, constant, hyperparameter, logistic, unit_interval
from gdtuo.rule import Rule, State, Values
from gdtuo.rules import corrected_root, moments, root
from gdtuo.safeguards import NO_SAFEGUARDS, Safeguards
from gdtuo.tower import Tower


class ScheduleFreeAdam(Rule):
    """Adam that averages its weights instead of its gradients (Defazio et al. 2024, Schedule-Free).

    Equations, at a tensor's update number t = 1, 2, ..., with v from 0 and w, x, z from one place::

        v <- beta2 v + (1 - beta2) g^2              d = g / (sqrt(v / (1 - beta2^t)) + eps)
        z <- z - lr d                               what takes the steps
        x <- (1 - c) x + c z                        c = (power + 1) / (t + power)
        w <- (1 - beta1) z + beta1 x                the parameters, at which gradients are taken

    x is the average of all z, in which the k-th weighs as k^power (Shamir and Zhang 2013). What is
    kept of both is u = z - w, with which the same reads::

        step = (1 - beta1 + beta1 c) lr d - c u     u <- u - lr d + step        w <- w - step

    An average takes the noise away as a falling step size would, so that no schedule is needed.
    A model holds w, and nothing has to be switched before it is tested. Where batches are small, x
    has less noise still: x = w - (1 - beta1) / beta1 u, where u is the state's ``offset``.

    All three hyperparameters have a useful derivative; that of ``lr`` through one step is small,
    for most of what a step does comes later, by way of the average: see ``trace`` of `Rule`.

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; the coordinate x of each has beta = (tanh(x) + 1) / 2.
        power: 0 or more; at 0 all z weigh alike.
        eps: outside the root.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.ScheduleFreeAdam(0.01, optimizer=gdtuo.SGD(1e-5)))
        ScheduleFreeAdam(0.01) / SGD(1e-05)
    """

    lr: StepSize = hyperparameter(default=0.003)
    beta1: float = hyperparameter(default=0.9, domain=unit_interval, coordinates=logistic)
    beta2: float = hyperparameter(default=0.999, domain=unit_interval, coordinates=logistic)
    power: float = constant(default=4.0)
    eps: float = constant(default=1e-8)

    elementwise: ClassVar[bool] = True

    def init(self, w: Tensor) -> State:
        return {"exp_avg_sq": torch.zeros_like(w), "offset": torch.zeros_like(w)}

    def update(self, g: Tensor, state: State, h: Values, t: Tensor) -> tuple[Tensor, State]:
        u = state["offset"]
        after = {"exp_avg_sq": torch.lerp(g * g, state["exp_avg_sq"], h.beta2)}
        moved = h.lr * (g / corrected_root(after, h, t, self.eps))  # z's
        c = (self.power + 1.0) / (t + self.power)
        step = (1.0 - h.beta1 + h.beta1 * c) * moved - c * u
        return step, {**after, "offset": u - moved + step}


class Seek(Rule):
    """What finds a step size, as the top of a tower: Adam, quick at first, and pushing upwards.

    Equations, at update number t = 1, 2, ..., with g the hypergradient of log lr beneath::

        m <- beta1 m + (1 - beta1) g                v <- beta2 v + (1 - beta2) g^2       (from 0)
        r = sqrt(v / (1 - beta2^t))                 c = max(1, boost / sqrt(t))
        x <- x - lr c (m / (1 - beta1^t) - min(max_push, push c) r) / (r + eps)

    Adam's steps are scale-free, so that one step size serves every task: here it is by how much the
    logarithm changes in a step. At first there is more of it, for a first guess may be decades off.
    The push is against greed: a step size that is too small costs much later, and little at once,
    which alone a hypergradient sees. At first there is more of it as well, for then there is most
    to lose; below 1, a hypergradient that asks for less at every step is still obeyed.

    Args:
        lr: the step in x, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; the coordinate x of each has beta = (tanh(x) + 1) / 2.
        push: what is added to a step, as a share of it; nothing where g is 0, which tells nothing.
        max_push: the most that this share may be.
        boost: by how much the first step is larger, and the push in it; its square is the number of
            steps after which they are no larger than ``lr`` and ``push``.
        eps: outside the root; as small as keeps the first step from 0 / 0.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> rule = gdtuo.Adam(1e-6, learn=["lr"], coordinates={"lr": "log"}, optimizer=gdtuo.Seek())
        >>> print(rule)
        Adam^lr(1e-06, coordinates={lr: log}) / Seek
    """

    lr: StepSize = hyperparameter(default=0.02)
    beta1: float = hyperparameter(default=0.9, domain=unit_interval, coordinates=logistic)
    beta2: float = hyperparameter(default=0.99, domain=unit_interval, coordinates=logistic)
    push: float = constant(default=0.4)
    max_push: float = constant(default=0.9)
    boost: float = constant(default=25.0)
    eps: float = constant(default=1e-18)

    elementwise: ClassVar[bool] = True

    def init(self, w: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}

    def update(self, g: Tensor, state: State, h: Values, t: Tensor) -> tuple[Tensor, State]:
        state = moments(g, state, h)
        r = root(state["exp_avg_sq"]) / (1.0 - h.beta2**t).sqrt()
        c = (self.boost / t.sqrt()).clamp_min(1.0)
        push = (self.push * c).clamp_max(self.max_push) * r * (g != 0)
        towards = (state["exp_avg"] / (1.0 - h.beta1**t) - push) / (r + self.eps)
        return h.lr * c * towards, state


#: What `default` is made of; see there.
RULE = ScheduleFreeAdam(
    1e-3,
    learn=("lr",),
    coordinates={"lr": "log"},
    trace=0.95,
    optimizer=Seek(),
)
START, STRIDE = (0.003, 0.01), 0.02
OPTIONS = ("per", "maximize", "safeguards", "compile", "capturable")  # of `Tower`


def default(params: Iterable[Any], lr: float = 1e-3, **options: Any) -> Tower:
    """A tower that needs no tuning, whatever its first guess.

    It is ``ScheduleFreeAdam^lr(lr, coordinates={lr: log}, trace=0.95) / Seek`` with the safeguards
    ``start=(0.003, 0.01), stride=0.02``. That is, with E the trace of past steps, from 0::

        v = -(g . E)                                the hypergradient of log lr, estimated
        log lr <- log lr - Seek(v) - (what the step would be too long, in logarithms)
        step   = ScheduleFreeAdam(g; lr)            E <- 0.95 E + step          w <- w - step

    - The step size is learned in log space by scale-free steps, so that no number depends on the
      task.
    - Weights are averaged, which does what a schedule would.
    - The first step is brought to between 0.003 and 0.01 of the norm of all parameters of a group:
      that replaces a first guess which is off by more. Where a step would be more than 0.02 of it,
      the step size is brought down by as much before it is taken.
    - The trace and the push of `Seek` are against the greed of hypergradients.

    Memory: three tensors of a parameter's size, where Adam has two. Beta1 and beta2 are as they
    are, and there is no weight decay; a `Tower` of your own learns all three.

    Args:
        params: parameters, or parameter groups, each of which learns a step size of its own, by the
            norm of its own; with ``per="tower"`` there is one for all. Biases by themselves start
            slowly, for their norm is small: let them share with the weights.
        lr: a first guess at the step size, if there is one.
        options: of `Tower`; of ``safeguards``, ``start`` and ``stride`` are replaced.

    Raises:
        GdtuoError: as `Tower`.

    Example:
        >>> import gdtuo, torch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = gdtuo.default(model.parameters())
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(4, 2)).square().mean().backward()
        ...     _ = optimizer.step()
        >>> optimizer
        Tower(ScheduleFreeAdam^lr(...) / Seek, parameters in each group: [2])
    """
    if unknown := options.keys() - OPTIONS:
        raise GdtuoError(
            f"default: no option {', '.join(sorted(unknown))}. Give some of {', '.join(OPTIONS)}, "
            "or build a gdtuo.Tower with a rule of your own."
        )
    safe = options.pop("safeguards", NO_SAFEGUARDS)
    if isinstance(safe, Safeguards):
        safe = dataclasses.replace(safe, start=START, stride=STRIDE)
    rule = dataclasses.replace(RULE, lr=lr)
    return Tower(params, rule, safeguards=safe, **options)
