"""What the tests of refusals have in common: what a tower is made of, and what an error must be."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import gdtuo
from tests.problem import make_model

ADAM = gdtuo.Adam(optimizer=gdtuo.SGD(1e-5))
GUARD: dict[str, Any] = {"safeguards": gdtuo.Safeguards(guard=3)}


def parameters() -> list[nn.Parameter]:
    return list(make_model().parameters())


def single() -> list[nn.Parameter]:
    return list(make_model(torch.float32).parameters())


def stepped(tower: gdtuo.Tower, gradients: bool = True) -> None:
    for p in tower.param_groups[0]["params"]:
        p.grad = torch.ones_like(p) if gradients else None
    tower.step()


def check_refusal(attempt: Callable[[], Any], message: str) -> None:
    """It ends in this one error, which is a sentence, and has no other one behind it."""
    with pytest.raises(gdtuo.GdtuoError, match=message) as caught:
        attempt()
    assert str(caught.value).rstrip().endswith((".", ")"))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
