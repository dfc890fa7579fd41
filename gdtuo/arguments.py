"""What a rule's arguments are checked by: each is refused, or brought to the form it is kept in."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Iterable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import (
    COORDINATES,
    as_float,
    checked,
    is_number,
    positive,
    square_root,
    unit_interval,
)

if TYPE_CHECKING:
    from gdtuo.rule import Rule


def settle(rule: Rule) -> None:
    """Check what ``rule`` was made with, and keep it in a form that can be hashed.

    Raises:
        GdtuoError: an unknown name, a value outside a domain, arguments that don't go together.
    """
    owner, above = type(rule).__name__, rule.optimizer
    _settle_coordinates(rule, owner)
    _settle_values(rule, owner)
    _settle_bounds(rule, owner)
    if above is not None and not above.elementwise:
        raise GdtuoError(
            f"{type(above).__name__} can't be an upper level: its update is not elementwise. "
            "If each entry's step depends on that entry alone, set elementwise = True in it."
        )
    _settle_learn(rule, owner)
    _settle_trace(rule, owner)


def _keep(rule: Rule, name: str, value: Any) -> None:
    object.__setattr__(rule, name, value)  # a rule is frozen, save here


def _by_name(owner: str, what: str, given: Any, example: str) -> dict[str, Any]:
    """What was given by the names of hyperparameters, or is kept so already."""
    pairs = given.items() if isinstance(given, Mapping) else () if given is None else given
    pairs = _listed(pairs)
    if not all(isinstance(x, (tuple, list)) and len(x) == 2 for x in pairs):
        raise GdtuoError(f"{owner}: {what}={given!r}. Give it by name: {what}={example}.")
    if len({str(name) for name, _ in pairs}) < len(pairs):
        raise GdtuoError(f"{owner}: {what}={given!r} gives a name twice. Give each once.")
    return {str(name): value for name, value in pairs}


def _listed(given: Any) -> tuple[Any, ...]:
    """What is in it, or itself: a tensor of one number is iterable, as one finds by trying."""
    try:
        return tuple(given)
    except TypeError:
        return (given,)


def _settle_coordinates(rule: Rule, owner: str) -> None:
    given = _by_name(owner, "coordinates", rule.coordinates, "{'lr': 'log'}")
    _expect_known(owner, "coordinates", given, rule.hyperparameters)
    for name, coordinates in given.items():
        if not isinstance(coordinates, str) or coordinates not in COORDINATES:
            raise GdtuoError(
                f"{owner}: coordinates={{{name!r}: {coordinates!r}}}. Expected one of "
                f"{', '.join(COORDINATES)}, as a text."
            )
    _keep(rule, "coordinates", tuple(sorted(given.items())) or None)


def _settle_values(rule: Rule, owner: str) -> None:
    for name, spec in rule.specs.items():
        value = getattr(rule, name)
        if name == "lr" and isinstance(value, (Mapping, tuple)):
            entries = _by_name(owner, "lr", value, "{'lr': 1e-5}, or one number").items()
            value = tuple(sorted((k, checked(owner, f"lr[{k!r}]", spec, v)) for k, v in entries))
            if not value:
                raise GdtuoError(f"{owner}: lr={{}} gives no step size. Use learn=() beneath it.")
        else:
            value = checked(owner, name, spec, value)
        _keep(rule, name, value)
    for name in rule.hyperparameters:
        coordinates = rule.coordinates_of(name)
        for value in rule.values_of(name):
            if not coordinates.domain.contains(value):
                raise GdtuoError(
                    f"{owner}: {name}={value!r} has no {coordinates.name} coordinate. Give "
                    f"{coordinates.domain.text}."
                )


def _settle_bounds(rule: Rule, owner: str) -> None:
    given = _by_name(owner, "bounds", rule.bounds, "{'lr': (1e-6, 0.1)}")
    _expect_known(owner, "bounds", given, rule.hyperparameters)
    for name, pair in given.items():
        domain = rule.coordinates_of(name).domain
        is_pair = isinstance(pair, (tuple, list)) and len(pair) == 2
        low, high = map(as_float, pair if is_pair and all(map(is_number, pair)) else (1, 0))
        if not (domain.contains(low) and domain.contains(high) and low < high):
            raise GdtuoError(
                f"{owner}: bounds={{{name!r}: {pair!r}}}. Expected (lowest, highest), the "
                f"lowest first, each {domain.text}."
            )
        if low == 0.0 and rule.coordinates_of(name) is square_root:
            raise GdtuoError(
                f"{owner}: bounds={{{name!r}: {pair!r}}}. The derivative of a square is 0 at 0, so "
                "that what comes there stays there. Give a lowest value above 0."
            )
        for value in rule.values_of(name):
            if not low <= value <= high:
                raise GdtuoError(
                    f"{owner}: {name}={value!r} starts outside its bounds, {low!r} to {high!r}."
                )
        given[name] = (low, high)
    _keep(rule, "bounds", tuple(sorted(given.items())) or None)


def _settle_learn(rule: Rule, owner: str) -> None:
    per_name = rule.optimizer.lr_by_name if rule.optimizer is not None else None
    if rule.learn is not None:
        if isinstance(rule.learn, str):
            raise GdtuoError(f"{owner}: learn={rule.learn!r} is a text. Give ({rule.learn!r},).")
        learn = _listed(rule.learn)
        if not all(isinstance(name, str) for name in learn):
            raise GdtuoError(f"{owner}: learn={rule.learn!r}. Give names, such as ('lr',).")
        if rule.optimizer is None:
            raise GdtuoError(
                f"{owner}: learn={learn!r} has no meaning on the top rule, which nothing learns. "
                "Leave it out, or give optimizer=, the rule that learns."
            )
        _expect_learnable(rule, owner, "learn", learn)
        if per_name is not None and set(per_name) != set(learn):
            raise GdtuoError(
                f"{owner}: learn={learn!r}, but the rule above gives step sizes for "
                f"{tuple(per_name)!r}. Leave learn out, or name the same hyperparameters."
            )
        _keep(rule, "learn", tuple(name for name in rule.hyperparameters if name in learn))
    if per_name is not None:
        _expect_learnable(rule, owner, "the lr of the rule above", per_name)


def _settle_trace(rule: Rule, owner: str) -> None:
    if rule.trace is None:
        return
    if not is_number(rule.trace) or not 0.0 <= rule.trace < 1.0:
        raise GdtuoError(
            f"{owner}: trace={rule.trace!r}. Give a discount from 0 to 1, 1 excluded, or None."
        )
    expect_log_lr(rule, f"{owner}: trace={rule.trace!r}")
    _keep(rule, "trace", float(rule.trace))


def expect_log_lr(rule: Rule, what: str) -> None:
    """Raise `GdtuoError` unless ``lr`` alone is learned, in log coordinates, as ``what`` asks."""
    if rule.learned != ("lr",) or rule.coordinates_of("lr").name != "log":
        raise GdtuoError(
            f"{what} is for a step size that is learned alone and in log coordinates. Give "
            "learn=('lr',), coordinates={'lr': 'log'} and optimizer=, the rule that learns it."
        )


def is_below_1(rule: Rule, name: str) -> bool:
    """Whether ``name`` has to be below 1: a bias that is corrected by 1 would be 0 / 0."""
    return unit_interval in (rule.specs[name].domain, rule.coordinates_of(name).domain)


def expect_kept(rule: Rule, name: str, value: float, dtype: torch.dtype) -> None:
    """Raise `GdtuoError` if ``dtype`` rounds what has to be below 1 to 1, or what has a logarithm
    to 0 or infinity."""
    coordinates = rule.coordinates_of(name)
    if is_below_1(rule, name):
        ends, remedy = {1.0}, "0.9999999 or less"
    elif coordinates.domain is positive:
        ends, remedy = {0.0, inf}, "a number between 1e-37 and 1e38"
    else:
        return
    kept = coordinates.decode(torch.tensor(coordinates.encode(value), dtype=dtype, device="cpu"))
    if type(kept) is Tensor and kept.item() in ends:  # a fake tensor has no value
        raise GdtuoError(
            f"{type(rule).__name__}: {name}={value!r} is {kept.item():g} in {dtype}, in which this "
            f"tower has its hyperparameters. Give {remedy}, or parameters in float64."
        )


def _expect_learnable(rule: Rule, owner: str, where: str, names: Iterable[str]) -> None:
    never = [name for name in names if name in rule.specs and name not in rule.learnable]
    if never:
        why = rule.specs[never[0]].why_never or "it is a constant of the rule"
        raise GdtuoError(
            f"{owner}: {where} names {never[0]!r}, which can't be learned: {why}. Expected "
            f"some of {', '.join(rule.learnable)}."
        )
    _expect_known(owner, where, names, rule.learnable)


def _expect_known(owner: str, where: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    unknown = [name for name in names if name not in known]
    if unknown:
        raise GdtuoError(
            f"{owner}: {where} names {', '.join(map(repr, unknown))}. "
            f"Expected some of {', '.join(known)}."
        )


def expect_declared(cls: type[Rule], base: type[Rule]) -> None:
    """Raise `GdtuoError` unless a subclass has declared its fields, by names that are free."""
    common = {field.name for field in dataclasses.fields(base)}
    for field in dataclasses.fields(cls):
        name = field.name
        if name not in common and name not in cls.specs:
            raise GdtuoError(
                f"{cls.__name__}: {name} is declared as neither a hyperparameter nor a constant. "
                f"Write {name}: float = gdtuo.constant(default=...), or ClassVar if it is always "
                "the same."
            )
        if name in cls.specs and hasattr(base, name):
            raise GdtuoError(f"{cls.__name__}: every rule has {name} already. Choose another name.")
        if name in cls.specs and name in ("inf", "nan"):  # as a text of a tower has numbers
            raise GdtuoError(f"{cls.__name__}: {name} is a number. Choose another name.")


def refusing_unknown(init: Any, cls: type[Rule]) -> Any:
    """Wrap a dataclass's ``__init__``: wrong arguments are a `GdtuoError`, not a TypeError."""
    fields = sorted(dataclasses.fields(cls), key=lambda f: f.name not in cls.specs)  # its own first
    by_name = [f.name for f in fields if f.kw_only]
    by_place = [f.name for f in fields if not f.kw_only]
    expected = f"{', '.join(by_place)} and, by name alone, {', '.join(by_name)}"

    @functools.wraps(init)
    def checking(self: Rule, *args: Any, **kwargs: Any) -> None:
        try:
            inspect.signature(init).bind(self, *args, **kwargs)
        except TypeError as error:
            pair = "betas" in kwargs and {"beta1", "beta2"} <= cls.specs.keys()
            remedy = "Give beta1= and beta2=" if pair else f"Expected {expected}"
            raise GdtuoError(f"{cls.__name__}: {error}. {remedy}.") from None
        init(self, *args, **kwargs)

    return checking
