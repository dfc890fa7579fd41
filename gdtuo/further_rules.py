"""Rules that the paper does not have, with torch's numerics."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import (
    constant,
    hyperparameter,
    logistic,
    non_negative,
    stable_momentum,
    unit_interval,
)
from gdtuo.rule import Rule, State, Values
from gdtuo.rules import root


class AdamW(Rule):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019).

    Equations, at a tensor's update number t = 1, 2, ...::

        m <- beta1 m + (1 - beta1) g            (m and v start at 0)
        v <- beta2 v + (1 - beta2) g^2
        w <- w - lr (weight_decay w + m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps))

    Every hyperparameter has a useful derivative. That of ``weight_decay`` on the training loss only
    shrinks it: learn it on held-out gradients (``cotangents`` of `Tower.step`).

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; the coordinate x of each has beta = (tanh(x) + 1) / 2.
        weight_decay: raw coordinates, 0 or more; learned when named.
        eps: outside the root.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.AdamW(weight_decay=0.1, optimizer=gdtuo.SGD(1e-5)))
        AdamW(weight_decay=0.1) / SGD(1e-05)
    """

    lr: float = hyperparameter(0.001)
    beta1: float = hyperparameter(0.9, domain=unit_interval, coordinates=logistic)
    beta2: float = hyperparameter(0.999, domain=unit_interval, coordinates=logistic)
    weight_decay: float = hyperparameter(
        0.01, domain=non_negative, learned="when named", kw_only=True
    )
    eps: float = constant(1e-8)

    elementwise: ClassVar[bool] = True

    @property
    def reads_w(self) -> bool:
        return self.weight_decay != 0 or "weight_decay" in self.learned

    def init(self, w: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(w), "exp_avg_sq": torch.zeros_like(w)}

    def update(
        self, g: Tensor, state: State, h: Values, t: Tensor, w: Tensor | None = None
    ) -> tuple[Tensor, State]:
        m = torch.lerp(g, state["exp_avg"], h.beta1)
        v = torch.lerp(g * g, state["exp_avg_sq"], h.beta2)
        denominator = root(v) / (1.0 - h.beta2**t).sqrt() + self.eps
        step = h.lr / (1.0 - h.beta1**t) * (m / denominator)
        if w is not None:
            step = step + h.lr * h.weight_decay * w
        return step, {"exp_avg": m, "exp_avg_sq": v}


class NAdam(Rule):
    """Adam with Nesterov momentum (Dozat 2016), as torch has it.

    Equations, at a tensor's update number t = 1, 2, ..., with psi = ``momentum_decay``::

        mu(t) = beta1 (1 - 0.96^(t psi) / 2)    P <- P mu(t)      (P starts at 1)
        m <- beta1 m + (1 - beta1) g            v <- beta2 v + (1 - beta2) g^2      (both from 0)
        d = (1 - mu(t)) / (1 - P) g + mu(t + 1) / (1 - P mu(t + 1)) m
        w <- w - lr d / (sqrt(v / (1 - beta2^t)) + eps)

    Every hyperparameter has a useful derivative.

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; the coordinate x of each has beta = (tanh(x) + 1) / 2.
        momentum_decay: psi, 0 or more.
        eps: outside the root.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.NAdam(0.002, optimizer=gdtuo.SGD(1e-5)))
        NAdam / SGD(1e-05)
    """

    lr: float = hyperparameter(0.002)
    beta1: float = hyperparameter(0.9, domain=unit_interval, coordinates=logistic)
    beta2: float = hyperparameter(0.999, domain=unit_interval, coordinates=logistic)
    momentum_decay: float = constant(0.004)
    eps: float = constant(1e-8)

    elementwise: ClassVar[bool] = True

    def init(self, w: Tensor) -> State:
        zeros = torch.zeros_like
        return {"mu_product": w.new_ones(()), "exp_avg": zeros(w), "exp_avg_sq": zeros(w)}

    def update(self, g: Tensor, state: State, h: Values, t: Tensor) -> tuple[Tensor, State]:
        mu, mu_next = (h.beta1 * (1 - 0.5 * 0.96 ** (n * self.momentum_decay)) for n in (t, t + 1))
        product = state["mu_product"] * mu
        m = torch.lerp(g, state["exp_avg"], h.beta1)
        v = torch.lerp(g * g, state["exp_avg_sq"], h.beta2)
        d = (1 - mu) / (1 - product) * g + mu_next / (1 - product * mu_next) * m
        step = h.lr * (d / (root(v) / (1.0 - h.beta2**t).sqrt() + self.eps))
        return step, {"mu_product": product, "exp_avg": m, "exp_avg_sq": v}


NO_SIGN = "the step is a sign, which does not change with it"


