"""In what the members of an ensemble must agree: models and towers alike in all but values."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.groups import check_bottom
from gdtuo.layout import structure
from gdtuo.notation import parse
from gdtuo.rule import Rule
from gdtuo.sharded import is_spread


def listed(models: Any) -> list[nn.Module]:
    """The models in a list; layers of one are none."""
    several = isinstance(models, Iterable) and not isinstance(models, nn.Sequential)
    given = list(models) if several else []
    if not given or not all(isinstance(m, nn.Module) for m in given):
        raise GdtuoError(
            f"Ensemble: models is a {type(models).__name__} that has none for each member. Give a "
            "list of modules: [make_model() for _ in range(8)]."
        )
    return given


def check_models(models: Sequence[nn.Module]) -> None:
    """Raise `GdtuoError` unless these are modules alike in all but values."""
    if not any(True for _ in models[0].parameters()):
        raise GdtuoError(f"Ensemble: a {type(models[0]).__name__} has no parameters to train.")
    if any(map(is_lazy, itertools.chain(*(model.parameters() for model in models)))):
        raise GdtuoError(
            "Ensemble: a model has lazy layers whose parameters have no shape yet. Call each model "
            "once on a batch first."
        )
    if any(is_spread(p) for model in models for p in model.parameters()):
        raise GdtuoError(
            "Ensemble: the models' parameters are DTensors. Give models that are not spread over "
            "ranks, and each rank its own ensemble."
        )
    first = _architecture(models[0])
    for i, model in enumerate(models):
        theirs = _architecture(model)
        differs = [(a, b) for a, b in itertools.zip_longest(first, theirs, fillvalue="") if a != b]
        if differs:
            raise GdtuoError(
                f"Ensemble: models differ in more than values.\n  model 0: {differs[0][0]}\n"
                f"  model {i}: {differs[0][1]}\nGive models of one architecture, dtype and device."
            )


def _architecture(model: nn.Module) -> list[str]:
    """A line for each thing in which models that are stacked must agree."""
    tensors = itertools.chain(model.named_parameters(), model.named_buffers())
    lines = [
        f"{name} {list(x.shape)} {x.dtype} {x.device}" + " frozen" * (not x.requires_grad)
        for name, x in tensors
    ]
    modes = [f"{name or 'it'} in training: {m.training}" for name, m in model.named_modules()]
    return [*repr(model).splitlines(), *lines, *modes]


def one_for_each(rules: Any, count: int) -> list[Rule]:
    """The towers' rules, member 0's first."""
    given = list(rules) if isinstance(rules, (list, tuple)) else [rules] * count
    if len(given) != count:
        raise GdtuoError(
            f"Ensemble: {len(given)} rules for {count} models. Give one for each, or one for all."
        )
    parsed = [parse(rule) if isinstance(rule, str) else rule for rule in given]
    for rule in parsed:
        check_bottom(rule, "Ensemble")
        if not rule.elementwise:
            raise GdtuoError(
                f"Ensemble: {type(rule).__name__} is not elementwise, so that it can't update "
                "the stacked parameters of all members at once. Train each with a gdtuo.Tower."
            )
    return parsed


def check_structures(towers: Sequence[tuple[Level, ...]]) -> None:
    """Raise `GdtuoError` unless the towers differ in initial values alone."""
    texts = [structure_of(levels) for levels in towers]
    for i, text in enumerate(texts):
        if text != texts[0]:
            raise GdtuoError(
                "Ensemble: rules differ in more than the values of hyperparameters.\n  member 0: "
                f"{texts[0]}\n  member {i}: {text}\nGive all the same structure; a gdtuo.Ensemble "
                "for each that there is will do."
            )


def structure_of(levels: Sequence[Level]) -> str:
    """All of a tower but its initial values: what the members of an ensemble have in common."""
    further = [
        f"{what} of {type(level.rule).__name__} {dict(getattr(level.rule, what))}"
        for level in levels
        for what in ("coordinates", "bounds")
        if getattr(level.rule, what)
    ]
    return "; ".join([structure(levels), *further])
