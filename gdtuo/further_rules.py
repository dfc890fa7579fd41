"""Rules that the paper does not have: torch's numerics, and those of Lion's authors for Lion."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import (
    StepSize,
    constant,
    hyperparameter,
    logistic,
    non_negative,
    positive_whole,
    stable_momentum,
    unit_interval,
)
from gdtuo.rule import Rule, State, Values
from gdtuo.rules import adam_step, corrected_root, inputs_with_decay, moments, root


class AdamW(Rule):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2; as in torch).

    Equations, at a tensor's update number t = 1, 2, ...::

        m <- beta1 m + (1 - beta1) g            (m and v start at 0)
        v <- beta2 v + (1 - beta2) g^2
        w <- w - lr (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps) + weight_decay w)

    All four hyperparameters have a useful derivative; that of ``weight_decay`` along held-out
    gradients (``cotangents`` of `Tower.step`), for it is only in the way of those that train. A
    schedule's factor on ``lr`` is one on the decay too.

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; the coordinate x of each has beta = (tanh(x) + 1) / 2.
        weight_decay: raw coordinates, 0 or more to start with; learned when named. As an upper
            level, where it would draw the coordinates beneath towards 0, give 0.
        eps: outside the root.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.AdamW(weight_decay=0.1, optimizer=gdtuo.SGD(1e-5)))
        AdamW(weight_decay=0.1) / SGD(1e-05)
    """

    lr: StepSize = hyperparameter(default=0.001)
    beta1: float = hyperparameter(default=0.9, domain=unit_interval, coordinates=logistic)
    beta2: float = hyperparameter(default=0.999, domain=unit_interval, coordinates=logistic)
    weight_decay: float = hyperparameter(
        default=0.01, domain=non_negative, learned="when named", optional=True
    )
    eps: float = constant(default=1e-8)

    elementwise: ClassVar[bool] = True

    @property
    def inputs(self) -> frozenset[str]:
        return inputs_with_decay(self)

    def init(self, w: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}

    def update(
        self, g: Tensor, state: State, h: Values, t: Tensor, w: Tensor | None = None
    ) -> tuple[Tensor, State]:
        state = moments(g, state, h)
        step = self.step_again(state, h, t)
        if w is not None:
            step = step + h.lr * h.weight_decay * w
        return step, state

    @property
    def steps_again(self) -> bool:
        return not self.uses("weight_decay")

    def step_again(self, state: State, h: Values, t: Tensor) -> Tensor:
        return adam_step(state, h, t, self.eps)


class NAdam(Rule):
    """Adam with Nesterov momentum that sets in gradually (Dozat 2016; as in torch).

    Equations, at a tensor's update number t = 1, 2, ..., with psi = ``momentum_decay``::

        c(t) = 1 - 0.96^(t psi) / 2             C <- C c(t)             (C starts at 1)
        m <- beta1 m + (1 - beta1) g            v <- beta2 v + (1 - beta2) g^2      (from 0)
        P = beta1^t C                           Q = P beta1 c(t + 1)
        d = (1 - beta1 c(t)) / (1 - P) g + beta1 c(t + 1) / (1 - Q) m
        w <- w - lr d / (sqrt(v / (1 - beta2^t)) + eps)

    All three hyperparameters have a useful derivative. P is torch's product of beta1 c(1), ...,
    beta1 c(t), with the present beta1 throughout, as in the bias corrections; so C depends on t
    alone.

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; the coordinate x of each has beta = (tanh(x) + 1) / 2.
        momentum_decay: 0 or more.
        eps: outside the root.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.NAdam(optimizer=gdtuo.SGD(1e-5)))
        NAdam / SGD(1e-05)
    """

    lr: StepSize = hyperparameter(default=0.002)
    beta1: float = hyperparameter(default=0.9, domain=unit_interval, coordinates=logistic)
    beta2: float = hyperparameter(default=0.999, domain=unit_interval, coordinates=logistic)
    momentum_decay: float = constant(default=0.004)
    eps: float = constant(default=1e-8)

    elementwise: ClassVar[bool] = True

    def init(self, w: Tensor) -> State:
        zeros = torch.zeros_like
        return {"product": w.new_ones(()), "exp_avg": zeros(w), "exp_avg_sq": zeros(w)}

    def update(self, g: Tensor, state: State, h: Values, t: Tensor) -> tuple[Tensor, State]:
        c, c_next = (1.0 - 0.5 * 0.96 ** (n * self.momentum_decay) for n in (t, t + 1.0))
        product = state["product"] * c
        after = moments(g, state, h)
        p, mu_next = h.beta1**t * product, h.beta1 * c_next
        of_g = h.lr * (1.0 - h.beta1 * c) / (1.0 - p)
        of_m = h.lr * mu_next / (1.0 - p * mu_next)
        step = (of_g * g + of_m * after["exp_avg"]) / corrected_root(after, h, t, self.eps)
        return step, {"product": product, **after}


SIGN = "the step takes it through a sign, whose derivative is 0"


