"""Parameter groups: what a user may write in one, and what the tower reads from it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable, MutableMapping
from types import EllipsisType
from typing import Any, Literal

import torch
from torch import Tensor

from gdtuo.cell import Store, set_guard
from gdtuo.core import Level, arithmetic_dtype
from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import as_float, is_number
from gdtuo.learner import Learner, Parts
from gdtuo.rule import Rule
from gdtuo.safeguards import NO_SAFEGUARDS
from gdtuo.sharded import cell_for, part_of

#: What has hyperparameters of its own: all groups together, each group, tensor, element, or member
#: of an ensemble, an entry of the first dimension of all tensors.
Granularity = Literal["tower", "group", "tensor", "element", "member"]
Group = dict[str, Any]
Kind = tuple[torch.dtype, torch.device]
#: What a tower keeps for each parameter.
States = MutableMapping[Tensor, Store]

# What a group may be given beside hyperparameters: torch's or the user's own.
GROUP_KEYS = frozenset({"params", "rule", "param_names", "initial_lr", "name"})
DECAY = "weight_decay"
# What a rule may call a hyperparameter, and a group has for itself or for torch's schedulers.
KEPT = frozenset({"lr", "unscheduled_lr", "previous_lr_factor", "steps", "format", "tower"})
KEPT |= {"coordinates", "initial_lr", "max_lr", "min_lr", "swa_lr", "base_momentum", "max_momentum"}
# What torch's optimizers read there in each step, and a tower does not.
TORCHS = frozenset({"betas", "weight_decay", "momentum", "dampening", "eps", "alpha", "maximize"})


def check_bottom(rule: Any, owner: str = "Tower") -> None:
    """Raise `GdtuoError` unless ``rule`` can update parameters."""
    if not isinstance(rule, Rule):
        raise GdtuoError(
            f"{owner}: rule={rule!r} is not a rule. Give one, such as gdtuo.Adam() or "
            "gdtuo.parse('Adam / SGD(1e-05)')."
        )
    if rule.lr_by_name is not None:
        raise GdtuoError(
            f"{owner}: {rule} has lr={{...}} at level 0, where nothing lies beneath. Give it one "
            "step size; a step size for each hyperparameter is for the rule above."
        )


def rule_of(group: Group, default: Rule, per: Granularity) -> Rule:
    """The tower that a user's parameter group asks for: ``default`` unless it has its own."""
    rule: Rule = group.get("rule", default)
    check_bottom(rule)
    unknown = set(group) - set(rule.specs) - GROUP_KEYS
    if group.get(DECAY) == 0:  # which asks for none, as trainers do of biases
        unknown -= {DECAY}
    if unknown:
        raise GdtuoError(
            f"Tower: a parameter group gives {', '.join(sorted(map(repr, unknown)))}. Expected "
            f"'params', 'rule' and, for {type(rule).__name__}, any of {', '.join(rule.specs)}."
        )
    values = {name: group[name] for name in rule.specs if name in group}
    own = dataclasses.replace(rule, **values, **_without(rule, values))
    check_bottom(own)
    shared = set(values) & set(default.learned)
    if per == "tower" and ("rule" in group or shared or own.learned != default.learned):
        given = "a rule" if "rule" in group else ", ".join(sorted(shared or values))
        raise GdtuoError(
            f"Tower: a parameter group gives {given}, but per='tower' learns "
            f"{', '.join(default.learned) or 'nothing'}, for all groups alike. Leave it out, or "
            "use per='group'."
        )
    return own


def _without(rule: Rule, values: Group) -> dict[str, Any]:
    """What else of ``rule`` changes where ``values`` of 0 switch off what would be learned."""
    specs = [(name, rule.specs[name]) for name in rule.learned if values.get(name) == 0]
    off = {name for name, spec in specs if spec.optional and spec.learned == "when named"}
    above = rule.optimizer
    if not off or above is None:
        return {}
    learn = tuple(name for name in rule.learned if name not in off)
    if not learn:
        return {"optimizer": None, "learn": None}
    if above.lr_by_name is not None:
        sizes: dict[str, Any] = {"lr": {name: above.lr_by_name[name] for name in learn}}
        above = dataclasses.replace(above, **sizes)
    return {"optimizer": above, "learn": learn}


def check_list(groups: list[Group], count: int) -> None:
    """Raise `GdtuoError` unless ``groups`` are the ``count`` that a tower was given."""
    if len(groups) != count or not all("tower" in group for group in groups):
        raise GdtuoError(
            f"param_groups is a list of {len(groups)}, not of the {count} groups that this tower "
            "has set up: it was edited. Add a group by add_param_group; to leave one alone, call "
            "requires_grad_(False) on its parameters and zero_grad(); to be without it, make "
            "another tower."
        )


def check_edits(group: Group, rule: Rule) -> None:
    """Raise `GdtuoError` if a value was written into ``group`` that nothing would read, or that
    makes no factor of the step size."""
    lr_factor(group)
    if group["unscheduled_lr"] == 0 and "initial_lr" in group and "lr" in rule.learned:
        raise GdtuoError(
            "A schedule is a factor of the step size, and lr started at 0, of which no factor can "
            "be taken. Start with another lr."
        )
    for name in TORCHS.union(rule.specs):
        if name in group and name not in KEPT:
            raise GdtuoError(
                f"param_groups[i][{name!r}] = {group[name]!r} would change nothing: a tower keeps "
                f"{name} itself. Give it with the rule or the group when the tower is made, or "
                "learn it; of what stands in param_groups 'lr' alone is followed, as a schedule's."
            )