class Lion(Rule):
    """Lion: the sign of an interpolated momentum (Chen et al. 2023, algorithm 2).

    Equations::

        w <- w - lr (sign(beta1 m + (1 - beta1) g) + weight_decay w)
        m <- beta2 m + (1 - beta2) g            (m starts at 0)

    ``lr`` and ``weight_decay`` have useful derivatives. The betas have none, for a sign has none,
    and are refused.

    Args:
        lr: step size, raw coordinates, any finite number.
        beta1, beta2: between 0 and 1; never learned.
        weight_decay: decoupled, raw coordinates, 0 or more; learned when named, on held-out
            gradients if it is to grow.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name, a beta in ``learn``.

    Example:
        >>> import gdtuo
        >>> print(gdtuo.Lion(optimizer=gdtuo.SGD(1e-8)))
        Lion / SGD(1e-08)
    """

    lr: float = hyperparameter(1e-4)
    beta1: float = hyperparameter(
        0.9, domain=unit_interval, coordinates=logistic, learned="never", why_never=NO_SIGN
    )
    beta2: float = hyperparameter(
        0.99, domain=unit_interval, coordinates=logistic, learned="never", why_never=NO_SIGN
    )
    weight_decay: float = hyperparameter(
        0.0, domain=non_negative, learned="when named", kw_only=True
    )

    elementwise: ClassVar[bool] = True

    @property
    def reads_w(self) -> bool:
        return self.weight_decay != 0 or "weight_decay" in self.learned

    def init(self, w: Tensor) -> State:
        return {"exp_avg": torch.zeros_like(w)}

    def update(
        self, g: Tensor, state: State, h: Values, w: Tensor | None = None
    ) -> tuple[Tensor, State]:
        m = state["exp_avg"]
        direction = torch.lerp(g, m, h.beta1).sign()
        if w is not None:
            direction = direction + h.weight_decay * w
        return h.lr * direction, {"exp_avg": torch.lerp(g, m, h.beta2)}


class Muon(Rule):
    """Momentum orthogonalized by Newton-Schulz, for matrices (Jordan et al. 2024), as in torch.

    Equations, for a matrix w of r rows and c columns::

        b <- mu b + (1 - mu) g                  (b starts at 0; mu = momentum)
        u = (1 - mu) g + mu b                   (nesterov; otherwise b)
        o = NewtonSchulz(u / max(||u||, eps)), steps of x <- a x + (b' x x^T + c' (x x^T)^2) x
        w <- w - lr weight_decay w - lr sqrt(max(1, r / c)) o

    All three hyperparameters have useful derivatives. The arithmetic is that of the parameters
    (float32 for half precision), not bfloat16. Give it the matrices of the hidden layers, and the
    rest AdamW, as a group with its own rule.

    Args:
        lr: step size, raw coordinates, any finite number.
        momentum: raw coordinates, between -1 and 1.
        weight_decay: decoupled, raw coordinates, 0 or more; learned when named.
        nesterov, ns_steps, eps: as in torch.
        optimizer, learn: see `Rule`.

    Raises:
        GdtuoError: a value outside its domain, an unknown name, a parameter that is no matrix.

    Example:
        >>> import gdtuo, torch
        >>> model = torch.nn.Linear(4, 4)
        >>> rest = {"params": [model.bias], "rule": gdtuo.AdamW(optimizer=gdtuo.SGD(1e-5))}
        >>> matrices = {"params": [model.weight]}
        >>> optimizer = gdtuo.Tower([matrices, rest], gdtuo.Muon(optimizer=gdtuo.SGD(1e-5)))
    """

    lr: float = hyperparameter(1e-3)
    momentum: float = hyperparameter(0.95, domain=stable_momentum)
    weight_decay: float = hyperparameter(
        0.1, domain=non_negative, learned="when named", kw_only=True
    )
    nesterov: bool = constant(True)
    ns_steps: float = constant(5)
    eps: float = constant(1e-7)

    @property
    def reads_w(self) -> bool:
        return self.weight_decay != 0 or "weight_decay" in self.learned

    def init(self, w: Tensor) -> State:
        if w.dim() != 2:
            raise GdtuoError(
                f"Muon: a parameter of shape {tuple(w.shape)} is no matrix. Give it a group with a "
                'rule of its own: {"params": [...], "rule": gdtuo.AdamW(...)}.'
            )
        return {"momentum_buffer": torch.zeros_like(w)}

    def update(
        self, g: Tensor, state: State, h: Values, w: Tensor | None = None
    ) -> tuple[Tensor, State]:
        b = torch.lerp(g, state["momentum_buffer"], h.momentum)
        u = torch.lerp(g, b, h.momentum) if self.nesterov else b
        scale = max(1.0, g.shape[0] / g.shape[1]) ** 0.5
        step = h.lr * scale * orthogonalized(u, int(self.ns_steps), self.eps)
        if w is not None:
            step = step + h.lr * h.weight_decay * w
        return step, {"momentum_buffer": b}


def orthogonalized(u: Tensor, steps: int, eps: float) -> Tensor:
    """The matrix with the singular vectors of ``u`` and singular values near 1."""
    x = u.T if u.shape[0] > u.shape[1] else u
    x = x / x.square().sum().clamp_min(eps**2).sqrt()
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.T if u.shape[0] > u.shape[1] else x
