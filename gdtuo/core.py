"""The algorithm, as pure functions of tensors: one update of a level, and its VJP.

Level 0 updates the parameters w, level i + 1 the coordinates x_i of level i's hyperparameters::

    x_i <- x_i - U_{i+1}(v_{i+1}, s_{i+1}; x_{i+1})      from the top down, and last
    w   <- w   - U_0(g, s_0; x_0)

v_{i+1} is the hypergradient dL/dx_i. The loss depends on x_i only through the step that level i
took last time, so it is pulled back through that step, kept as its inputs (paper, section 2)::

    v_0     = g, the gradient as it stands when `step()` is called
    v_{i+1} = -(d U_i(previous v_i, previous s_i; x_i) / d x_i)^T v_i

Autograd differentiates; no rule writes a derivative. Pulling back runs the previous update again,
so its new state comes with it: kept are one gradient, and a state that lags by one update. Where
only ``lr`` is learned, on which no state depends, some rules can tell their step from the state
after it (`Rule.step_again`): then nothing more is kept than without a tower.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from math import nan

import torch
from torch import Tensor

from gdtuo.arguments import expect_kept, is_below_1
from gdtuo.errors import GdtuoError
from gdtuo.rule import Rule, State, Values

#: A step size below this has come to nothing: its hypergradient fades, so that 0 / 0 is none.
NOTHING = 1e-30


@dataclasses.dataclass(frozen=True)
class Level:
    """One rule in its place in a tower: which of its hyperparameters are learned, and their layout.

    The coordinates of the learned ones are one vector, those of the constants another, each in the
    order declared. A hyperparameter has one entry; an ``lr`` given by name has one for each entry
    of the level beneath that is learned.
    """

    rule: Rule
    learned: tuple[str, ...]
    constant: tuple[str, ...]
    lr_for: tuple[str, ...] | None  #: the entries beneath, one for each of an lr given by name
    state_keys: tuple[str, ...]
    scalar_keys: tuple[str, ...]  #: those of the state that are one number, whatever the tensor
    inputs: frozenset[str]  #: which of ``t`` and ``w`` the rule's update is given
    #: of the state, what an update returns in memory that it was given as something else: the last
    #: gradient, or another entry, moved on. It is copied, for that memory is written to.
    handed_on: frozenset[str] = frozenset()
    #: of the state, what has a dtype of its own, whatever that of the tensor
    own_dtype: frozenset[str] = frozenset()

    @property
    def lags(self) -> bool:
        """Whether the state that is kept is that before the last update."""
        again = self.rule.steps_again or self.rule.trace is not None
        return bool(self.learned) and not (self.learned == ("lr",) and again)

    @property
    def previous_keys(self) -> tuple[str, ...]:
        """What is kept of the last update's inputs beside the state."""
        keys = ("previous_gradient", "previous_parameter")
        return keys[: 1 + ("w" in self.inputs)] if self.lags else ()

    def size(self, name: str) -> int:
        return len(self.lr_for) if name == "lr" and self.lr_for is not None else 1

    def entries(self) -> tuple[str, ...]:
        """The learned names, one for each entry of the learned vector: ``lr[momentum]`` for an
        entry of an lr given by name."""
        names: list[str] = []
        for name in self.learned:
            by_name = name == "lr" and self.lr_for is not None
            names += [f"lr[{beneath}]" for beneath in self.lr_for or ()] if by_name else [name]
        return tuple(names)

    def initial(self, names: Sequence[str], dtype: torch.dtype, device: torch.device) -> Tensor:
        """The coordinates at which ``names`` start, as one vector."""
        values: list[float] = []
        for name in names:
            encode = self.rule.coordinates_of(name).encode
            by_name = self.rule.lr_by_name if name == "lr" else None
            if by_name is None:
                given = [getattr(self.rule, name)]
            else:
                given = [by_name[entry.partition("[")[0]] for entry in self.lr_for or ()]
            ends = dict(self.rule.bounds or ()).get(name, ())
            for value in (*given, *(ends if is_below_1(self.rule, name) else ())):
                expect_kept(self.rule, name, value, dtype)
            values += map(encode, given)
        return torch.tensor(values, dtype=dtype, device=device)

    def bounded(self, learned: Tensor) -> Tensor:
        """The learned coordinates, those beyond their bounds brought back to them."""
        bounds = dict(self.rule.bounds or ())
        if not bounds.keys() & set(self.learned):
            return learned

        def clamped(name: str, row: Tensor) -> Tensor:
            if name not in bounds:
                return row
            return row.clamp(*map(self.rule.coordinates_of(name).encode, bounds[name]))

        return self._each_row(learned, clamped)

    def usable(self, learned: Tensor) -> Tensor:
        """The values of the learned coordinates; nan where one has to be below 1 and is 1."""

        def value(name: str, row: Tensor) -> Tensor:
            decoded = self.rule.coordinates_of(name).decode(row)
            return decoded.where(decoded < 1.0, nan) if is_below_1(self.rule, name) else decoded

        return self._each_row(learned, value)

    def _each_row(self, learned: Tensor, change: Callable[[str, Tensor], Tensor]) -> Tensor:
        rows = [change(name, row) for name, row in self.split(self.learned, learned).items()]
        return torch.stack(rows) if self.lr_for is None else torch.cat(rows)

    def split(self, names: Sequence[str], vector: Tensor) -> dict[str, Tensor]:
        """The rows of ``vector`` by name. A step size for each entry beneath keeps its dimension,
        and then all do; otherwise scalars of shape () broadcast against everything."""
        if self.lr_for is None:
            return dict(zip(names, vector.unbind(), strict=True))
        rows = torch.split(vector, [self.size(name) for name in names])
        return dict(zip(names, rows, strict=True))

    def values(self, learned: Tensor, constant: Tensor, lr_factor: float | Tensor = 1.0) -> Values:
        """Decode both vectors; ``lr_factor`` is what a schedule makes of the step size."""
        rows = {**self.split(self.learned, learned), **self.split(self.constant, constant)}
        h = {name: self.rule.coordinates_of(name).decode(row) for name, row in rows.items()}
        if isinstance(lr_factor, Tensor):
            h["lr"] = h["lr"] * lr_factor.to(h["lr"])
        elif lr_factor != 1.0:
            h["lr"] = h["lr"] * lr_factor
        return Values(**h)