class Lion(Rule):
    """Lion: the sign of an interpolated momentum (Chen et al. 2023, algorithm 2).

    Equations::

        w <- w - lr (sign(beta1 m + (1 - beta1) g) + weight_decay w)
        m <- beta2 m + (1 - beta2) g            (m starts at 0)

    ``lr`` and ``weight_decay`` have a useful derivative; the latter along held-out gradients
    (``cotangents`` of `Tower.step`), for it is only in the way of those that train. The betas act
    through a sign alone, whose derivative is 0, so they are refused in ``learn``. A schedule's
    factor on ``lr`` is one on the decay too. As an upper level it moves each coordinate by ``lr``,
    however small the hypergradient.

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; never learned.
        weight_decay: decoupled, raw coordinates, 0 or more to start with; learned when named. Where
            there is none, no copy of w is kept.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name, a beta that is to be learned.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.Lion(weight_decay=0.1, optimizer=gdtuo.SGD(1e-8)))
        Lion(weight_decay=0.1) / SGD(1e-08)
    """

    lr: StepSize = hyperparameter(default=1e-4)
    beta1: float = hyperparameter(
        default=0.9, domain=unit_interval, coordinates=logistic, learned="never", why_never=SIGN
    )
    beta2: float = hyperparameter(
        default=0.99, domain=unit_interval, coordinates=logistic, learned="never", why_never=SIGN
    )
    weight_decay: float = hyperparameter(
        default=0.0, domain=non_negative, learned="when named", optional=True
    )

    elementwise: ClassVar[bool] = True

    @property
    def inputs(self) -> frozenset[str]:
        return inputs_with_decay(self)

    def init(self, w: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(w)}

    def update(
        self, g: Tensor, state: State, h: Values, w: Tensor | None = None
    ) -> tuple[Tensor, State]:
        m = state["exp_avg"]
        step = h.lr * torch.lerp(g, m, h.beta1).sign()
        if w is not None:
            step = step + h.lr * h.weight_decay * w
        return step, {"exp_avg": torch.lerp(g, m, h.beta2)}


class Muon(Rule):
    """Momentum, orthogonalized by Newton-Schulz, for matrices (Jordan et al. 2024; as in torch).

    Equations, for a matrix w of r rows and c columns, with mu = ``momentum``::

        b <- mu b + (1 - mu) g                                      (b starts at 0)
        u = mu b + (1 - mu) g                                       (without nesterov: b)
        x <- 3.4445 x - 4.7750 (x x^T) x + 2.0315 (x x^T)^2 x       (ns_steps times, from
                                                                     u / max(||u||, eps))
        w <- w - lr (sqrt(max(1, r / c)) x + weight_decay w)

    All three hyperparameters have a useful derivative; that of ``weight_decay`` along held-out
    gradients (``cotangents`` of `Tower.step`), for it is only in the way of those that train. A
    schedule's factor on ``lr`` is one on the decay too. The arithmetic is in the precision of the
    parameters (float32 for half), where torch's is bfloat16; call `Tower.step` outside autocast,
    which has its own.

    It is for the matrices of hidden layers; the rest needs a group with a rule of its own. A step
    of a matrix depends on all of it, so that Muon can't be an upper level, and that a DTensor which
    is sharded is gathered, 7 times a step, 5 without weight decay (docs/distributed.md).

    Args:
        lr: step size, raw coordinates, any finite number.
        momentum: raw coordinates, between -1 and 1.
        weight_decay: decoupled, raw coordinates, 0 or more to start with; learned when named. Where
            there is none, no copy of w is kept.
        nesterov: True or False.
        ns_steps: a whole number, 1 or more.
        eps: the least norm that u is divided by.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name, a parameter that is no matrix.

    Example:
        >>> import gdtuo, torch
        >>> model = torch.nn.Linear(4, 4)
        >>> rest = {"params": [model.bias], "rule": gdtuo.AdamW(optimizer=gdtuo.SGD(1e-5))}
        >>> rule = gdtuo.Muon(optimizer=gdtuo.SGD(1e-5))
        >>> optimizer = gdtuo.Tower([{"params": [model.weight]}, rest], rule)
    """

    lr: float = hyperparameter(default=0.001)
    momentum: float = hyperparameter(default=0.95, domain=stable_momentum)
    weight_decay: float = hyperparameter(
        default=0.1, domain=non_negative, learned="when named", optional=True
    )
    nesterov: bool = constant(default=True)
    ns_steps: float = constant(default=5, domain=positive_whole)
    eps: float = constant(default=1e-7)

    @property
    def inputs(self) -> frozenset[str]:
        return inputs_with_decay(self)

    def init(self, w: Tensor) -> State:
        if w.dim() != 2:
            raise GdtuoError(
                f"Muon: a parameter of shape {tuple(w.shape)} is no matrix. Give what is none a "
                'group with a rule of its own: {"params": [...], "rule": gdtuo.AdamW(...)}.'
            )
        return {"momentum_buffer": torch.zeros_like(w)}

    def update(
        self, g: Tensor, state: State, h: Values, w: Tensor | None = None
    ) -> tuple[Tensor, State]:
        b = torch.lerp(g, state["momentum_buffer"], h.momentum)
        u = torch.lerp(g, b, h.momentum) if self.nesterov else b
        x = orthogonalized(u, int(self.ns_steps), self.eps)
        step = h.lr * max(1.0, g.shape[0] / max(1, g.shape[1])) ** 0.5 * x
        if w is not None:
            step = step + h.lr * h.weight_decay * w
        return step, {"momentum_buffer": b}


def orthogonalized(u: Tensor, steps: int, eps: float) -> Tensor:
    """The matrix with the singular vectors of ``u``, and singular values near 1."""
    tall = u.shape[0] > u.shape[1]
    x = u.T if tall else u
    x = x / root(x.square().sum()).clamp_min(eps)
    for _ in range(steps):
        gram = x @ x.T
        polynomial = torch.addmm(gram, gram, gram, beta=-4.7750, alpha=2.0315)
        x = torch.addmm(x, polynomial, x, beta=3.4445)
    return x.T if tall else x
