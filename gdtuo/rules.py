"""The paper's rules, from the simplest to the hardest: its numerics under torch's names."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import (
    StepSize,
    constant,
    finite,
    hyperparameter,
    logistic,
    non_negative,
    square_root,
    stable_momentum,
    unit_interval,
)
from gdtuo.rule import Rule, State, Values


def root(x: Tensor) -> Tensor:
    """The square root whose derivative at 0 is 0: the second moment of an unused weight gets there,
    and an infinite derivative times a gradient of 0 would be NaN in every hypergradient."""
    return x.clamp_min(torch.finfo(x.dtype).tiny).sqrt()


def inputs_with_decay(rule: Rule) -> frozenset[str]:
    """What ``rule`` takes, without ``w``, of which a copy is kept, where nothing decays."""
    return rule.accepts if rule.uses("weight_decay") else rule.accepts - {"w"}


class SGD(Rule):
    """Stochastic gradient descent, with heavy-ball momentum (paper, section 2 and 3.3.1).

    Equations, with alpha = ``lr`` and mu = ``momentum``::

        g <- g + weight_decay w
        b <- mu b + (1 - dampening) g    (b starts as g; without momentum b = g, and none is kept)
        w <- w - alpha b                 (with nesterov: w - alpha (g + mu b))

    All three hyperparameters have a useful derivative; that of ``weight_decay`` along held-out
    gradients (``cotangents`` of `Tower.step`), for it is only in the way of those that train.

    Args:
        lr: step size, raw coordinates, any finite number; negative too. As an upper level also a
            mapping from the hyperparameters beneath to a step size for each.
        momentum: raw coordinates, between -1 and 1. One that starts at 0 is off: it is learned, and
            its buffer kept, only when ``learn`` or the ``lr={...}`` above names it.
        weight_decay: of the L2 penalty weight_decay / 2 ||w||^2, raw coordinates, 0 or more to
            start with; learned when named. Where there is none, no copy of w is kept.
        dampening: of the momentum, any finite number; it spares a tensor's first update.
        nesterov: True or False; it needs a momentum, and no dampening.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name, nesterov where it can't be.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.SGD(0.1, 0.9, optimizer=gdtuo.SGD(lr={"lr": 1e-5, "momentum": 1e-6})))
        SGD(0.1, momentum=0.9) / SGD({lr: 1e-05, momentum: 1e-06})
    """

    lr: StepSize = hyperparameter(default=0.01)
    momentum: float = hyperparameter(default=0.0, domain=stable_momentum, learned="unless 0")
    weight_decay: float = hyperparameter(
        default=0.0, domain=non_negative, learned="when named", optional=True
    )
    dampening: float = constant(default=0.0, domain=finite, optional=True)
    nesterov: bool = constant(default=False, optional=True)

    elementwise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and (self.dampening != 0 or not self.uses("momentum")):
            raise GdtuoError(
                f"SGD: nesterov=True with momentum={self.momentum!r} and "
                f"dampening={self.dampening!r}. Give a momentum, and no dampening."
            )

    @property
    def inputs(self) -> frozenset[str]:
        return inputs_with_decay(self) - ({"t"} if self.dampening == 0 else set())

    def init(self, w: Tensor) -> State:
        if not self.uses("momentum"):
            return {}
        return {"momentum_buffer": torch.zeros_like(w)}

    def update(
        self,
        g: Tensor,
        state: State,
        h: Values,
        t: Tensor | None = None,
        w: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        if w is not None:
            g = g + h.weight_decay * w
        if "momentum_buffer" not in state:
            return h.lr * g, {}
        # torch's buffer starts as the first gradient, of which nothing is dampened away.
        kept = g if t is None else (1.0 - self.dampening * (t > 1).to(t.dtype)) * g
        b = h.momentum * state["momentum_buffer"] + kept
        return h.lr * (g + h.momentum * b if self.nesterov else b), {"momentum_buffer": b}

    @property
    def steps_again(self) -> bool:
        return self.uses("momentum") and not self.nesterov

    def step_again(self, state: State, h: Values, t: Tensor | None = None) -> Tensor:
        return h.lr * state["momentum_buffer"]


class AdaGrad(Rule):
    """AdaGrad (Duchi et al. 2011; paper, section 3.2 and Table 1c).

    Equations, with alpha = ``lr``::

        s <- s + g^2           (s starts at initial_accumulator_value)
        w <- w - alpha g / sqrt(s + eps)

    The root depends on no hyperparameter, so the hypergradient is that of ``alpha`` alone.

    Args:
        lr: step size, raw coordinates, any finite number (torch's default too).
        initial_accumulator_value: where s starts; the paper's 0.1 (torch: 0).
        eps: inside the root (torch adds it outside).
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.AdaGrad(optimizer=gdtuo.AdaGrad()))
        AdaGrad / AdaGrad
    """

    lr: StepSize = hyperparameter(default=0.01)
    initial_accumulator_value: float = constant(default=0.1)
    eps: float = constant(default=1e-10)

    elementwise: ClassVar[bool] = True

    def init(self, w: Tensor) -> State:
        return {"sum": torch.full_like(w, self.initial_accumulator_value)}

    def update(self, g: Tensor, state: State, h: Values) -> tuple[Tensor, State]:
        s = state["sum"] + g * g
        return h.lr * (g / root(s + self.eps)), {"sum": s}


class RMSProp(Rule):
    """RMSProp (Tieleman and Hinton 2012; paper, section 3.2 and Table 1d).

    Equations, with alpha = ``lr``::

        s <- gamma s + (1 - gamma) g^2          (s starts at 0)
        w <- w - alpha g / sqrt(s + eps)

    Args:
        lr: step size, 0 or more; its coordinate is its square root, so that it can't turn negative,
            and does not come away from 0.
        gamma: torch's ``alpha``, between 0 and 1; its coordinate x has gamma = (tanh(x) + 1) / 2.
        eps: inside the root (torch adds it outside).
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.RMSProp(learn=["lr"], optimizer=gdtuo.SGD(1e-4)))
        RMSProp^lr / SGD(0.0001)
    """

    lr: StepSize = hyperparameter(default=0.01, domain=non_negative, coordinates=square_root)
    gamma: float = hyperparameter(default=0.99, domain=unit_interval, coordinates=logistic)
    eps: float = constant(default=1e-8)

    elementwise: ClassVar[bool] = True

    def init(self, w: Tensor) -> State:
        return {"square_avg": torch.zeros_like(w)}

    def update(self, g: Tensor, state: State, h: Values) -> tuple[Tensor, State]:
        s = torch.lerp(g * g, state["square_avg"], h.gamma)  # gamma s + (1 - gamma) g^2
        return h.lr * (g / root(s + self.eps)), {"square_avg": s}


class Adam(Rule):
    """Adam (Kingma and Ba 2015; paper, section 2.3 and Table 1b).

    Equations, with alpha = ``lr``, at a tensor's update number t = 1, 2, ...::

        m <- beta1 m + (1 - beta1) g            (m starts at 0)
        v <- beta2 v + (1 - beta2) g^2          (v starts at initial_second_moment)
        w <- w - alpha m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)

    All three hyperparameters have a useful derivative.

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; the coordinate x of each has beta = (tanh(x) + 1) / 2.
        eps: outside the root.
        initial_second_moment: the paper's 1e-8, which keeps the root away from 0 (torch: 0).
        optimizer, learn: see `Rule`. ``learn=["lr"]`` is the paper's Adam^alpha.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.Adam(1e-3, optimizer=gdtuo.SGD(1e-5)))
        Adam / SGD(1e-05)
    """

    lr: StepSize = hyperparameter(default=0.001)
    beta1: float = hyperparameter(default=0.9, domain=unit_interval, coordinates=logistic)
    beta2: float = hyperparameter(default=0.999, domain=unit_interval, coordinates=logistic)
    eps: float = constant(default=1e-8)
    initial_second_moment: float = constant(default=1e-8)

    elementwise: ClassVar[bool] = True

    def init(self, w: Tensor) -> State:
        v = torch.full_like(w, self.initial_second_moment)
        return {"exp_avg": torch.zeros_like(w), "exp_avg_sq": v}

    def update(self, g: Tensor, state: State, h: Values, t: Tensor) -> tuple[Tensor, State]:
        state = moments(g, state, h)
        return self.step_again(state, h, t), state

    @property
    def steps_again(self) -> bool:
        return True

    def step_again(self, state: State, h: Values, t: Tensor) -> Tensor:
        return adam_step(state, h, t, self.eps)


def moments(g: Tensor, state: State, h: Values) -> State:
    """Adam's m and v after the gradient ``g``."""
    m = torch.lerp(g, state["exp_avg"], h.beta1)  # beta1 m + (1 - beta1) g
    return {"exp_avg": m, "exp_avg_sq": torch.lerp(g * g, state["exp_avg_sq"], h.beta2)}


def adam_step(state: State, h: Values, t: Tensor, eps: float) -> Tensor:
    """Adam's step, from the moments after it."""
    # The bias correction of m is taken on the scalar: one pass over the tensor less.
    return h.lr / (1.0 - h.beta1**t) * (state["exp_avg"] / corrected_root(state, h, t, eps))


def corrected_root(state: State, h: Values, t: Tensor, eps: float) -> Tensor:
    """What Adam's steps are divided by."""
    return root(state["exp_avg_sq"]) / (1.0 - h.beta2**t).sqrt() + eps
