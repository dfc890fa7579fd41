"""One hyperparameter: its default, its domain, and the coordinates in which it is learned."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

from torch import Tensor

from gdtuo.errors import GdtuoError


@dataclasses.dataclass(frozen=True)
class Domain:
    """The numbers that a hyperparameter may start at. What is learned later is not held to it."""

    text: str
    contains: Callable[[float], bool]


finite = Domain("a finite number", math.isfinite)
positive = Domain("a finite number above 0", lambda v: math.isfinite(v) and v > 0.0)
non_negative = Domain("a finite number, 0 or more", lambda v: math.isfinite(v) and v >= 0.0)
positive_whole = Domain("a whole number, 1 or more", lambda v: v >= 1.0 and v.is_integer())
unit_interval = Domain(  # in a float's precision, in which the coordinate of 1e-17 is that of 0
    "a number between 0 and 1, both excluded", lambda v: v < 1.0 and 2.0 * v - 1.0 > -1.0
)
stable_momentum = Domain("a number between -1 and 1, both excluded", lambda v: -1.0 < v < 1.0)


@dataclasses.dataclass(frozen=True)
class Coordinates:
    """A change of variables, ``value = decode(x)``: the level above steps x, updates read value.

    The step size of the level above acts on x. With ``log``, a step of 0.1 changes the value by a
    tenth of itself, whatever it is, and it can't turn negative; with ``raw``, by 0.1.

    Args:
        name: what errors call it. By it a rule's ``coordinates={...}`` takes raw, square_root,
            logistic, log and logit; your own go into a hyperparameter's declaration.
        encode: a float in the hyperparameter's own units to its coordinate, increasing.
        decode: the differentiable inverse, on tensors.
        domain: the values that have a coordinate.
    """

    name: str
    encode: Callable[[float], float]
    decode: Callable[[Tensor], Tensor]
    domain: Domain = finite


# The paper's choices (section 3.1 and appendix), and two of the field's.
raw = Coordinates("raw", lambda value: value, lambda x: x)
square_root = Coordinates("square_root", math.sqrt, lambda x: x * x, non_negative)
logistic = Coordinates(
    "logistic", lambda v: math.atanh(2.0 * v - 1.0), lambda x: (x.tanh() + 1.0) / 2.0, unit_interval
)
log = Coordinates("log", math.log, lambda x: x.exp(), positive)
logit = Coordinates(
    "logit", lambda v: math.log(v / (1.0 - v)), lambda x: x.sigmoid(), unit_interval
)
COORDINATES = {each.name: each for each in (raw, square_root, logistic, log, logit)}

switch = Domain("True or False", lambda v: v in (0.0, 1.0))

#: Of an upper level: one, or one for each hyperparameter beneath, by its name.
StepSize: TypeAlias = float | Mapping[str, float]

Learned = Literal["by default", "unless 0", "when named", "never"]


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """What a rule declares of one hyperparameter; see `hyperparameter` and `constant`."""

    domain: Domain
    coordinates: Coordinates
    learned: Learned | None  # None: a constant of the rule, which is no hyperparameter
    optional: bool = False
    why_never: str = ""


def hyperparameter(
    default: float,
    *,
    domain: Domain = finite,
    coordinates: Coordinates = raw,
    learned: Learned = "by default",
    optional: bool = False,
    why_never: str = "",
) -> Any:
    """Declare a hyperparameter in the body of a `Rule`.

    Args:
        default: its value where none is given.
        domain: the values it may start at.
        coordinates: what the level above steps; ``raw``, ``square_root``, ``logistic``, ``log``,
            ``logit``, or yours.
        learned: whether a level above learns it when ``learn=`` says nothing: ``"by default"``,
            ``"unless 0"`` (0 switches it off, like ``momentum``) or ``"when named"``; ``"never"``
            for one that has no useful derivative, which is refused even when named.
        optional: 0 leaves it out altogether, unless it is learned; then ``h`` hasn't got it, and
            see `Rule.uses`. It can be given by name alone.
        why_never: what the refusal of a ``"never"`` says.

    Example:
        >>> import gdtuo
        >>> class Plain(gdtuo.Rule):
        ...     lr: float = gdtuo.hyperparameter(default=0.1)
        ...     def update(self, g, state, h):
        ...         return h.lr * g, state
        >>> print(Plain(0.5, optimizer=gdtuo.SGD(1e-3)))
        Plain(0.5) / SGD(0.001)
    """
    spec = Hyperparameter(domain, coordinates, learned, optional, why_never)
    return dataclasses.field(default=default, kw_only=optional, metadata={"spec": spec})


def constant(default: float, *, domain: Domain = non_negative, optional: bool = False) -> Any:
    """Declare a keyword-only number of a `Rule` that no level learns, such as ``eps``, or a switch,
    by a default of True or False. ``optional``: 0 or False leaves it out altogether."""
    domain = switch if isinstance(default, bool) else domain
    spec = Hyperparameter(domain, raw, None, optional)
    return dataclasses.field(default=default, kw_only=True, metadata={"spec": spec})


def is_number(value: object) -> bool:
    """Whether it is a real number, numpy's among them, and no flag."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def as_float(value: Any) -> float:
    """A number as a float, infinite where none is as large."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def checked(owner: str, name: str, spec: Hyperparameter, value: object) -> float:
    """Return ``value`` as a float, or raise `GdtuoError` if it is not in the domain of ``name``."""
    if spec.domain is switch:
        if not isinstance(value, bool):
            raise GdtuoError(f"{owner}: {name}={value!r} is no switch. Give True or False.")
        return value
    if not is_number(value):
        raise GdtuoError(f"{owner}: {name}={value!r} is not a number. Give {spec.domain.text}.")
    number = as_float(value)
    if not spec.domain.contains(number):
        raise GdtuoError(
            f"{owner}: {name}={number!r} is outside its domain. Give {spec.domain.text}."
        )
    return number
