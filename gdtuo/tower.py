"""A tower as a ``torch.optim.Optimizer``: the algorithm of `gdtuo.core` over parameter groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from gdtuo import checks, groups, guard, sharded, strides
from gdtuo.cell import PIECE
from gdtuo.compiled import CompiledStep
from gdtuo.controls import Controls
from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.gathering import Gathered, Gradients, gather
from gdtuo.groups import Granularity
from gdtuo.layout import levels_of
from gdtuo.learner import Learner
from gdtuo.loading import load
from gdtuo.ranks import Held, Ranks
from gdtuo.rule import Rule
from gdtuo.safeguards import NO_SAFEGUARDS, Safeguards
from gdtuo.stepping import Apply, commit, complete, draft, subtract


class Tower(Controls):
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
        compile: take the ordinary steps by one compiled graph (`torch.compile`), equal to the eager
            ones to rounding. The first takes seconds to minutes; nothing is compiled anew when
            hyperparameters, counts, schedules or sizes change. Logged once by the logger ``gdtuo``;
            where there is no compiler, a warning says so once and steps are eager. Another backend
            than inductor may be given, by its name or itself.
        capturable: with ``compile``, steps may be captured in a CUDA graph (``torch.cuda.graph``)
            after a few ordinary ones. The factor of a schedule is then that of the capture.

    Precision: state, hyperparameters and hypergradients are float32 for half-precision parameters
    (4 bytes an element for each tensor of the rule's state; the kept gradient stays in half), and
    otherwise of the parameters' dtype.

    Memory: the rule's state, and one gradient for each parameter if anything is learned, with
    weight decay the parameter before its last update too; neither where it is ``lr`` alone and the
    rule can tell its step from its state (`Adam`, and without decay `AdamW`, `SGD` with momentum).

    Schedules: ``param_groups[i]["lr"]`` is nominal. The step taken is the learned ``lr`` times
    nominal / initial, so that a scheduler means a factor, which the hypergradient accounts for.

    Several processes: nothing has to be said. In DistributedDataParallel nothing is communicated;
    parameters that are DTensors (FSDP2, tensor parallelism) cost one small all-reduce a step, one
    more with a ``cap`` and with a ``stride``. `state_dict` then has DTensors too, ``state`` this
    rank's parts of them.

    Raises:
        GdtuoError: no parameters, a module or a rule in their place, complex parameters, unknown
            or out-of-domain values in a group; parameters of a FullyShardedDataParallel, a
            ZeroRedundancyOptimizer's, or DTensors over different ranks or with per="element"; in
            `step`, parameters that have never had a gradient, or sparse ones, or on another mesh;
            in `load_state_dict`, the state of another tower.

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

    _granularities: ClassVar[tuple[Granularity, ...]] = ("tower", "group", "tensor", "element")

    @torch.inference_mode(False)  # where that is on, nothing that is kept could be differentiated
    def __init__(
        self,
        params: Iterable[Any],
        rule: Rule,
        *,
        per: Granularity = "group",
        maximize: bool = False,
        safeguards: Safeguards = NO_SAFEGUARDS,
        compile: bool | str | Callable[..., Any] = False,
        capturable: bool = False,
    ) -> None:
        sharded.check_whole_model()
        given = checks.parameters(params)
        checks.options(rule, per, self._granularities, maximize, safeguards, compile, capturable)
        self.rule, self.per, self.maximize, self.safeguards = rule, per, maximize, safeguards
        backend = "inductor" if compile is True else compile
        self._compiled = CompiledStep(backend, capturable) if backend else None
        self._levels = []
        self._has_warned = False
        self._ranks: Ranks | None = None  # that share the parameters
        self._kinds: list[groups.Kind] = []  # of the parameters, with which goes what is kept
        super().__init__(given, {"lr": rule.lr})  # type: ignore[attr-defined]

    @torch.inference_mode(False)
    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, at any time. It may give its own initial values or, under ``"rule"``, its
        own tower; with ``per="tower"`` only values of constants."""
        checks.is_group(param_group)
        rule = groups.rule_of(param_group, self.rule, self.per)
        own, levels = {"rule", groups.DECAY, *rule.specs}, levels_of(rule)
        super().add_param_group({k: v for k, v in param_group.items() if k not in own})
        self._levels.append(levels)
        try:
            self._start(self.param_groups[-1], rule, levels)
        except BaseException:  # nothing of the group stays behind
            for p in self.param_groups.pop()["params"]:
                self.state.pop(p, None)
            self._levels.pop()
            raise

    def _start(self, group: dict[str, Any], rule: Rule, levels: tuple[Level, ...]) -> None:
        """Set up what a new group keeps: numbers and tensors, all of them from the start."""
        checks.group(group["params"], rule, self.per, self.safeguards)
        everything = [p for group in self.param_groups for p in group["params"]]
        ranks = Ranks.of(everything, self._ranks)
        checks.spread(group["params"], levels[0], self.per, ranks, self._compiled is not None)
        group["lr"] = group["unscheduled_lr"] = rule.lr  # type: ignore[attr-defined]
        group["previous_lr_factor"] = 1.0
        learner = Learner(levels, group, self.safeguards)
        kind = self._kind(group)
        learner.initialize(*kind, groups.number_of_copies(group, self.per))
        shared = self._learner(-1)
        is_followed = groups.is_followed(shared.store, kind)
        for p in group["params"]:
            if p.requires_grad:
                groups.initialize(p, self.state[p], levels[0], self.safeguards.guard)
        self._ranks = ranks  # from here on nothing is refused, and what is another group's changes
        if shared.store is not group:
            learner.share()
            if not is_followed and shared.is_new():
                # Another precision by the new group; what is frozen stays so.
                frozen = {k: v for k, v in shared.store.items() if k.endswith(".frozen")}
                shared.initialize(*kind, None)
                shared.store.update(frozen)
        groups.set_guards(group, self.state, levels, self.safeguards.guard, kind)
        self._kinds += groups.kinds(group["params"])
        if not is_followed:
            self._follow_parameters()

    def _kind(self, group: dict[str, Any]) -> groups.Kind:
        """The dtype and device of the hyperparameters that ``group`` goes by."""
        return groups.kind(self.param_groups if self.per == "tower" else [group])

    @torch.inference_mode(False)
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
        groups.check_list(self.param_groups, len(self._levels))
        parameters = [p for group in self.param_groups for p in group["params"]]
        if all(p.grad is None for p in parameters):
            if not any(state.get("step", 0) for state in self.state.values()):
                raise GdtuoError(
                    "Tower.step: no parameter has ever had a gradient. Call loss.backward() first, "
                    "on a loss that depends on the parameters given to this tower."
                )
            return loss
        if groups.kinds(parameters) != self._kinds:
            self._follow_parameters()
        for group, levels in zip(self.param_groups, self._levels, strict=True):
            groups.check_edits(group, levels[0].rule)  # may refuse: before anything changes
        learners = self._learners()
        if not (
            self._compiled is not None
            and cotangents is None
            and self._compiled.again(self.param_groups, self.maximize)
        ):
            self._take(learners, Gradients.given(parameters, self.maximize, cotangents))
        if self.safeguards.guard and guard.is_due(learners, self.safeguards.guard):
            self._report_skips()
        return loss

    def _take(self, learners: list[Learner], gradients: Gradients) -> None:
        self._settle()
        # Together where a graph or the guard needs all; else one by one: less is held at once.
        together = (
            self._compiled is not None or self.safeguards.guard > 0 or self._ranks is not None
        )
        held: Held = []
        apply: Apply = subtract
        if self._ranks is not None and self.safeguards.cap is not None:
            apply = lambda learner, cell, step: held.append((cell, step))  # noqa: E731
        for some in [learners] if together else [[learner] for learner in learners]:
            gathered = [self._gather(learner, gradients) for learner in some]
            if self._compiled is not None and self._compiled.take(
                self.param_groups, some, gathered, gradients, self._ranks
            ):
                continue
            drafts = [draft(learner, *each) for learner, each in zip(some, gathered, strict=True)]
            complete(drafts, self._ranks)
            strides.begin(drafts, self._ranks)
            strides.limit(drafts, self._ranks)
            if self.safeguards.guard:
                guard.commit(drafts, apply)
            else:
                for made in drafts:
                    commit(made, None, apply)
        if self._ranks is not None and held:
            order = (p for group in self.param_groups for p in group["params"])
            self._ranks.subtract(self.safeguards, held, order)

    def _gather(self, learner: Learner, gradients: Gradients) -> Gathered:
        everything = zip(self.param_groups, (levels[0] for levels in self._levels), strict=True)
        members = [each for each in everything if self.per == "tower" or each[0] is learner.store]
        alone_from = PIECE
        if self._compiled is not None:
            alone_from = self._compiled.alone_from(self.param_groups)
        return gather(learner, members, self.state, self.per, gradients, alone_from, self._ranks)

    def _settle(self) -> None:
        if self._compiled is not None:
            self._compiled.settle()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers alone: all that `load_state_dict` goes on from, to the bit."""
        self._settle()
        if not any(map(sharded.is_spread, self.state)):
            return super().state_dict()
        handle = self.register_state_dict_post_hook(sharded.state_dict_hook, prepend=True)
        try:
            return super().state_dict()
        finally:
            handle.remove()

    @torch.inference_mode(False)
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``, to the bit: its values replace the initial ones given here.

        Raises:
            GdtuoError: it is the state of another tower, or of a later version of this package.
        """
        load(self, self._levels, super().load_state_dict, state_dict, self._follow_parameters)

    def _follow_parameters(self) -> None:
        """After loading, or where parameters were moved or cast after the tower was made."""
        if self._compiled is not None:
            self._compiled.forget()
        for group, levels in zip(self.param_groups, self._levels, strict=True):
            groups.follow(group, self.state, levels, self.safeguards.guard, self._kind(group))
        for learner in self._learners():
            learner.add_start()
        self._kinds = groups.kinds(p for group in self.param_groups for p in group["params"])

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        parameters = (p for group in self.param_groups for p in group["params"])
        self._ranks = Ranks.of(parameters, self.__dict__.get("_ranks"))  # which are not copied

    def __getstate__(self) -> dict[str, Any]:
        self._settle()
        own = ["rule", "per", "maximize", "safeguards"]
        own += ["_levels", "_kinds", "_has_warned", "_compiled"]
        return {**super().__getstate__(), **{name: getattr(self, name) for name in own}}

    def __repr__(self) -> str:
        counts = [len(group["params"]) for group in self.param_groups]
        return f"Tower({self.rule}, parameters in each group: {counts})"
