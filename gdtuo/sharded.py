"""Parameters spread over processes (DTensors): FSDP2, tensor parallelism, or both.

Each rank updates its own part of every tensor, by the very code of a single process. An update of
single elements needs nothing else; what it is differentiated to, the hypergradient, is a sum over
elements, and so over ranks::

    dL/dx_0 = sum over ranks of (their part's hypergradient), replicas counted once

Level 0's sums, of all groups at once, are made whole by one all-reduce of a few numbers a step.
The levels above are computed from them alike on every rank.

``optimizer.state`` holds this rank's parts as plain tensors, which is all that a step looks at.
They are DTensors, like their parameters, in `Tower.state_dict`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any, TypeGuard

import torch
from torch import Tensor

from gdtuo.cell import Cell, Store
from gdtuo.core import Inputs, Level
from gdtuo.errors import GdtuoError
from gdtuo.rule import State


def is_spread(x: Any) -> TypeGuard[Any]:
    """Whether ``x`` is a DTensor; there are none where nobody has imported them."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def part_of(p: Tensor) -> Tensor:
    """This rank's part of ``p``, to be written to; a tensor that is not spread is its own."""
    if not is_spread(p):
        return p
    with torch.no_grad():
        part = p.to_local()
    # One that a collective is still to fill is of another type.
    whole: Tensor = part.wait() if hasattr(part, "trigger_wait") else part
    return whole


def part_like(p: Tensor, value: Tensor, what: str) -> Tensor:
    """This rank's part of ``value`` where that of ``p`` is: a partial sum is completed, and what
    lies otherwise is brought there."""
    if not is_spread(p) and not is_spread(value):
        return value
    if not is_spread(p) or not is_spread(value) or value.device_mesh != p.device_mesh:
        raise GdtuoError(
            f"Tower.step: {what} {_described(value)} for a parameter {_described(p)}. Give one on "
            "the parameter's own mesh: distribute_tensor(..., p.device_mesh, p.placements)."
        )
    if value.placements != p.placements:
        value = value.redistribute(placements=p.placements)
    return part_of(value)


def placed(
    parameters: Iterable[Tensor], values: Iterable[Tensor | None], what: str
) -> dict[Tensor, Tensor]:
    """The parts of the ``values`` of spread ``parameters``. What has to be communicated for them is
    in the order of the parameters, which is every rank's."""
    return {
        p: part_like(p, value, what)
        for p, value in zip(parameters, values, strict=True)
        if value is not None and (is_spread(p) or is_spread(value))
    }


def _described(x: Tensor) -> str:
    if not is_spread(x):
        return f"that is a plain tensor of shape {list(x.shape)}"
    return f"that is a DTensor of shape {list(x.shape)} on {x.device_mesh}"


def check(p: Tensor) -> None:
    """Raise `GdtuoError` where ``p`` is spread in a way that can't be told from it."""
    if getattr(p, "_fsdp_flattened", False):
        raise GdtuoError(
            f"Tower: a parameter of shape {list(p.shape)} is that of a FullyShardedDataParallel, "
            "which does not say what of it is on this rank. Use fully_shard (FSDP2) instead: "
            "from torch.distributed.fsdp import fully_shard."
        )
    if is_spread(p) and any(each.is_partial() for each in p.placements):
        raise GdtuoError(
            f"Tower: a parameter of shape {list(p.shape)} has placements {p.placements}, a partial "
            "sum. Give one that is Shard or Replicate: p.redistribute(placements=[Replicate()])."
        )


def check_whole_model() -> None:
    """Raise `GdtuoError` where a ``ZeroRedundancyOptimizer`` is making a tower: it gives each rank
    other parameters, and says so to nobody."""
    module = sys.modules.get("torch.distributed.optim.zero_redundancy_optimizer")
    frame = sys._getframe(1) if module is not None else None
    while module is not None and frame is not None:
        if isinstance(frame.f_locals.get("self"), module.ZeroRedundancyOptimizer):
            raise GdtuoError(
                "Tower: a ZeroRedundancyOptimizer gives each rank a tower of its own over some of "
                "the parameters, and each would learn other hyperparameters. Use fully_shard "
                "(FSDP2), which shards the tower's state too: fully_shard(model), then "
                "gdtuo.Tower(model.parameters(), rule)."
            )
        frame = frame.f_back


def is_gathered(p: Tensor, level: Level) -> bool:
    """Whether ``p`` is updated by a rule that needs all of it, and not all of it is here."""
    return (
        is_spread(p)
        and not level.rule.elementwise
        and not all(each.is_replicate() for each in p.placements)
    )


def cell_for(p: Tensor, level: Level) -> type[Cell]:
    return GatheredCell if is_gathered(p, level) else Cell


