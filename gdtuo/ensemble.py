"""Copies of a model trained at once, each with hyperparameters of its own, as batches of models."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from gdtuo.errors import GdtuoError
from gdtuo.layout import levels_of
from gdtuo.members import check_models, check_structures, listed, one_for_each
from gdtuo.rule import Rule
from gdtuo.safeguards import NO_SAFEGUARDS, Safeguards
from gdtuo.stacked import MemberSafeguards, StackedTower


class Ensemble:
    """Train N copies of a model at once, each with its own weights and hyperparameters.

    Each member goes the way it would go alone, to rounding; one that diverges disturbs no other.
    A step is one batched forward and backward pass (``torch.vmap`` over
    ``torch.func.functional_call``) and one step of a `Tower` over the stacked parameters.
    The loss is the sum over the members, so that each has its own gradients::

        outputs = ensemble(x)                                      # [N, batch, ...]
        losses = torch.vmap(loss_function, (0, None))(outputs, y)  # [N]
        losses.sum().backward()

    Args:
        models: N modules alike in everything but the values of parameters and buffers, which are
            copied and stacked; the modules themselves are left alone. Seeds are theirs: initialize
            each as you like. Anything else in them (tensors that are no buffers, say) is the first
            one's, for all.
        rules: the tower of each member, as a rule or its text; or one, for all. They may differ in
            the values at which hyperparameters start and stay, and in nothing else: all learn the
            same names, with the same rules, constants, coordinates and bounds. A momentum or weight
            decay of 0 is none at all, which is something else.
        safeguards: as of a `Tower`, each member's for itself. There is no guard here: a member
            whose values are not finite holds back no other.
        compile: as of a `Tower`: its steps, of all members, as one compiled graph.

    ``ensemble.tower`` is the ``torch.optim.Optimizer``: schedulers, `History`, ``freeze`` and
    ``hypergradients`` work on it. ``param_groups[0]["lr"]`` starts at the first member's, and a
    schedule is its factor nominal / initial, on the learned ``lr`` of every member.

    A forward pass must be one that ``torch.vmap`` can batch: no branches on the values of tensors,
    no ``.item()``, and no layer without a batching rule, such as torch's LSTM. Random layers such
    as dropout draw for each member by itself, and not what it would have drawn alone. BatchNorm's
    statistics are each member's own. A member left out of the loss has gradients of 0, where alone
    it would have none.

    Memory: N times that of one model, its tower and its activations. Time: what is saved is the
    cost of each operation beside its arithmetic. On a processor that is little once a model's
    tensors have a hundred thousand elements, and what no longer fits its caches may cost more.

    Raises:
        GdtuoError: no models, models or rules that differ in more than values, another number of
            rules, a rule that is not elementwise at level 0, a guard; in a call, inputs that are
            not one for each member; in `load_state_dict`, the state of another ensemble.

    Example:
        >>> import gdtuo, torch
        >>> models = [torch.nn.Linear(2, 1) for _ in range(3)]
        >>> rules = [f"SGD({lr}) / SGD(1e-4)" for lr in (0.1, 0.01, 0.001)]
        >>> ensemble = gdtuo.Ensemble(models, rules)
        >>> for _ in range(2):
        ...     ensemble.zero_grad()
        ...     ensemble(torch.ones(4, 2)).square().mean((1, 2)).sum().backward()
        ...     ensemble.step()
        >>> ensemble.member(2)
        Linear(in_features=2, out_features=1, bias=True)
        >>> round(ensemble.hyperparameters(1)[0]["lr"], 2)
        0.01

    Source: hyperparameters as in the paper, section 2; stacking as in PyTorch's *Model ensembling*.
    """

    def __init__(
        self,
        models: Iterable[nn.Module],
        rules: Rule | str | Sequence[Rule | str],
        *,
        safeguards: Safeguards = NO_SAFEGUARDS,
        compile: bool | str | Callable[..., Any] = False,
    ) -> None:
        given = listed(models)
        check_models(given)
        if not isinstance(safeguards, Safeguards):
            raise GdtuoError(f"Ensemble: safeguards={safeguards!r}. Give a gdtuo.Safeguards(...).")
        if safeguards.guard:
            raise GdtuoError(
                f"Ensemble: safeguards has guard={safeguards.guard}, which holds back whole steps, "
                "and so every member because of one. Leave it out: a member that is not finite "
                "disturbs no other."
            )
        towers = [levels_of(rule) for rule in one_for_each(rules, len(given))]
        check_structures(towers)
        self._module = copy.deepcopy(given[0])
        self._parameters, self._buffers = torch.func.stack_module_state(given)
        self.tower = StackedTower(
            self._parameters.items(),
            towers[0][0].rule,
            per="member",
            safeguards=MemberSafeguards(**dataclasses.asdict(safeguards)),
            compile=compile,
        )
        self.tower.start(towers)

    def __call__(self, *inputs: Any, separate: bool = False, **named: Any) -> Any:
        """What each member makes of the inputs, in a first dimension of N.

        Args:
            inputs, named: of the model's forward, given to all.
            separate: each tensor in them, and in lists and dictionaries among them, has a first
                dimension of N too, an entry a member.
        """

        def along(x: Any) -> int | None:
            if not separate or not isinstance(x, Tensor):
                return None
            if x.shape[:1] != (len(self),):
                raise GdtuoError(
                    f"Ensemble: separate=True with an input of shape {tuple(x.shape)} for "
                    f"{len(self)} members. Give [{len(self)}, batch, ...], or leave separate out."
                )
            return 0

        dimensions = (0, 0, tree_map(along, inputs), tree_map(along, named))
        forward = torch.vmap(self._forward, dimensions, randomness="different")
        return forward(self._parameters, self._buffers, inputs, named)

    def _forward(self, parameters: Any, buffers: Any, inputs: Any, named: Any) -> Any:
        own = {**parameters, **buffers}
        outputs = torch.func.functional_call(self._module, own, inputs, named)
        with torch.no_grad():
            for name, buffer in buffers.items():
                if own[name] is not buffer:  # the model has assigned another
                    buffer.copy_(own[name])
        return outputs

    def __len__(self) -> int:
        return len(next(iter(self._parameters.values())))

    def __repr__(self) -> str:
        return f"Ensemble({len(self)} x {type(self._module).__name__}, {self.tower.rule})"

    def parameters(self) -> Iterator[Tensor]:
        """The stacked parameters, [N, ...] each, leaves that `step` updates in place."""
        return iter(self._parameters.values())

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """`parameters`, by the names that they have in a member."""
        return iter(self._parameters.items())

    def train(self, mode: bool = True) -> Ensemble:
        """Set all members to training or, with ``mode=False``, to evaluation, as a module's."""
        self._module.train(mode)
        return self

    def eval(self) -> Ensemble:
        """Set all members to evaluation."""
        return self.train(False)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all members."""
        self.tower.zero_grad(set_to_none)

    def step(self, *, cotangents: Iterable[Tensor | None] | None = None) -> None:
        """Update the hyperparameters of every member, then its parameters, as `Tower.step`.

        Args:
            cotangents: as of `Tower.step`, a tensor [N, ...] for each stacked parameter.
        """
        self.tower.step(cotangents=cotangents)

    def hyperparameters(self, member: int) -> list[dict[str, Any]]:
        """A member's values, level 0 first, in their own units (`Tower.hyperparameters`)."""
        return self.tower.learner_of(self._checked(member)).values(None)

    def hypergradients(self, member: int) -> list[dict[str, Any]]:
        """A member's last hypergradients (`Tower.hypergradients`)."""
        return self.tower.learner_of(self._checked(member)).hypergradients(None)

    def member(self, member: int) -> nn.Module:
        """An ordinary module with a copy of that member's parameters and buffers."""
        i = self._checked(member)
        module = copy.deepcopy(self._module)
        own = itertools.chain(module.named_parameters(), module.named_buffers())
        stacked = {**self._parameters, **self._buffers}
        with torch.no_grad():
            for name, tensor in own:
                tensor.copy_(stacked[name][i])
        return module

    def _checked(self, member: int) -> int:
        if not isinstance(member, int) or not -len(self) <= member < len(self):
            raise GdtuoError(f"member={member!r}, but there are {len(self)}. Count from 0.")
        return member

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` goes on from: tensors and numbers alone."""
        tensors = {name: p.detach() for name, p in self._parameters.items()}
        return {
            "parameters": tensors,
            "buffers": dict(self._buffers),
            "tower": self.tower.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from ``state_dict``, to the bit: weights and hyperparameters of all members.

        Raises:
            GdtuoError: it is the state of other models, of another number of them, or of another
                tower.
        """
        ours = {"parameters": self._parameters, "buffers": self._buffers}
        if not isinstance(state_dict, Mapping) or not {*ours, "tower"} <= state_dict.keys():
            raise GdtuoError(
                f"The state is a {type(state_dict).__name__} and not that of an ensemble, with "
                "'parameters', 'buffers' and 'tower'. Give what its `state_dict()` returned."
            )
        for kind, tensors in ours.items():
            saved, here = _shapes(state_dict[kind]), _shapes(tensors)
            if saved != here:
                raise GdtuoError(
                    f"The state is that of another ensemble.\n  saved {kind}: {saved}\n  here:  "
                    f"{here}\nBuild the ensemble from as many models of the same architecture."
                )
        self.tower.load_state_dict(state_dict["tower"])
        with torch.no_grad():
            for kind, tensors in ours.items():
                for name, tensor in tensors.items():
                    tensor.copy_(state_dict[kind][name])


def _shapes(tensors: Any) -> Any:
    """Of tensors by name; what is none of them as it is."""
    if not isinstance(tensors, Mapping):
        return tensors
    return {k: tuple(x.shape) if isinstance(x, Tensor) else x for k, x in tensors.items()}
