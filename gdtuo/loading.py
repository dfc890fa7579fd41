"""What a tower does around torch's loading of a state: refuse another tower's, round nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gdtuo import groups
from gdtuo.cell import GUARDED, Store, halved
from gdtuo.core import Inputs, Level, update
from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import is_number
from gdtuo.layout import decoded
from gdtuo.learner import BEGUN, COUNTS, FORMAT, MOVED, Learner
from gdtuo.safeguards import NO_SAFEGUARDS
from gdtuo.sharded import parts, shown

#: What is kept under each of the names `GUARDED`.
FLAGS = dict(zip(GUARDED, (torch.tensor(0), torch.tensor(True)), strict=True))


def load(
    optimizer: Any,
    levels_of: Sequence[tuple[Level, ...]],
    by_torch: Callable[[dict[str, Any]], None],
    state_dict: dict[str, Any],
    follow: Callable[[], None],
) -> None:
    """Load ``state_dict`` into ``optimizer`` ``by_torch``, and then ``follow`` the parameters'
    devices and dtypes; ``levels_of`` each of its groups.

    The user's hooks that come before have their say first, those that come after the last word.
    """
    if not isinstance(state_dict, Mapping):
        raise GdtuoError(
            f"The state is a {type(state_dict).__name__}. Give what `state_dict()` returned."
        )
    checked: dict[str, Any] = {}

    def check(_: Any, given: dict[str, Any]) -> dict[str, Any]:
        if not {"state", "param_groups"} <= given.keys():
            raise GdtuoError(
                f"The state is a dictionary of {', '.join(map(repr, given)) or 'nothing'}. Give "
                "what `state_dict()` returned."
            )
        _check_nesting(given)
        groups.check_alike(optimizer.param_groups, given["param_groups"])
        try:
            given = _upgraded(given, levels_of)
        except KeyError as error:
            raise GdtuoError(
                f"The state has no {error.args[0]}. Give all of what `state_dict()` returned."
            ) from None
        ours, saved = optimizer.param_groups, given["param_groups"]
        if not given["state"] and any(theirs.get("steps") for theirs in saved):
            raise GdtuoError(
                "The state is of a tower that has taken steps, and has nothing of any parameter. "
                "Give all of what `state_dict()` returned."
            )
        for levels, group, theirs in zip(levels_of, ours, saved, strict=True):
            learner = Learner(levels, group, NO_SAFEGUARDS)
            check_state(learner, theirs)
            _check_layout(learner, theirs)
            for p, i in zip(group["params"], theirs["params"], strict=True):
                if i in given["state"]:
                    kept = optimizer.state.get(p, {})
                    if not kept:  # frozen since the tower was made
                        groups.initialize(p, kept, levels[0], 0)
                    _check_kept(p, shown(p, kept, levels[0]), given["state"][i], levels[0])
        checked.update(given)
        return given

    def restore(_: Any) -> None:
        # torch has cast the state to the parameters' dtype; half precision loses digits by it. And
        # what is written in place later must not be another tower's, whose state was given.
        saved_ids = [i for group in checked["param_groups"] for i in group["params"]]
        parameters = [
            (p, levels[0])
            for group, levels in zip(optimizer.param_groups, levels_of, strict=True)
            for p in group["params"]
        ]
        for (p, level), saved_id in zip(parameters, saved_ids, strict=True):
            if saved_id in checked["state"]:
                optimizer.state[p] = _copied(parts(p, checked["state"][saved_id], level))
        for group in optimizer.param_groups:
            group.update(_copied({k: v for k, v in group.items() if k != "params"}))
        follow()

    handles = (
        optimizer.register_load_state_dict_post_hook(restore, prepend=True),
        optimizer.register_load_state_dict_pre_hook(check),
    )
    try:
        by_torch(state_dict)
    finally:
        for handle in handles:
            handle.remove()


def _upgraded(given: dict[str, Any], levels_of: Sequence[tuple[Level, ...]]) -> dict[str, Any]:
    """A state in today's format, whatever its own."""
    saved = [dict(group) for group in given["param_groups"]]
    states = {i: dict(store) for i, store in given["state"].items()}
    for group, levels in zip(saved, levels_of, strict=True):
        if group.get("format") != 1:
            continue
        group["format"] = 2
        stores = [(levels[0], states[i], "") for i in group["params"] if i in states]
        stores += [(level, group, f"level{i}.") for i, level in enumerate(levels) if i > 0]
        for level, store, prefix in stores:
            if prefix + "previous_gradient" in store and not level.lags:
                i = prefix.removesuffix(".") or "level0"
                _catch_up(level, store, prefix, group[f"{i}.constant"])
    return {**given, "param_groups": saved, "state": states}


