"""A tower as a ``torch.optim.Optimizer``: the algorithm of `gdtuo.core` over parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, get_args

import torch
from torch import Tensor, nn

from gdtuo import groups
from gdtuo.cell import Cell
from gdtuo.core import Inputs, Level, arithmetic_dtype, levels_of, pull_back, update
from gdtuo.errors import GdtuoError
from gdtuo.groups import Granularity
from gdtuo.learner import Learner
from gdtuo.rule import Rule
from gdtuo.safeguards import NO_SAFEGUARDS, Safeguards


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
        per: what has hyperparameters of its own: ``"group"``; ``"tower"``: all groups share one
            copy; ``"tensor"`` or ``"element"``: each of them has a copy, and a tower above it.
        maximize: climb the objective; ``p.grad`` is its gradient.
        safeguards: see `Safeguards`.

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

    def __init__(
        self,
        params: Iterable[Any],
        rule: Rule,
        *,
        per: Granularity = "group",
        maximize: bool = False,
        safeguards: Safeguards = NO_SAFEGUARDS,
    ) -> None:
        groups.check_bottom(rule)
        if isinstance(params, (nn.Module, Rule)):
            raise GdtuoError(
                f"Tower: the first argument is a {type(params).__name__}. Give parameters: "
                "gdtuo.Tower(model.parameters(), rule)."
            )
        given = [params] if isinstance(params, Tensor) else list(params)
        if not given:
            raise GdtuoError("Tower: no parameters. Give model.parameters(), or groups of them.")
        if per not in get_args(Granularity):
            raise GdtuoError(
                f"Tower: per={per!r}. Expected 'tower', 'group', 'tensor' or 'element'."
            )
        self.rule, self.per, self.maximize, self.safeguards = rule, per, maximize, safeguards
        self._levels: list[tuple[Level, ...]] = []  # of each group
        super().__init__(given, {"lr": rule.lr})  # type: ignore[attr-defined]

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, at any time. It may give its own initial values or, under ``"rule"``, its
        own tower; with ``per="tower"`` only values of constants."""
        rule = groups.rule_of(param_group, self.rule, self.per)
        own = {"rule", *rule.specs}
        super().add_param_group({k: v for k, v in param_group.items() if k not in own})
        self._levels.append(levels_of(rule))
        try:
            self._start(self.param_groups[-1], rule, self._levels[-1])
        except GdtuoError:  # nothing of the group stays behind
            for p in self.param_groups.pop()["params"]:
                self.state.pop(p, None)
            self._levels.pop()
            raise

    def _start(self, group: dict[str, Any], rule: Rule, levels: tuple[Level, ...]) -> None:
        """Set up what a new group keeps: numbers and tensors, all of them from the start."""
        for p in group["params"]:
            if p.is_complex():
                raise GdtuoError(
                    f"Tower: a parameter of shape {tuple(p.shape)} is complex. Give real ones: "
                    "view it with torch.view_as_real."
                )
        group["lr"] = group["unscheduled_lr"] = rule.lr  # type: ignore[attr-defined]
        group["previous_lr_factor"] = 1.0
        dtype, device = groups.precision(group), groups.device(group)
        learner = Learner(levels, group)
        learner.initialize(dtype, device, groups.number_of_copies(group, self.per))
        if self._learner(-1).store is not group:
            learner.share()
        for p in group["params"]:
            if p.requires_grad:
                self._initialize(p, levels[0])

    def _initialize(self, p: Tensor, level: Level) -> None:
        Cell(level, [p], [self.state[p]]).initialize(arithmetic_dtype(p.dtype))

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        *,
        cotangents: Iterable[Tensor | None] | None = None,
    ) -> Any:
        """Update the hyperparameters of every level, then the parameters, in place.

        Parameters without a gradient are left alone, and a step in which none has one does nothing.

        Args:
            closure: recomputes the loss and its gradients, once; its value is returned.
            cotangents: a gradient for each parameter, in the order of the groups, to take the
                hypergradients along instead of ``p.grad``: that of a held-out loss, say, so that
                hyperparameters are learned on data that the parameters are not. None: not along it.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        parameters = [p for group in self.param_groups for p in group["params"]]
        self._check_gradients([p.grad for p in parameters])
        if all(p.grad is None for p in parameters):
            return loss
        if not all(map(groups.is_followed, self.param_groups)):
            self._follow_parameters()
        along = None
        if cotangents is not None:
            given = list(cotangents)
            if len(given) != len(parameters):
                raise GdtuoError(
                    f"Tower.step: {len(given)} cotangents for {len(parameters)} parameters. Give "
                    "one for each parameter, in the order of the groups, or None in its place."
                )
            along = dict(zip(parameters, given, strict=True))
        if self.per == "tower":
            self._step(self._learner(0), range(len(self.param_groups)), along)
        else:
            for i in range(len(self.param_groups)):
                self._step(self._learner(i), [i], along)
        return loss

    def _check_gradients(self, gradients: list[Tensor | None]) -> None:
        if any(g is not None and g.layout != torch.strided for g in gradients):
            raise GdtuoError(
                "Tower.step: a gradient is sparse. Expected dense ones: build the layer with "
                "sparse=False."
            )
        never = not any(state.get("step", 0) for state in self.state.values())
        if never and all(g is None for g in gradients):
            raise GdtuoError(
                "Tower.step: no parameter has ever had a gradient. Call loss.backward() first, "
                "on a loss that depends on the parameters given to this tower."
            )

    def _learner(self, i: int) -> Learner:
        """What learns for group i."""
        i = 0 if self.per == "tower" else i
        return Learner(self._levels[i], self.param_groups[i], self.safeguards)

    def _step(
        self, learner: Learner, of: Iterable[int], along: dict[Tensor, Tensor | None] | None
    ) -> None:
        """Step the hyperparameters that ``learner`` keeps, and the groups that go by them."""
        own = [self.param_groups[i] for i in of]
        factors = [groups.lr_factor(group) for group in own]  # may refuse: before anything changes
        learned, learning = learner.coordinates(0)[0], learner.is_learning(0)
        v, pending = torch.zeros_like(learned), list[tuple[Cell, Inputs, Tensor]]()
        for group, factor in zip(own, factors, strict=True):
            constant, previous_factor = group["level0.constant"], group["previous_lr_factor"]
            present, absent = self._cells(group, learner.levels[0])
            for cell in absent:  # left alone; what is kept of their last update is dropped
                previous = cell.previous(previous_factor)
                cell.drop(update(cell.level, cell.of(learned), constant, previous)[1])
            for cell in present:
                g = self._joined(cell, [p.grad for p in cell.tensors])
                state = cell.state()
                if cell.is_kept:
                    last = (cell.level, cell.of(learned), constant, cell.previous(previous_factor))
                    if learning:
                        c = (
                            g
                            if along is None
                            else self._joined(cell, [along[p] for p in cell.tensors])
                        )
                        pulled, state = pull_back(*last, c)
                        cell.of(v).add_(pulled)
                    else:
                        state = update(*last)[1]
                pending.append((cell, cell.next(g, state, factor), constant))
            if present:
                group["previous_lr_factor"] = factor
        if not pending:
            return
        learner.step(v)
        learned = learner.coordinates(0)[0]
        for cell, inputs, constant in pending:
            step, state_after = update(cell.level, cell.of(learned), constant, inputs)
            cell.save(inputs, state_after)
            steps = self.safeguards.capped(cell.tensors, cell.split(step))
            torch._foreach_sub_(cell.tensors, steps)

    def _joined(self, cell: Cell, gradients: list[Tensor | None]) -> Tensor:
        """A copy of the gradients, those of what is minimized."""
        pairs = zip(gradients, cell.tensors, strict=True)
        g = cell.join([torch.zeros_like(p) if g is None else g for g, p in pairs], copy=True)
        return g.neg_() if self.maximize else g

    def _cells(self, group: dict[str, Any], level: Level) -> tuple[list[Cell], list[Cell]]:
        """Parameters that have a gradient, and those left out that had a kept update, in cells."""
        cells: dict[Any, Cell] = {}
        together = level.rule.elementwise and self.per in ("tower", "group")
        for i, (p, copies) in enumerate(
            zip(group["params"], groups.copies(group, self.per), strict=True)
        ):
            if p.grad is not None and p not in self.state:  # unfrozen since construction
                self._initialize(p, level)
            store = self.state.get(p, {})
            kept = bool(store.get("is_kept", 0))
            if p.grad is not None or kept:
                alike = (p.dtype, p.device, store["step"]) if together else i
                new = Cell(level, [], [], copies=copies)
                cell = cells.setdefault((p.grad is not None, kept, alike), new)
                cell.tensors.append(p)
                cell.stores.append(store)
        present = [cell for (has_gradient, *_), cell in cells.items() if has_gradient]
        absent = [cell for (has_gradient, *_), cell in cells.items() if not has_gradient]
        return present, absent

    def hyperparameters(self, group: int = 0) -> list[dict[str, Any]]:
        """The values in force, in their own units: a dictionary for each level, level 0 first.

        Floats; with ``per="tensor"`` a learned one is a dictionary of floats by the parameter's
        name (or place), with ``per="element"`` one of tensors. An ``lr`` given by name is a
        dictionary too. Level 0's ``lr`` is what has been learned, a schedule's factor aside.
        Reading waits for the device.

        Args:
            group: which parameter group's.
        """
        return self._readable(group).values(groups.parts(self.param_groups[group], self.per))

    def hypergradients(self, group: int = 0) -> list[dict[str, Any]]:
        """The hypergradients of the last step, laid out as in `hyperparameters`: for each level
        beneath the top, of what is learned.

        They are derivatives with respect to the coordinates (an RMSProp's ``lr`` is the square of
        its own), along the gradients or cotangents of that step; 0 where nothing was kept.
        """
        return self._readable(group).hypergradients(
            groups.parts(self.param_groups[group], self.per)
        )

    def _readable(self, group: int) -> Learner:
        count = len(self.param_groups)
        if not -count <= group < count:
            raise GdtuoError(f"group={group}, but there are {count} groups. Count from 0.")
        own, learner = self.param_groups[group], self._learner(group)
        if own is learner.store:
            return learner
        # One tower for all groups: what is learned is the first's, the constants are its own.
        return Learner(
            self._levels[group], {**learner.store, "level0.constant": own["level0.constant"]}
        )

    def freeze(self, *names: str, level: int = 0, group: int | None = None) -> None:
        """Stop learning, from the next step on, until `unfreeze`; values stay where they are.

        Args:
            names: hyperparameters of that level; none given: all that are learned, and then the
                levels above rest too.
            level: counted from 0, the parameters' own rule.
            group: which parameter group's; None: of all.

        Raises:
            GdtuoError: no such level, or a name that is not learned there.
        """
        self._set_frozen(names, level, group, frozen=True)

    def unfreeze(self, *names: str, level: int = 0, group: int | None = None) -> None:
        """Go on learning what `freeze` stopped. It takes the same arguments."""
        self._set_frozen(names, level, group, frozen=False)

    def _set_frozen(
        self, names: tuple[str, ...], level: int, group: int | None, frozen: bool
    ) -> None:
        chosen = range(len(self.param_groups)) if group is None else [group]
        learners = [self._readable(i) for i in chosen]
        for learner in learners:  # all are asked before any changes
            learner.check_learned(level, names)
        for i in chosen:
            self._learner(i).freeze(level, names, frozen)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``, to the bit: its values replace the initial ones given here.

        Raises:
            GdtuoError: it is the state of another tower, or of a later version of this package.
        """
        groups.check_alike(self.param_groups, state_dict.get("param_groups", []))
        for levels, group, saved in zip(
            self._levels, self.param_groups, state_dict["param_groups"], strict=True
        ):
            Learner(levels, group).check_state(saved)
        super().load_state_dict(state_dict)
        # torch has cast the state to the parameters' dtype; half precision loses digits by that.
        saved_ids = [i for group in state_dict["param_groups"] for i in group["params"]]
        parameters = [p for group in self.param_groups for p in group["params"]]
        for p, saved_id in zip(parameters, saved_ids, strict=True):
            if saved_id in state_dict["state"]:
                self.state[p] = dict(state_dict["state"][saved_id])
        self._follow_parameters()

    def _follow_parameters(self) -> None:
        """Bring all that is kept to the parameters' devices, in the precision that goes with them:
        after loading, or where the model was moved after the tower was made."""
        for group, levels in zip(self.param_groups, self._levels, strict=True):
            for p in group["params"]:
                for key, value in self.state.get(p, {}).items():
                    if isinstance(value, Tensor):
                        of_rule = key in levels[0].state_keys
                        dtype = arithmetic_dtype(p.dtype) if of_rule else p.dtype
                        self.state[p][key] = value.to(dtype=dtype, device=p.device)
            dtype, device = groups.precision(group), groups.device(group)
            for key, value in group.items():
                if key.startswith("level") and isinstance(value, Tensor):
                    group[key] = value.to(dtype=dtype, device=device)

    def __getstate__(self) -> dict[str, Any]:
        own = ("rule", "per", "maximize", "safeguards", "_levels")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __repr__(self) -> str:
        counts = [len(group["params"]) for group in self.param_groups]
        return f"Tower({self.rule}, parameters in each group: {counts})"
