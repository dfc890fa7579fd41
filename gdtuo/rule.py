"""What a rule is: hyperparameters declared once, a state, one pure update of a single tensor."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias, dataclass_transform

from torch import Tensor

from gdtuo import arguments
from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import COORDINATES, Coordinates, Hyperparameter, constant, hyperparameter

State: TypeAlias = dict[str, Tensor]

# Keys that a tower keeps beside a rule's own state.
RESERVED = frozenset(
    {"step", "is_kept", "previous_gradient", "previous_parameter", "learned", "constant"}
    | {"hypergradient", "frozen", "skipped", "is_valid", "left_out", "trace"}
)


class Values:
    """The hyperparameters' values as an update reads them: ``h.lr``, ``h.momentum``, tensors."""

    def __init__(self, **values: Tensor) -> None:
        for name, value in values.items():
            setattr(self, name, value)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Tensor: ...


@dataclass_transform(frozen_default=True, field_specifiers=(hyperparameter, constant))
@dataclasses.dataclass(frozen=True, repr=False)
class Rule:
    """An update rule, described and frozen: level 0 of a tower updates parameters, level i + 1 the
    hyperparameters of level i (paper, section 2).

    A subclass declares its hyperparameters with `gdtuo.hyperparameter`, ``lr`` among them, and
    writes `update`; it becomes a frozen dataclass by itself. The arguments that every rule has:

    Args:
        optimizer: the rule that learns this one's hyperparameters; None: they are constants.
        learn: the names that it learns; the others are constants. None: all of them, save those
            declared ``"unless 0"`` that start at 0 and those declared ``"when named"``. ``()``
            freezes this level, and the levels above it no longer matter. Where the rule above
            gives a step size for each hyperparameter (``lr={...}``), that names them.

        coordinates: other coordinates than the declared ones, by name: ``{"lr": "log"}``. The
            names are raw, square_root, logistic, log, logit (`Coordinates`).
        bounds: the lowest and highest value that learning may bring a hyperparameter to, in its own
            units: ``{"lr": (1e-6, 1.0)}``. What would go beyond stays at the bound.
        trace: an estimate with a longer memory in the place of the derivative, where ``lr`` alone
            is learned, in log coordinates. The hypergradient of log lr is -(g . step of the last
            update), which is greedy: what a step size does later is not in it. With a trace the
            last steps count, discounted::

                E <- trace E + step         (E starts at 0)         v = -(g . E)

            as if all of them had been made with one step size, and had not changed the gradients
            since. At 0 it is the derivative, for every rule whose step is proportional to lr. It
            costs one tensor, and saves the gradient that is otherwise kept. None: the derivative.

    An upper level's ``lr`` may be a mapping from the names of the hyperparameters beneath it to a
    step size for each (the paper's kappa_alpha, kappa_mu). Equal rules are equal and hash alike.

    Raises:
        GdtuoError: an unknown name, or a value outside the domain of its hyperparameter.
    """

    optimizer: Rule | None = dataclasses.field(default=None, kw_only=True)
    learn: Iterable[str] | None = dataclasses.field(default=None, kw_only=True)
    coordinates: Mapping[str, str] | None = dataclasses.field(default=None, kw_only=True)
    bounds: Mapping[str, tuple[float, float]] | None = dataclasses.field(default=None, kw_only=True)
    trace: float | None = dataclasses.field(default=None, kw_only=True)

    #: Whether each entry's step depends on that entry alone. Where it does, all of a group's
    #: tensors are updated as one flat tensor, and the rule can be an upper level. If not, `update`
    #: sees each tensor in its own shape, and is tried on a small matrix first.
    elementwise: ClassVar[bool] = False
    specs: ClassVar[dict[str, Hyperparameter]] = {}
    accepts: ClassVar[frozenset[str]]  #: which of ``t`` and ``w`` `update` takes

    @property
    def inputs(self) -> frozenset[str]:
        """Which of ``t`` and ``w`` `update` is given: those that it takes. A rule that needs one at
        some values only says so here, and gives it a default of None."""
        return self.accepts

    def init(self, w: Tensor) -> State:
        """Return the state of one tensor before its first update; by default there is none.

        Tensors of the shape of ``w``, or of shape () for a number that is a function of ``t``.
        """
        return {}

    def update(self, *args: Any, **kwargs: Any) -> tuple[Tensor, State]:
        """``update(self, g, state, h)``: return the step and the new state; ``w <- w - step``.

        A pure, differentiable function of tensors, the same for parameters and hyperparameters.

        Args:
            g: the gradient.
            state: what `init` or the last update returned.
            h: the hyperparameters' values in their own units, ``h.lr`` and so on; shapes broadcast
                against ``g``.
            t: (only if the method names it) how many updates this is, from 1; shape ().
            w: (only if the method names it) the values that are updated, for weight decay; the
                tower then keeps a copy of them.
        """
        raise NotImplementedError

    @property
    def steps_again(self) -> bool:
        """Whether `step_again` can be called, where nothing but ``lr`` is learned."""
        return False

    def step_again(self, *args: Any, **kwargs: Any) -> Tensor:
        """``step_again(self, state, h)``, and ``t`` if `update` takes it: the step that `update`
        took to come to ``state``, if that is a function of it (with momentum and without weight
        decay, say). With it, and `steps_again` True, a tower keeps no gradient where only ``lr``
        is learned."""
        raise NotImplementedError

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, repr=False)(cls)
        cls.specs = {
            f.name: f.metadata["spec"] for f in dataclasses.fields(cls) if "spec" in f.metadata
        }
        asked = list(inspect.signature(cls.update).parameters)
        cls.accepts = frozenset(asked[4:])
        if _depth(cls, "update") < _depth(cls, "step_again"):  # that of another update
            cls.steps_again = False  # type: ignore[assignment, method-assign]
        arguments.expect_declared(cls, Rule)
        if "lr" not in cls.specs or cls.specs["lr"].learned is None:
            raise GdtuoError(
                f"{cls.__name__} declares no lr. Add: "
                "lr: float = gdtuo.hyperparameter(default=0.01)"
            )
        is_short = len(asked) < 4 and cls.update is not Rule.update
        if is_short or not cls.accepts <= {"t", "w"}:
            what = asked if is_short else sorted(cls.accepts - {"t", "w"})
            raise GdtuoError(
                f"{cls.__name__}.update asks for {what}. Expected the arguments self, g, state, h, "
                "and then t, w or both if the step depends on them."
            )
        cls.__init__ = arguments.refusing_unknown(cls.__init__, cls)  # type: ignore[method-assign]

    def __post_init__(self) -> None:
        if not self.specs:
            raise GdtuoError("Rule: it has no update. Give gdtuo.SGD(...) or a class of your own.")
        for name in self.specs:
            if isinstance(value := getattr(self, name), Rule):
                raise GdtuoError(
                    f"{type(self).__name__}: {name}={value!r} is a rule. Give the one that learns "
                    f"by name: optimizer={value!r}."
                )
        if self.optimizer is not None and not isinstance(self.optimizer, Rule):
            raise GdtuoError(
                f"{type(self).__name__}: optimizer={self.optimizer!r} is not a rule. Give one, "
                "such as gdtuo.SGD(1e-5)."
            )
        arguments.settle(self)

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """The names of all that are no constants of the rule, as declared."""
        return tuple(name for name, spec in self.specs.items() if spec.learned is not None)

    @property
    def learnable(self) -> tuple[str, ...]:
        """The names that a level above could learn, as declared."""
        return tuple(n for n in self.hyperparameters if self.specs[n].learned != "never")

    def uses(self, name: str) -> bool:
        """Whether a hyperparameter that 0 switches off plays a part: it is not 0, or learned."""
        return getattr(self, name) != 0 or name in self.learned

    def coordinates_of(self, name: str) -> Coordinates:
        """The coordinates in which ``name`` is learned."""
        chosen = dict(self.coordinates or ())
        return COORDINATES[chosen[name]] if name in chosen else self.specs[name].coordinates

    def values_of(self, name: str) -> tuple[float, ...]:
        """The value that ``name`` starts at; for an lr given by name, each of its values."""
        by_name = self.lr_by_name if name == "lr" else None
        return (getattr(self, name),) if by_name is None else tuple(by_name.values())

    @property
    def lr_by_name(self) -> dict[str, float] | None:
        """The step size for each hyperparameter beneath, or None where one serves all."""
        lr = getattr(self, "lr")  # noqa: B009 (declared by every subclass, not here)
        return dict(lr) if isinstance(lr, tuple) else None

    @property
    def learned(self) -> tuple[str, ...]:
        """The names that the level above learns, as declared."""
        if self.optimizer is None:
            return ()
        named = self.learn if self.learn is not None else self.optimizer.lr_by_name
        if named is not None:
            return tuple(name for name in self.hyperparameters if name in named)
        return tuple(
            name
            for name, spec in self.specs.items()
            if spec.learned == "by default"
            or (spec.learned == "unless 0" and getattr(self, name) != 0)
        )

    @property
    def levels(self) -> tuple[Rule, ...]:
        """This rule and those above it, level 0 first."""
        return (self, *(self.optimizer.levels if self.optimizer is not None else ()))

    def __str__(self) -> str:
        from gdtuo.notation import text  # notation.py imports this module

        return text(self)

    def __repr__(self) -> str:
        fields = (f for f in dataclasses.fields(self) if getattr(self, f.name) != f.default)
        given = ", ".join(f"{f.name}={_literal(self, f.name)}" for f in fields)
        return f"{type(self).__name__}({given})"


def _depth(cls: type, name: str) -> int:
    """How far up the bases of ``cls`` lies the one that has ``name``."""
    return next(i for i, base in enumerate(cls.__mro__) if name in vars(base))


def _literal(rule: Rule, name: str) -> str:
    value = getattr(rule, name)
    mapping = isinstance(value, tuple) and name != "learn"
    return repr(dict(value) if mapping else value)