def _catch_up(level: Level, store: dict[str, Any], prefix: str, constant: Tensor) -> None:
    """From format 1: a state before the last update, and the inputs of that, to the state after."""
    state = {key: store[prefix + key] for key in level.state_keys}
    g, w = (store.pop(f"{prefix}previous_{name}", None) for name in ("gradient", "parameter"))
    if not store[prefix + "is_kept"]:
        return
    t = store[prefix + "step"] - store.get(prefix + "skipped", 0)
    # No state depends on lr, which alone is learned: any will do.
    lr = constant.new_zeros((len(level.entries()), *constant.shape[1:]))
    after = update(level, lr, constant, Inputs(g, state, t, w))[1]
    valid = store.get(prefix + "is_valid", torch.tensor(True))
    store |= {prefix + key: torch.where(valid, after[key], state[key]) for key in state}


def _copied(store: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.clone() if isinstance(v, Tensor) else v for k, v in store.items()}


def check_state(learner: Learner, saved: Store) -> None:
    """Raise `GdtuoError` unless ``saved`` is the state of a tower of this structure."""
    theirs, ours = decoded(saved.get("tower")), decoded(learner.store["tower"])
    version = saved.get("format", 0)
    if theirs is None or type(version) is not int:
        raise GdtuoError("This is not the state of a gdtuo.Tower. Load it where it was saved.")
    if version > FORMAT:
        raise GdtuoError(
            f"The state has format {version}; this version of gdtuo reads up to "
            f"{FORMAT}. Upgrade gdtuo."
        )
    if theirs != ours:
        raise GdtuoError(
            f"The state is that of another tower.\n  saved: {theirs}\n  here:  {ours}\n"
            "Build the tower from the rule it was saved with; initial values may differ."
        )
    # States of version 0.1.0 don't say theirs, and are taken to be in these.
    kept: Tensor = learner.store["coordinates"]
    theirs, ours = decoded(saved.get("coordinates", kept)), decoded(kept)
    if theirs != ours:
        raise GdtuoError(
            f"The state is in other coordinates.\n  saved: {theirs}\n  here:  {ours}\n"
            "Build the tower with the coordinates it was saved with."
        )


