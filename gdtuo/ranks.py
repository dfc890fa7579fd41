"""The processes that hold a tower's parameters together, and what they add up.

Which numbers are summed, and why that is all, is said in `gdtuo.sharded`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from gdtuo.cell import Cell
from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.safeguards import Safeguards
from gdtuo.sharded import is_gathered, is_spread

#: Steps that are still to be subtracted, each with its cell.
Held = list[tuple[Cell, Tensor]]


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The processes that hold a tower's parameters together."""

    numbers: tuple[int, ...]
    group: Any  #: torch's ProcessGroup of all of them
    is_first: bool
    device_type: str  #: of tensors that the group can add up

    @classmethod
    def of(cls, parameters: Iterable[Tensor], before: Ranks | None = None) -> Ranks | None:
        """Those of ``parameters``, ``before`` if they are the same; None: nothing is to be added.

        Raises:
            GdtuoError: some of the parameters are on other ranks than the rest.
        """
        meshes: list[Any] = []
        for p in parameters:
            if is_spread(p) and p.device_mesh not in meshes:
                meshes.append(p.device_mesh)
        if not meshes:
            return None
        everywhere = [tuple(sorted(mesh.mesh.flatten().tolist())) for mesh in meshes]
        numbers = everywhere[0]
        for mesh, others in zip(meshes, everywhere, strict=True):
            if others != numbers:
                raise GdtuoError(
                    f"Tower: parameters are spread over {meshes[0]}, ranks {list(numbers)}, and "
                    f"over {mesh}, ranks {list(others)}, so that no sum over ranks counts each "
                    "once. Spread all of them over the same ranks, or give each its own tower."
                )
        if before is not None and before.numbers == numbers:
            return before
        if len(numbers) == 1:
            return None
        group = _group(meshes, numbers)
        return cls(numbers, group, torch.distributed.get_rank(group) == 0, meshes[0].device_type)

    def counts(self, p: Tensor, level: Level) -> bool:
        """Whether the hypergradient of ``p`` here goes into the sum over ranks: each makes that of
        its part of ``p``, or all make that of the whole matrix, where one is gathered."""
        return self.is_first if is_gathered(p, level) else self.holds(p)

    def holds(self, p: Tensor) -> bool:
        """Whether this rank's part of ``p`` is the first of its replicas, which is to be counted.
        Plain tensors are taken to be replicas on all ranks."""
        if not is_spread(p):
            return self.is_first
        at = p.device_mesh.get_coordinate()
        return all(i == 0 for i, each in zip(at, p.placements, strict=True) if each.is_replicate())

    def sums(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """The sum over ranks of each of ``parts``, by one all-reduce; the same to the bit on all.
        Every rank has to give as many, of the same sizes."""
        if not parts:
            return []
        dtype = torch.float64 if any(x.dtype == torch.float64 for x in parts) else torch.float32
        buffer = torch.cat([x.reshape(-1).to(self.device_type, dtype) for x in parts])
        torch.distributed.all_reduce(buffer, group=self.group)
        whole = torch.split(buffer, [x.numel() for x in parts])
        return [y.view(x.shape).to(x) for x, y in zip(parts, whole, strict=True)]

    def subtract(self, safeguards: Safeguards, held: Held, order: Iterable[Tensor]) -> None:
        """w <- w - step, in place, with each step capped by norms over all ranks: one more sum,
        of parameters in an ``order`` that is every rank's, as that of cells need not be."""
        pairs = {
            p: pair
            for cell, step in held
            for p, *pair in zip(cell.parameters, cell.tensors, cell.split(step), strict=True)
        }
        parameters = [p for p in order if p in pairs]
        tensors = [pairs[p][0] for p in parameters]
        steps = [pairs[p][1].nan_to_num(nan=math.nan) for p in parameters]  # as in `capped`
        squares = [
            torch.linalg.vector_norm(x, dtype=torch.float64) ** 2 * self.holds(p)
            for p, x in zip([*parameters, *parameters], [*tensors, *steps], strict=True)
        ]
        norms = [square.sqrt() for square in self.sums(squares)]
        lengths, sizes = norms[len(tensors) :], [p.numel() for p in parameters]
        capped = safeguards.shortened(steps, lengths, norms[: len(tensors)], sizes)
        for tensor, step in zip(tensors, capped, strict=True):
            tensor.sub_(step.view_as(tensor))


def _group(meshes: Sequence[Any], numbers: tuple[int, ...]) -> Any:
    """A process group of the ranks of ``meshes``, a present one if there is one."""
    if len(numbers) == torch.distributed.get_world_size():
        return torch.distributed.group.WORLD
    for mesh in meshes:
        if mesh.ndim == 1:
            return mesh.get_group()
    # Of a mesh of several dimensions, there is a group along each, but none of them all.
    return torch.distributed.new_group(list(numbers), use_local_synchronization=True)
