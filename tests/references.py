"""Update rules that torch hasn't got, or not in this precision, written out with numbers: what
`gdtuo`'s are held against. They follow ``param_groups[i]["lr"]``, so that schedulers work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from gdtuo import Rule


class Reference(torch.optim.Optimizer):
    """Decoupled weight decay, then what a subclass does to a parameter and its momentum."""

    def __init__(self, params: Iterable[Tensor], rule: Rule) -> None:
        decay = getattr(rule, "weight_decay", 0.0)
        super().__init__(params, {"lr": rule.lr, "weight_decay": decay})
        self.rule: Any = rule

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    m = self.state[p].setdefault("m", torch.zeros_like(p))
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    self.move(p, p.grad, m, group["lr"])

    def move(self, p: Tensor, g: Tensor, m: Tensor, lr: float) -> None:
        raise NotImplementedError


class Lion(Reference):
    def move(self, p: Tensor, g: Tensor, m: Tensor, lr: float) -> None:
        beta1, beta2 = self.rule.beta1, self.rule.beta2
        p.sub_(lr * torch.sign(beta1 * m + (1 - beta1) * g))
        m.copy_(beta2 * m + (1 - beta2) * g)


class Adaptive(Reference):
    """What has Adam's second moment."""

    def scaled(self, p: Tensor, g: Tensor) -> tuple[int, Tensor]:
        """Which update this is, and the root of the corrected second moment."""
        state, beta2 = self.state[p], self.rule.beta2
        t = state["t"] = state.get("t", 0) + 1
        v = state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
        return t, (v / (1 - beta2**t)).sqrt()


class ScheduleFreeAdam(Adaptive):
    """With z and the average x themselves."""

    def move(self, p: Tensor, g: Tensor, m: Tensor, lr: float) -> None:
        beta1, power, state = self.rule.beta1, self.rule.power, self.state[p]
        t, root = self.scaled(p, g)
        z = state.get("z", p.clone()) - lr * g / (root + self.rule.eps)
        weight = (power + 1) / (t + power)
        x = (1 - weight) * state.get("x", p.clone()) + weight * z
        state["z"], state["x"] = z, x
        p.copy_((1 - beta1) * z + beta1 * x)


class Seek(Adaptive):
    def move(self, p: Tensor, g: Tensor, m: Tensor, lr: float) -> None:
        beta1, rule = self.rule.beta1, self.rule
        t, root = self.scaled(p, g)
        m.copy_(beta1 * m + (1 - beta1) * g)
        adam = m / (1 - beta1**t) / (root + rule.eps)
        more = max(1.0, rule.boost / t**0.5)
        push = min(rule.push * more, rule.max_push) * root / (root + rule.eps) * (g != 0)
        p.sub_(lr * more * (adam - push))


class Muon(Reference):
    """torch's own takes the Newton-Schulz steps in bfloat16. Here they act on the singular values,
    which is what they come to: the singular vectors stay."""

    def move(self, p: Tensor, g: Tensor, m: Tensor, lr: float) -> None:
        mu = self.rule.momentum
        m.copy_(mu * m + (1 - mu) * g)
        u = (1 - mu) * g + mu * m if self.rule.nesterov else m
        left, s, right = torch.linalg.svd(u / max(u.norm().item(), self.rule.eps), False)
        for _ in range(int(self.rule.ns_steps)):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        p.sub_(lr * max(1, p.shape[0] / p.shape[1]) ** 0.5 * (left * s) @ right)