def _check_layout(learner: Learner, saved: Store) -> None:
    """Raise `GdtuoError` unless ``saved`` has everything, and as many copies of it."""
    layouts = [
        {
            key: list(value.shape)
            for key, value in each.items()
            if key.startswith("level") and not key.endswith(GUARDED) and key != MOVED
            if isinstance(value, Tensor)
        }
        for each in (saved, learner.store)
    ]
    if layouts[0] != layouts[1]:
        raise GdtuoError(
            f"The state has hyperparameters of other shapes.\n  saved: {layouts[0]}\n  here:  "
            f"{layouts[1]}\nBuild the tower with the same per= and groups as the saved one."
        )
    own = ("lr", "steps", "previous_lr_factor", "unscheduled_lr")
    numbers = (key for key, x in learner.store.items() if key[:5] == "level" and type(x) is int)
    pairs = [tuple(f"level{i}.{flag}" for flag in GUARDED) for i in range(1, len(learner.levels))]
    parts = {key for keys in (COUNTS, *pairs) for key in halved(saved, keys)}
    if lacking := ({*own, *numbers} - {BEGUN} - saved.keys()) | parts:
        raise GdtuoError(
            f"The state has no {', '.join(sorted(lacking))} in a group. Give all of what "
            "`state_dict()` returned."
        )
    full = Learner(learner.levels, dict(learner.store), learner.safeguards)
    if "level0.learned" in full.store:  # and not in another group's
        full.start_counts()  # which a guard may have kept there
    flags = {key: flag for pair in pairs for key, flag in zip(pair, FLAGS.values(), strict=True)}
    # Under a guard the last is a tensor; the first may be, and is looked at when it is read.
    factors = {"lr": None, "previous_lr_factor": 1.0}
    factor = saved["previous_lr_factor"]
    if isinstance(factor, Tensor) and factor.numel() == 1:
        saved = saved | {"previous_lr_factor": factor.item()}
    _check_entries({**full.store, **flags, **factors}, saved, "a group")


def _check_nesting(given: Mapping[str, Any]) -> None:
    """Raise `GdtuoError` unless there are dictionaries and lists where there are to be."""
    saved, states = given["param_groups"], given["state"]
    if not isinstance(saved, (list, tuple)) or not isinstance(states, Mapping):
        fault = f"a {type(saved).__name__} of groups and a {type(states).__name__} of states"
    elif not all(isinstance(each, Mapping) for each in (*saved, *states.values())):
        fault = "something else than a dictionary for a group or a parameter"
    elif not all(isinstance(each.get("params", ()), (list, tuple)) for each in saved):
        fault = "something else than a list of a group's parameters"
    elif not all(type(each.get("format", 0)) is int for each in saved):
        fault = "something else than a number for a format"
    else:
        return
    raise GdtuoError(f"The state has {fault}. Give what `state_dict()` returned.")


def _check_kept(p: Tensor, ours: dict[str, Any], saved: dict[str, Any], level: Level) -> None:
    """Raise `GdtuoError` unless ``saved`` has everything of a parameter, and as it is to be."""
    of = f"a parameter of shape {list(p.shape)}"
    needed = (*level.state_keys, *level.previous_keys, "step", "is_kept")
    if lacking := [key for key in needed if key not in saved] or halved(saved, GUARDED):
        raise GdtuoError(
            f"The state has no {', '.join(lacking)} for {of}. Give all of what `state_dict()` "
            "returned."
        )
    _check_entries({**ours, **FLAGS, "left_out": 0}, saved, of)


def _check_entries(ours: Mapping[str, Any], saved: Mapping[str, Any], of: str) -> None:
    """Raise `GdtuoError` unless what both have is alike: tensors of a shape and kind, numbers."""
    for key in (key for key in ours if key in saved):
        value, theirs = ours[key], saved[key]
        if isinstance(value, Tensor):
            fits = isinstance(theirs, Tensor) and _layout(theirs) == _layout(value)
        elif isinstance(value, float):
            fits = is_number(theirs)
        else:
            fits = not isinstance(value, int) or type(theirs) is int
        if not fits:
            what = repr(theirs)
            if isinstance(theirs, Tensor):
                in_shape = isinstance(value, Tensor) and theirs.shape == value.shape
                what = str(theirs.dtype) if in_shape else f"shape {list(theirs.shape)}"
            raise GdtuoError(
                f"The state has a {key} of {what} for {of}. Build the tower from the same model, "
                "in the same order, and give what `state_dict()` returned."
            )


def _layout(x: Tensor) -> tuple[torch.Size, torch.dtype | None]:
    """The shape, and the dtype of what stays in it: numbers are cast to the tower's."""
    return x.shape, None if x.is_floating_point() else x.dtype
