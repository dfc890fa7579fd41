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
        super().__init__(params, {"lr": rule.lr, "weight_decay": rule.weight_decay})
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
