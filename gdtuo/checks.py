"""What a tower is given, checked before anything is kept of it; each raises `GdtuoError`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gdtuo import sharded
from gdtuo.arguments import expect_log_lr
from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.groups import Granularity, check_bottom
from gdtuo.ranks import Ranks
from gdtuo.rule import Rule
from gdtuo.safeguards import Safeguards


def parameters(params: Any) -> list[Any]:
    """Parameters or groups of them, in a list."""
    if isinstance(params, (nn.Module, Rule)):
        raise GdtuoError(
            f"Tower: the first argument is a {type(params).__name__}. Give parameters: "
            "gdtuo.Tower(model.parameters(), rule)."
        )
    if not isinstance(params, Iterable):
        raise GdtuoError(f"Tower: params={params!r}. Give model.parameters(), or groups of them.")
    given: Iterable[Any] = [params] if isinstance(params, Tensor) else params
    if not (found := list(given)):
        raise GdtuoError("Tower: no parameters. Give model.parameters(), or groups of them.")
    return found


def is_group(group: Any) -> None:
    """That it is a parameter group."""
    if not isinstance(group, dict) or "params" not in group:
        raise GdtuoError(
            f"Tower: a parameter group is {group!r}. Expected a dictionary with 'params', such as "
            "{'params': model.parameters()}."
        )


def options(
    rule: Any,
    per: Any,
    granularities: Sequence[Granularity],
    maximize: Any,
    safeguards: Any,
    compile: Any,
    capturable: bool,
) -> None:
    """All of a tower's arguments but its parameters; ``granularities``: what ``per`` may be."""
    check_bottom(rule)
    if per not in granularities:
        raise GdtuoError(
            f"Tower: per={per!r}. Expected one of {', '.join(map(repr, granularities))}."
        )
    for name, switch in (("maximize", maximize), ("capturable", capturable)):
        if not isinstance(switch, bool):
            raise GdtuoError(f"Tower: {name}={switch!r} is no switch. Give True or False.")
    if not isinstance(safeguards, Safeguards):
        raise GdtuoError(f"Tower: safeguards={safeguards!r}. Give a gdtuo.Safeguards(...).")
    if not (isinstance(compile, (bool, str)) or callable(compile)):
        raise GdtuoError(f"Tower: compile={compile!r}. Give True or False, or a backend's name.")
    if isinstance(compile, str) and compile not in torch.compiler.list_backends(exclude_tags=()):
        known = ", ".join(torch.compiler.list_backends())  # those for debugging aside
        raise GdtuoError(
            f"Tower: compile={compile!r} is no backend of torch.compile. Give True, or one of "
            f"{known}."
        )
    if capturable and not compile:
        raise GdtuoError("Tower: capturable=True without compile. Give compile=True too.")


def group(params: Sequence[Tensor], rule: Rule, per: Granularity, safeguards: Safeguards) -> None:
    """The parameters of a new group, and what is asked of its rule."""
    if len(set(params)) < len(params):
        raise GdtuoError(
            "Tower: a parameter group has a parameter twice. Give each once: "
            "model.parameters() does, of tied ones too."
        )
    for p in params:
        if p.is_complex():
            raise GdtuoError(
                f"Tower: a parameter of shape {tuple(p.shape)} is complex. Give real ones: "
                "torch.nn.Parameter(torch.view_as_real(p)), and torch.view_as_complex of it in the "
                "forward pass."
            )
        if p.layout != torch.strided:
            raise GdtuoError(
                f"Tower: a parameter of shape {tuple(p.shape)} is sparse. Give a dense one: "
                "torch.nn.Parameter(p.to_dense())."
            )
        sharded.check(p)
    if safeguards.start is None and safeguards.stride is None:
        return
    asked = f"start={safeguards.start!r}, stride={safeguards.stride!r}"
    if per == "element":
        raise GdtuoError(
            f"Tower: safeguards with {asked} and per='element': an element has no length that its "
            "step could be held against. Use per='tensor'."
        )
    expect_log_lr(rule, f"Tower: safeguards with {asked}")


def spread(
    params: Sequence[Any], level: Level, per: Granularity, ranks: Ranks | None, is_compiled: bool
) -> None:
    """The parameters of a new group, where some are on other ranks."""
    if ranks is not None and per == "element":
        raise GdtuoError(
            "Tower: per='element' with parameters that are DTensors: each rank would have the "
            "hyperparameters of its own elements, and none all of them. Use per='tensor'."
        )
    gathered = next((p for p in params if sharded.is_gathered(p, level)), None)
    if is_compiled and gathered is not None:
        raise GdtuoError(
            f"Tower: compile=True and {type(level.rule).__name__} with a DTensor of placements "
            f"{gathered.placements}: its step gathers whole matrices, which is not compiled. Leave "
            "compile out, or give these matrices a tower of their own."
        )