def lr_factor(group: Group) -> float:
    """What a schedule makes of the step size: nominal over initial."""
    nominal, initial = group.get("lr"), group["unscheduled_lr"]
    if isinstance(nominal, Tensor) and nominal.numel() == 1:
        nominal = nominal.item()
    if not (is_number(nominal) and math.isfinite(as_float(nominal))):
        raise GdtuoError(f"param_groups[i]['lr'] = {nominal!r}. Give a finite number.")
    if nominal == initial:
        return 1.0
    if initial == 0:
        raise GdtuoError(
            f"param_groups[i]['lr'] is {nominal}, a schedule's, but lr started at 0, of which no "
            "factor can be taken. Start with another lr."
        )
    return float(nominal / initial)


def kinds(parameters: Iterable[Tensor]) -> list[Kind]:
    """The dtype and device of each of the parameters."""
    return [(p.dtype, p.device) for p in parameters]


def kind(groups: Iterable[Group]) -> Kind:
    """Of the hyperparameters that ``groups`` go by: the widest dtype that any of the parameters is
    updated in, and the device of the first."""
    parameters = [p for group in groups for p in group["params"]]
    wide = any(p.dtype == torch.float64 for p in parameters)
    device = parameters[0].device if parameters else torch.device("cpu")
    return torch.float64 if wide else torch.float32, device


def is_followed(group: Group, kind: Kind) -> bool:
    """Whether a group's hyperparameters are where its parameters are now."""
    constant = group["level0.constant"]
    return (constant.dtype, constant.device) == kind


def initialize(p: Tensor, store: Store, level: Level, guard: int) -> None:
    """Start what is kept of one parameter."""
    cell = cell_for(p, level)(level, [part_of(p)], [store], guard=guard, parameters=[p])
    cell.initialize(arithmetic_dtype(p.dtype))


def set_guards(
    group: Group, states: States, levels: tuple[Level, ...], guard: int, kind: Kind
) -> None:
    """Keep in a group and its parameters what a guard needs, and nothing of it without one."""
    dtype, device = kind
    for p in group["params"]:
        if p in states:
            set_guard(states[p], "", guard, p.device)
    for i in range(1, len(levels)):
        if f"level{i}.step" in group:
            set_guard(group, f"level{i}.", guard, device)
    factor = float(group["previous_lr_factor"])
    on_device = torch.tensor(factor, dtype=dtype, device=device)
    group["previous_lr_factor"] = on_device if guard else factor
    for key in [key for key in group if key.startswith("guard.") and not guard]:
        del group[key]
    if guard and "level0.learned" in group and "guard.causes" not in group:
        Learner(levels, group, NO_SAFEGUARDS).start_counts()


def follow(group: Group, states: States, levels: tuple[Level, ...], guard: int, kind: Kind) -> None:
    """Bring all that is kept to the parameters' devices, in the precision that goes with them."""
    for p in group["params"]:
        store = states.get(p, {})
        for key, value in store.items():
            if isinstance(value, Tensor):
                dtype = arithmetic_dtype(p.dtype) if key in levels[0].state_keys else p.dtype
                if key in levels[0].own_dtype:
                    dtype = value.dtype
                if key == "previous_gradient" and hasattr(p, "grad_dtype"):  # not in torch 2.6
                    dtype = p.grad_dtype or value.dtype  # None: any
                store[key] = _moved(value, dtype, p.device)
    dtype, device = kind
    own = {f"level{i}.{key}" for i, level in enumerate(levels) for key in level.own_dtype}
    for key, value in group.items():
        if isinstance(value, Tensor) and key not in ("tower", "coordinates"):
            group[key] = _moved(value, value.dtype if key in own else dtype, device)
    set_guards(group, states, levels, guard, kind)


def _moved(value: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """``value`` on ``device``, and in ``dtype`` unless it is a count or a flag."""
    return value.to(device, dtype if value.is_floating_point() else value.dtype)


def check_alike(groups: list[Group], saved: list[Group]) -> None:
    """Raise `GdtuoError` unless ``saved`` has the same numbers of parameters in its groups."""
    ours, theirs = ([len(group.get("params", ())) for group in every] for every in (groups, saved))
    if ours != theirs:
        raise GdtuoError(
            f"The state has groups of {theirs} parameters, this tower of {ours}. Build the tower "
            "from the same model, with the same groups."
        )


def copies(group: Group, per: Granularity) -> list[int | slice | EllipsisType | None]:
    """For each parameter, the copies of the hyperparameters it goes by, as in `Cell`."""
    if per == "tensor":
        return list(range(len(group["params"])))
    if per == "element":
        ends = itertools.accumulate((p.numel() for p in group["params"]), initial=0)
        return [slice(*pair) for pair in itertools.pairwise(ends)]
    return [... if per == "member" else None] * len(group["params"])


def number_of_copies(group: Group, per: Granularity) -> int | None:
    """How many there are of everything that is learned."""
    if per == "member":
        return len(group["params"][0])
    numbers = {"tensor": len(group["params"]), "element": sum(p.numel() for p in group["params"])}
    return numbers.get(per)


def parts(group: Group, per: Granularity) -> Parts | None:
    """The copies by the name of their parameter, or by its place in the group."""
    if per in ("tower", "group"):
        return None
    if per == "member":
        return {i: (i, None) for i in range(len(group["params"][0]))}
    labels = group.get("param_names", ())
    if len(set(labels)) < len(group["params"]):  # of two models, say
        labels = range(len(group["params"]))
    shapes = [p.shape if per == "element" else None for p in group["params"]]
    return dict(zip(labels, zip(copies(group, per), shapes, strict=True), strict=True))