class GatheredCell(Cell):
    """A tensor of which a rank has a part, for a rule that looks at all of it (`gdtuo.Muon`).

    What is kept is this rank's part. For each use all of it is gathered, and given up again before
    the next tensor's turn: every rank makes the whole step, and takes its part of it.
    """

    def first_state(self, tensor: Tensor, dtype: torch.dtype) -> State:
        whole = self._gathered(tensor.detach())
        state = super().first_state(whole, dtype)
        for key, value in state.items():
            if key not in self.level.scalar_keys and value.shape != whole.shape:
                raise GdtuoError(
                    f"{type(self.level.rule).__name__}: the state {key} of a DTensor of shape "
                    f"{list(whole.shape)} has shape {list(value.shape)}. Expected the tensor's, or "
                    "(), so that each rank can keep its part."
                )
        return self._own_state(state)

    def update(self, learned: Tensor, constant: Tensor, inputs: Inputs) -> tuple[Tensor, State]:
        step, state = super().update(learned, constant, self._gathered_inputs(inputs))
        return self._own(step), self._own_state(state)

    def pulled(
        self, learned: Tensor, constant: Tensor, previous: Inputs, along: Tensor | None
    ) -> tuple[Tensor | None, State]:
        along = None if along is None else self._gathered(along)
        whole = self._gathered_inputs(previous)
        v, state = super().pulled(learned, constant, whole, along)
        return v, self._own_state(state)

    def _gathered(self, part: Tensor) -> Tensor:
        whole: Tensor = spread_like(self.parameters[0], part).full_tensor()
        return whole

    def _gathered_inputs(self, inputs: Inputs) -> Inputs:
        g, w = (None if x is None else self._gathered(x) for x in (inputs.g, inputs.w))
        scalars = self.level.scalar_keys
        state = {k: x if k in scalars else self._gathered(x) for k, x in inputs.state.items()}
        return dataclasses.replace(inputs, g=g, w=w, state=state)

    def _own(self, whole: Tensor) -> Tensor:
        return cut(self.parameters[0], whole)

    def _own_state(self, state: State) -> State:
        scalars = self.level.scalar_keys
        return {key: x if key in scalars else self._own(x) for key, x in state.items()}


def spread_like(p: Any, part: Tensor) -> Any:
    """The DTensor of which ``part`` is this rank's part, as that of ``p`` is."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        part, p.device_mesh, p.placements, run_check=False, shape=p.shape, stride=p.stride()
    )


def cut(p: Any, whole: Tensor) -> Tensor:
    """This rank's part of ``whole``, which every rank has, where that of ``p`` is."""
    from torch.distributed.tensor import DTensor, Replicate

    everywhere = [Replicate()] * p.device_mesh.ndim
    spread = DTensor.from_local(whole, p.device_mesh, everywhere, run_check=False)
    return part_of(spread.redistribute(placements=p.placements)).contiguous()


def _is_like_parameter(key: str, level: Level) -> bool:
    return key in level.previous_keys or (key in level.state_keys and key not in level.scalar_keys)


def shown(p: Tensor, store: Store, level: Level) -> Store:
    """What is kept of ``p`` as others see it: DTensors, which know their place, instead of parts.
    They share their memory."""
    if not is_spread(p):
        return store
    own = {key: x for key, x in store.items() if _is_like_parameter(key, level)}
    # torch 2.13 neither copies nor saves a DTensor whose part begins amid another tensor.
    store |= {key: x.clone() for key, x in own.items() if x.storage_offset()}
    return store | {key: spread_like(p, store[key]) for key in own}


def state_dict_hook(tower: Any, state_dict: dict[str, Any]) -> None:
    """A hook of a tower's `state_dict`: where this rank keeps parts, have DTensors, like their
    parameters, in it."""
    each = [
        (p, levels[0])
        for group, levels in zip(tower.param_groups, tower._levels, strict=True)
        for p in group["params"]
    ]
    state = state_dict["state"]
    for i, (p, level) in enumerate(each):
        if i in state:
            state[i] = shown(p, state[i], level)


def parts(p: Tensor, store: Store, level: Level) -> Store:
    """What is to be kept of ``p`` of what others give: the parts of DTensors, however these lie, or
    of whole tensors."""
    return {key: _part(p, x) if _is_like_parameter(key, level) else x for key, x in store.items()}


def _part(p: Tensor, value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    if is_spread(value) and not (is_spread(p) and value.device_mesh == p.device_mesh):
        value = value.full_tensor()
    if not is_spread(p):
        return value
    return part_like(p, value, "a state") if is_spread(value) else cut(p, value)
