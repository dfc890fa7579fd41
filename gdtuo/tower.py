"""A tower as a ``torch.optim.Optimizer``: the algorithm of `gdtuo.core` over parameter groups."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from gdtuo.cell import Cell
from gdtuo.core import Level, arithmetic_dtype, levels_of, pull_back, update
from gdtuo.errors import GdtuoError
from gdtuo.learner import Learner
from gdtuo.rule import Rule

# Keys of a user's parameter group that are torch's or the user's own, not hyperparameters.
GROUP_KEYS = frozenset({"params", "param_names", "initial_lr", "name"})


class Tower(torch.optim.Optimizer):
    r"""Train with ``rule`` while the rules above it learn its hyperparameters.

    Used like any ``torch.optim.Optimizer``: parameters stay leaf tensors, updated in place, after
    an ordinary ``loss.backward()``. Step t, from the top level down (paper, section 2)::

        x_i,t+1 = x_i,t - U_{i+1}(dL_t/dx_i,t; x_{i+1,t+1})      i = n - 1, ..., 0
        w_t+1   = w_t   - U_0(dL_t/dw_t; x_0,t+1)

    where x_i are the coordinates of level i's hyperparameters, and their hypergradient dL_t/dx_i,t
    is that of the loss through the previous update, along ``p.grad`` as it stands (clipped, scaled,
    accumulated: so is the hypergradient).

    Args:
        params: parameters, or parameter groups. A group has its own copy of the tower, starting
            from its own values where it gives any: ``{"params": ..., "lr": 1e-4}``.
        rule: the tower, such as ``gdtuo.Adam(optimizer=gdtuo.SGD(1e-5))``.

    Precision: state, hyperparameters and hypergradients are float32 for half-precision parameters
    (4 bytes an element for each tensor of the rule's state; the kept gradient stays in half), and
    otherwise of the parameters' dtype.

    Memory: the rule's state, and one gradient for each parameter if anything is learned.

    Schedules: ``param_groups[i]["lr"]`` is nominal. The step taken is the learned ``lr`` times
    nominal / initial, so that a scheduler means a factor, which the hypergradient accounts for.

    Raises:
        GdtuoError: no parameters, a module or a rule in their place, complex parameters, unknown
            or out-of-domain values in a group; in `step`, parameters that have never had a
            gradient, or sparse ones; in `load_state_dict`, the state of another tower.

    Example:
        >>> import gdtuo, torch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = gdtuo.Tower(model.parameters(), gdtuo.Adam(optimizer=gdtuo.SGD(1e-5)))
        >>> for _ in range(3):
        ...     optimizer.zero_grad()
        ...     model(torch.ones(4, 2)).square().mean().backward()
        ...     _ = optimizer.step()
        >>> sorted(optimizer.hyperparameters()[0])
        ['beta1', 'beta2', 'lr']
    """

    def __init__(self, params: Iterable[Any], rule: Rule) -> None:
        if not isinstance(rule, Rule):
            raise GdtuoError(
                f"Tower: rule={rule!r} is not a rule. Give one, such as gdtuo.Adam() or "
                "gdtuo.parse('Adam / SGD(1e-05)')."
            )
        if isinstance(params, (nn.Module, Rule)):
            raise GdtuoError(
                f"Tower: the first argument is a {type(params).__name__}. Give parameters: "
                "gdtuo.Tower(model.parameters(), rule)."
            )
        given = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise GdtuoError("Tower: no parameters. Give model.parameters(), or groups of them.")
        self.rule = rule
        self._levels: list[tuple[Level, ...]] = []  # of each group
        super().__init__(given, {"lr": rule.lr})  # type: ignore[attr-defined]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group with its own copy of the tower; it may give its own initial values."""
        known = self.rule.specs
        unknown = set(param_group) - set(known) - GROUP_KEYS
        if unknown:
            raise GdtuoError(
                f"Tower: a parameter group gives {', '.join(sorted(map(repr, unknown)))}. Expected "
                f"'params' and, for {type(self.rule).__name__}, any of {', '.join(known)}."
            )
        values = {name: param_group[name] for name in known if name in param_group}
        rule = dataclasses.replace(self.rule, **values)
        if rule.lr_by_name is not None:
            raise GdtuoError(
                f"Tower: {rule} has lr={{...}} at level 0, where nothing lies beneath. Give it one "
                "step size; a step size for each hyperparameter is for the rule above."
            )
        super().add_param_group({k: v for k, v in param_group.items() if k not in known})
        group, levels = self.param_groups[-1], levels_of(rule)
        complex_ones = [p for p in group["params"] if p.is_complex()]
        if complex_ones:
            del self.param_groups[-1]
            raise GdtuoError(
                f"Tower: a parameter of shape {tuple(complex_ones[0].shape)} is complex. Give real "
                "ones: view it with torch.view_as_real."
            )
        self._levels.append(levels)
        group["lr"] = group["unscheduled_lr"] = rule.lr  # type: ignore[attr-defined]
        group["previous_lr_factor"] = 1.0
        Learner(levels, group).initialize(_precision(group), _device(group))
        for p in group["params"]:
            if p.requires_grad:
                self._initialize(p, levels[0])

    def _initialize(self, p: Tensor, level: Level) -> None:
        Cell(level, [p], [self.state[p]]).initialize(arithmetic_dtype(p.dtype))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the hyperparameters of every level, then the parameters, in place.

        Parameters without a gradient are left alone, and a step in which none has one does nothing.

        Args:
            closure: recomputes the loss and its gradients, once; its value is returned.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        if any(g is not None and g.layout != torch.strided for g in gradients):
            raise GdtuoError(
                "Tower.step: a gradient is sparse. Expected dense ones: build the layer with "
                "sparse=False."
            )
        if all(g is None for g in gradients):
            if not any(state.get("step", 0) for state in self.state.values()):
                raise GdtuoError(
                    "Tower.step: no parameter has ever had a gradient. Call loss.backward() first, "
                    "on a loss that depends on the parameters given to this tower."
                )
            return loss
        for group, levels in zip(self.param_groups, self._levels, strict=True):
            self._step_group(group, Learner(levels, group))
        return loss

    def _step_group(self, group: dict[str, Any], learner: Learner) -> None:
        factor = _lr_factor(group)  # may refuse: before anything changes
        level = learner.levels[0]
        present, absent = self._cells(group, level)
        for cell in absent:  # left alone; what is kept of their last update is dropped
            previous = cell.previous(group["previous_lr_factor"])
            cell.drop(update(level, *learner.coordinates(0), previous)[1])
        if not present:
            return
        learned, constant = learner.coordinates(0)
        v = torch.zeros_like(learned)
        gradients, states = [], []
        for cell in present:
            g = cell.join([p.grad for p in cell.tensors if p.grad is not None], copy=True)
            state = cell.state()
            if cell.is_kept:
                previous = cell.previous(group["previous_lr_factor"])
                pulled, state = pull_back(level, learned, constant, previous, g)
                v += pulled
            gradients.append(g)
            states.append(state)
        learner.step(v)
        group["previous_lr_factor"] = factor
        for cell, g, state in zip(present, gradients, states, strict=True):
            inputs = cell.next(g, state, factor)
            step, state_after = update(level, *learner.coordinates(0), inputs)
            cell.save(inputs, state_after)
            torch._foreach_sub_(cell.tensors, cell.split(step))

    def _cells(self, group: dict[str, Any], level: Level) -> tuple[list[Cell], list[Cell]]:
        """Parameters that have a gradient, and those left out that had a kept update, in cells."""
        cells: dict[Any, Cell] = {}
        for i, p in enumerate(group["params"]):
            if p.grad is not None and p not in self.state:  # unfrozen since construction
                self._initialize(p, level)
            store = self.state.get(p, {})
            kept = bool(store.get("is_kept", 0))
            if p.grad is not None or kept:
                alike = (p.dtype, p.device, store["step"]) if level.rule.elementwise else i
                cell = cells.setdefault((p.grad is not None, kept, alike), Cell(level, [], []))
                cell.tensors.append(p)
                cell.stores.append(store)
        present = [cell for (has_gradient, *_), cell in cells.items() if has_gradient]
        absent = [cell for (has_gradient, *_), cell in cells.items() if not has_gradient]
        return present, absent

    def hyperparameters(self, group: int = 0) -> list[dict[str, Any]]:
        """The values in force, in their own units: a dictionary for each level, level 0 first.

        An ``lr`` given by name is a dictionary itself. Level 0's ``lr`` is what has been learned, a
        schedule's factor aside. Reading waits for the device.

        Args:
            group: which parameter group's.
        """
        count = len(self.param_groups)
        if not -count <= group < count:
            raise GdtuoError(
                f"hyperparameters: group={group}, but there are {count}. Count from 0."
            )
        return list(Learner(self._levels[group], self.param_groups[group]).values())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``, to the bit: its values replace the initial ones given here.

        Raises:
            GdtuoError: it is the state of another tower, or of a later version of this package.
        """
        self._check_state(state_dict)
        super().load_state_dict(state_dict)
        # torch has cast the state to the parameters' dtype; half precision loses digits by that.
        saved_ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        ids = dict(zip([p for g in self.param_groups for p in g["params"]], saved_ids, strict=True))
        for group, levels in zip(self.param_groups, self._levels, strict=True):
            for p in group["params"]:
                for key, value in state_dict["state"].get(ids[p], {}).items():
                    if isinstance(value, Tensor):
                        of_rule = key in levels[0].state_keys
                        dtype = arithmetic_dtype(p.dtype) if of_rule else p.dtype
                        self.state[p][key] = value.to(dtype=dtype, device=p.device)
            for key, value in group.items():
                if key.startswith("level") and isinstance(value, Tensor):
                    group[key] = value.to(dtype=_precision(group), device=_device(group))

    def _check_state(self, state_dict: dict[str, Any]) -> None:
        saved = state_dict.get("param_groups", [])
        sizes = [
            [len(group["params"]) for group in groups] for groups in (saved, self.param_groups)
        ]
        if sizes[0] != sizes[1]:
            raise GdtuoError(
                f"The state has groups of {sizes[0]} parameters, this tower of {sizes[1]}. "
                "Build the tower from the same model, with the same groups."
            )
        for levels, group, theirs in zip(self._levels, self.param_groups, saved, strict=True):
            Learner(levels, group).check_state(theirs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "rule": self.rule, "_levels": self._levels}

    def __repr__(self) -> str:
        counts = [len(group["params"]) for group in self.param_groups]
        return f"Tower({self.rule}, parameters in each group: {counts})"


def _lr_factor(group: dict[str, Any]) -> float:
    """What a schedule makes of the step size: nominal over initial."""
    nominal, initial = group["lr"], group["unscheduled_lr"]
    if nominal == initial:
        return 1.0
    if initial == 0:
        raise GdtuoError(
            f"param_groups[i]['lr'] is {nominal}, a schedule's, but lr started at 0, of which no "
            "factor can be taken. Start with another lr."
        )
    return float(nominal / initial)


def _precision(group: dict[str, Any]) -> torch.dtype:
    """The dtype of a group's hyperparameters: the widest that its parameters are updated in."""
    wide = any(p.dtype == torch.float64 for p in group["params"])
    return torch.float64 if wide else torch.float32


def _device(group: dict[str, Any]) -> torch.device:
    return group["params"][0].device if group["params"] else torch.device("cpu")
