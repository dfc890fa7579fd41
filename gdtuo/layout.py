"""A tower laid out: the levels of a rule, each tried once, and what two towers have in common."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from gdtuo.core import Inputs, Level, copied, first_state, given_to, pull_back, update
from gdtuo.errors import GdtuoError
from gdtuo.rule import RESERVED, Rule, State


@functools.lru_cache(maxsize=128)  # of many groups, mostly the same
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
        with _on_a_trial(each, w):
            state = each.init(w)
        keys = _state_keys(each, w, state)
        level = Level(each, each.learned, constant, lr_for, *keys, each.inputs)
        with _on_a_trial(each, w):
            handed_on, own_dtype = _try(level, w, copied(state)), _own_dtype(each, w, state)
            level = dataclasses.replace(level, handed_on=handed_on, own_dtype=own_dtype)
            if level.learned:
                _pull_back(level, w)
        levels.append(level)
    return tuple(levels)


@contextmanager
def _on_a_trial(rule: Rule, w: Tensor) -> Iterator[None]:
    """An error of a rule that takes whole tensors says what it was tried on."""
    try:
        yield
    except (IndexError, RuntimeError) as error:
        if rule.elementwise:
            raise
        raise GdtuoError(
            f"{type(rule).__name__} is tried on a tensor of shape {list(w.shape)} first, and fails "
            f"there ({type(error).__name__}: {error}). A rule that is not elementwise has to take "
            "matrices, whatever else it takes: g.flatten(1) makes one of a convolution's kernel."
        ) from error


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


def _own_dtype(rule: Rule, w: Tensor, state: State) -> frozenset[str]:
    """`Level.own_dtype` of a rule whose state for ``w`` is ``state``: found by another dtype."""
    other = w.to(torch.float32 if w.dtype == torch.float64 else torch.float64)
    return frozenset(
        key
        for tried, made in ((w, state), (other, rule.init(other)))
        for key, value in made.items()
        if value.dtype != tried.dtype
    )


@torch.no_grad()
def _try(level: Level, w: Tensor, state: State) -> frozenset[str]:
    """Raise `GdtuoError` unless an update of ``w`` from ``state`` returns what it should, and
    changes nothing it is given: what it was given is what the next step differentiates. Returns
    `Level.handed_on`."""
    rule, g = level.rule, torch.ones_like(w)
    learned, constant = _initial(level, w)
    h, further = given_to(level, learned, constant, Inputs(g, state, 1), g)
    if "w" in level.inputs:
        further["w"] = w
    given = {"g": g, "w": w, **state}
    versions = {name: tensor._version for name, tensor in given.items()}
    made: Any = rule.update(g, dict(state), h, **further)
    changed = [name for name, tensor in given.items() if tensor._version != versions[name]]
    if not isinstance(made, tuple) or len(made) != 2 or not isinstance(made[1], dict):
        fault = f"returns {_named(made)}"
    elif not isinstance(made[0], Tensor) or made[0].shape != g.shape:
        fault = f"returns a step that is {_named(made[0])} for a gradient of shape {list(g.shape)}"
    elif made[1].keys() != state.keys():
        fault = f"returns a state of {', '.join(made[1]) or 'nothing'}"
    elif others := [f"{k}={x!r}" for k, x in made[1].items() if not isinstance(x, Tensor)]:
        fault = f"returns a state {', '.join(others)}"
    elif changed:
        fault = f"writes into {', '.join(changed)}"
    else:
        memory = {name: _memory(tensor) for name, tensor in given.items()}
        return frozenset(
            key
            for key, value in made[1].items()
            if _memory(value) in {at for name, at in memory.items() if name != key}
        )
    raise GdtuoError(
        f"{type(rule).__name__}.update {fault}. Expected a step of the shape of g, and a new state "
        f"of {', '.join(state) or 'nothing'}, as init has it; what is given has to stay as it is."
    )


def _named(value: object) -> str:
    """A value as an error calls it: a tensor by its shape, as its numbers say nothing."""
    return f"a tensor of shape {list(value.shape)}" if isinstance(value, Tensor) else repr(value)


def _pull_back(level: Level, w: Tensor) -> None:
    """Raise `GdtuoError` unless an update of ``w`` has a derivative with respect to what is
    learned: now, and not in a step that other groups have taken by then."""
    learned, constant = _initial(level, w)
    inputs = Inputs(torch.ones_like(w), first_state(level.rule, w), 1, w)
    if not level.lags:
        inputs = Inputs(None, update(level, learned, constant, inputs)[1], 1)
    pull_back(level, learned, constant, inputs, torch.ones_like(w))


def _initial(level: Level, w: Tensor) -> tuple[Tensor, Tensor]:
    """The coordinates that ``level`` starts from, learned and constant, as they go with ``w``."""
    dtype = torch.float64  # in which any value can be kept
    learned, constant = (level.initial(x, dtype, w.device) for x in (level.learned, level.constant))
    return learned.to(w), constant.to(w)


def _memory(tensor: Tensor) -> int:
    """Which memory its elements are in; fake tensors have some too."""
    return int(tensor.untyped_storage()._cdata)


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


def encoded(text: str) -> Tensor:
    """Numbers and tensors alone can be saved everywhere, so a text is a tensor of bytes."""
    return torch.tensor(list(text.encode()), dtype=torch.uint8)


def decoded(text: Any) -> str | None:
    """The text; None of what is none."""
    is_text = isinstance(text, Tensor) and text.dtype == torch.uint8
    return bytes(text.reshape(-1).tolist()).decode(errors="replace") if is_text else None
