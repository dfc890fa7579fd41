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
from typing import Any

import torch
from torch import Tensor

from gdtuo.arguments import expect_kept, is_below_1
from gdtuo.errors import GdtuoError
from gdtuo.rule import RESERVED, Rule, State, Values


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
            for value in given:
                expect_kept(self.rule, name, value, dtype)
                values.append(encode(value))
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


def levels_of(rule: Rule) -> tuple[Level, ...]:
    """Lay out a tower, level 0 first."""
    levels: list[Level] = []
    for each in rule.levels:
        left_out = {n for n, spec in each.specs.items() if spec.optional and not each.uses(n)}
        constant = tuple(
            n for n in each.hyperparameters if n not in each.learned and n not in left_out
        )
        lr_for = levels[-1].entries() if levels and each.lr_by_name is not None else None
        w = _trial(each, lr_for)
        state = each.init(w)
        keys = _state_keys(each, w, state)
        levels.append(Level(each, each.learned, constant, lr_for, *keys, each.inputs))
        _try(levels[-1], w, state)
    return tuple(levels)


def _trial(rule: Rule, lr_for: tuple[str, ...] | None) -> Tensor:
    """A tensor to see what ``rule`` does, of an entry for each of its step sizes."""
    if lr_for is not None:
        return torch.zeros(len(lr_for))
    return torch.zeros(3) if rule.elementwise else torch.zeros(3, 2)


def _state_keys(rule: Rule, w: Tensor, state: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names in the state of ``rule``, all and those of scalars, where it is ``state`` for
    ``w``."""
    if not isinstance(state, dict) or not all(isinstance(x, Tensor) for x in state.values()):
        raise GdtuoError(
            f"{type(rule).__name__}.init returns {state!r}. Expected a dictionary of tensors, such "
            "as {'m': torch.zeros_like(w)}."
        )
    taken = RESERVED & set(state)
    if taken:
        raise GdtuoError(
            f"{type(rule).__name__}.init returns {', '.join(sorted(taken))}, names that a tower "
            "keeps for itself. Choose others."
        )
    if rule.elementwise and any(value.shape not in (w.shape, ()) for value in state.values()):
        raise GdtuoError(
            f"{type(rule).__name__} is elementwise, but its init returns a state of another shape "
            "than the tensor's. Make it zeros_like(w) or the like, or elementwise = False."
        )
    keys = tuple(state) if rule.trace is None else (*state, "trace")
    return keys, tuple(key for key, value in state.items() if value.dim() == 0)


@torch.no_grad()
def _try(level: Level, w: Tensor, state: State) -> None:
    """Raise `GdtuoError` unless an update of ``w`` from ``state`` returns what it should, and
    changes nothing it is given: what it was given is what the next step differentiates."""
    rule, g = level.rule, torch.ones_like(w)
    learned, constant = (
        level.initial(x, torch.float64, w.device).to(w) for x in (level.learned, level.constant)
    )
    h, further = _arguments(level, learned, constant, Inputs(g, state, 1), g)
    if "w" in level.inputs:
        further["w"] = w
    given = {"g": g, "w": w, **state}
    versions = {name: tensor._version for name, tensor in given.items()}
    made: Any = rule.update(g, dict(state), h, **further)
    changed = [name for name, tensor in given.items() if tensor._version != versions[name]]
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[1], dict):
        fault = f"returns {made!r}"
    elif not isinstance(made[0], Tensor) or made[0].shape != g.shape:
        fault = f"returns a step {made[0]!r} for a gradient of shape {list(g.shape)}"
    elif made[1].keys() != state.keys():
        fault = f"returns a state of {', '.join(made[1]) or 'nothing'}"
    elif changed:
        fault = f"writes into {', '.join(changed)}"
    else:
        return
    raise GdtuoError(
        f"{type(rule).__name__}.update {fault}. Expected a step of the shape of g, and a new state "
        f"of {', '.join(state) or 'nothing'}, as init has it; what is given has to stay as it is."
    )


def first_state(rule: Rule, w: Tensor) -> State:
    """What is kept of a tensor before its first update."""
    return rule.init(w) | ({} if rule.trace is None else {"trace": torch.zeros_like(w)})


def structure(levels: Sequence[Level]) -> str:
    """What must agree for the state of one tower to be another's: all but the initial values."""
    parts = []
    for level in levels:
        kind = type(level.rule)
        constants = [
            f"{name}={getattr(level.rule, name)!r}"
            for name, spec in kind.specs.items()
            if spec.learned is None and (level.rule.uses(name) or not spec.optional)
        ]
        by_name = [f"lr for {' and '.join(level.lr_for)}"] if level.lr_for is not None else []
        state = [f"state {' and '.join(level.state_keys)}"] if level.state_keys else []
        state += [f"trace={level.rule.trace!r}"] if level.rule.trace is not None else []
        optional = [
            f"with {name}" for name in level.constant + level.learned if kind.specs[name].optional
        ]
        learned = f"^{{{','.join(level.learned)}}}"
        inside = ", ".join(by_name + constants + optional + state)
        parts.append(f"{kind.__name__}{learned}({inside})")
    return " / ".join(parts)


def coordinates(levels: Sequence[Level]) -> str:
    """Those in which the hyperparameters are kept, where they were chosen."""
    parts = []
    for level in levels:
        chosen = [f"{name} in {each}" for name, each in dict(level.rule.coordinates or ()).items()]
        parts.append(", ".join(chosen) or "as declared")
    return " / ".join(parts)


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
    h, further = _arguments(level, learned, constant, inputs, g)
    if "w" in level.inputs:
        assert inputs.w is not None  # the tower keeps it for such a rule
        further["w"] = inputs.w.to(g.dtype)
    rule = level.rule
    step, state = rule.update(g, inputs.state, h, **further)
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
    like = previous.state[level.state_keys[0]]
    if level.rule.trace is not None:
        lr = level.values(learned.to(like), constant.to(like)).lr
        return lr / lr.detach() * previous.state["trace"], previous.state
    h, further = _arguments(level, learned, constant, previous, like)
    return level.rule.step_again(previous.state, h, **further), previous.state


def _arguments(
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