def first_state(rule: Rule, w: Tensor) -> State:
    """What is kept of a tensor before its first update, in memory of its own."""
    return copied(rule.init(w)) | ({} if rule.trace is None else {"trace": torch.zeros_like(w)})


def copied(state: State) -> State:
    """The same in memory of its own."""
    return {key: value.detach().clone() for key, value in state.items()}


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What one update of one tensor is a function of, its level's hyperparameters aside."""

    g: Tensor | None  #: None: the step is told from ``state``, that after it
    state: State
    t: int | Tensor  #: which update of this tensor it is, from 1
    w: Tensor | None = None  #: the values updated, for a rule that reads them
    lr_factor: float | Tensor = 1.0


def arithmetic_dtype(dtype: torch.dtype) -> torch.dtype:
    """What a tensor of ``dtype`` is updated and its state kept in: float32 for half precision."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


def update(level: Level, learned: Tensor, constant: Tensor, inputs: Inputs) -> tuple[Tensor, State]:
    """The step that ``level`` takes, and its state after it."""
    assert inputs.g is not None
    g = inputs.g.to(arithmetic_dtype(inputs.g.dtype))
    h, further = given_to(level, learned, constant, inputs, g)
    if "w" in level.inputs:
        assert inputs.w is not None  # the tower keeps it for such a rule
        further["w"] = inputs.w.to(g.dtype)
    rule = level.rule
    step, state = rule.update(g, inputs.state, h, **further)
    if level.handed_on:
        state = {k: v.clone() if k in level.handed_on else v for k, v in state.items()}
    if rule.trace is not None:
        state = {**state, "trace": rule.trace * inputs.state["trace"] + step}
    return step, state


def remade(
    level: Level, learned: Tensor, constant: Tensor, previous: Inputs
) -> tuple[Tensor, State]:
    """The last step and the state after it, from what is kept of its inputs; with a trace, what it
    stands for: steps that are all proportional to the present step size."""
    if level.lags:
        return update(level, learned, constant, previous)
    of_its_dtype = [key for key in level.state_keys if key not in level.own_dtype]
    first, *_ = of_its_dtype or level.state_keys
    like = previous.state[first]
    if level.rule.trace is not None:
        lr = level.values(learned.to(like), constant.to(like)).lr
        one = lr / lr.detach().clamp_min(NOTHING)
        return one * previous.state["trace"], previous.state
    h, further = given_to(level, learned, constant, previous, like)
    return level.rule.step_again(previous.state, h, **further), previous.state


def given_to(
    level: Level, learned: Tensor, constant: Tensor, inputs: Inputs, like: Tensor
) -> tuple[Values, dict[str, Tensor]]:
    """The hyperparameters' values, and ``t`` where it is asked for, as tensors that go with
    ``like``."""
    further: dict[str, Tensor] = {}
    if "t" in level.inputs:
        further["t"] = (
            inputs.t.to(like)
            if isinstance(inputs.t, Tensor)
            else torch.full((), inputs.t, dtype=like.dtype, device=like.device)
        )
    return level.values(learned.to(like), constant.to(like), inputs.lr_factor), further


def pull_back(
    level: Level, learned: Tensor, constant: Tensor, previous: Inputs, cotangent: Tensor
) -> tuple[Tensor, State]:
    """The hypergradient of ``learned`` through the ``previous`` update, and the state after it.

    ``cotangent`` is the gradient of the loss with respect to what that update produced.
    """
    if torch.compiler.is_compiling():  # which can't trace the other way, twice as fast in eager
        step, pull, state = torch.func.vjp(  # type: ignore[misc]
            lambda x: remade(level, x, constant, previous), learned, has_aux=True
        )
        return -pull(cotangent.to(step.dtype))[0], state
    with torch.enable_grad():
        leaf = learned.detach().requires_grad_()
        step, state = remade(level, leaf, constant, previous)
    if not step.requires_grad:
        raise GdtuoError(
            f"{type(level.rule).__name__} has no derivative with respect to "
            f"{', '.join(level.learned)}: its update does not use it. Name in learn= what it uses."
        )
    (gradient,) = torch.autograd.grad(step, leaf, cotangent.to(step.dtype))
    return -gradient, {key: value.detach() for key, value in state.items()}  # w <- w - step
