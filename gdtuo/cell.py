"""Tensors that step together, and the dictionaries in which what they need to go on is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import EllipsisType
from typing import Any

import torch
from torch import Tensor

from gdtuo.core import Inputs, Level, first_state, pull_back, remade, update
from gdtuo.rule import State

Store = dict[str, Any]

#: Elements: a tensor of more is updated by itself, in pieces of so many, so that all that an update
#: makes on its way stays in the processor's caches, and its memory is used again.
PIECE = 2**18

#: What a guard keeps beside the state: how many updates it skipped, and whether the last was not.
GUARDED = ("skipped", "is_valid")


@dataclasses.dataclass
class Cell:
    """A few tensors of one dtype, device and step count, updated as one.

    Each has a store, a plain dictionary of tensors and numbers: ``step``, the rule's state, and, if
    a level above learns, ``previous_gradient`` (and ``previous_parameter`` for a rule that reads
    the parameter), the inputs of the last update. While ``is_kept`` is 1 the state is that *before*
    the last update; pulling back through it brings it up to date. At 0 it is up to date already.
    All of it is there from the start: some checkpoints restore only what they find in place.

    Under a guard a step may turn out, on the device, not to be taken: ``step`` then counts what was
    tried, and two more tensors tell the device what came of it, ``skipped``, how many of those were
    not taken, and ``is_valid``, whether the update that is kept was taken and has not been dropped
    since. What would be written is chosen by ``ok``, where that is given.
    """

    level: Level
    tensors: list[Tensor]
    stores: list[Store]
    prefix: str = ""
    #: which copies of the hyperparameters; None: there is one; ...: one for each entry of the first
    #: dimension of the tensors, which are then joined to one of shape [copies, elements]
    copies: int | slice | EllipsisType | None = None
    guard: int = 0  #: see `Safeguards`
    in_pieces: bool = False  #: one tensor, too large to be updated at once
    in_place: bool = False  #: what is kept is written into the tensors that are there
    #: of the model: the tensors themselves, or those that they are this rank's parts of
    parameters: Sequence[Tensor] = ()
    counts: bool = True  #: whether its hypergradient is counted on this rank, not on another

    def pieces(self) -> Iterator[tuple[Cell, slice]]:
        """Cells of one part of the tensor after the other, and where that is; or this one. What is
        written to them is written to this one, `count` aside."""
        if not self.in_pieces:
            yield self, slice(None)
            return
        (tensor,), (store,) = self.tensors, self.stores
        scalars = {self.prefix + key for key in store if self._is_scalar(key)}
        flat = {
            key: value.view(-1)
            for key, value in store.items()
            if isinstance(value, Tensor) and key not in scalars
        }
        for start in range(0, tensor.numel(), PIECE):
            at = slice(start, start + PIECE)
            part = store | {key: value[at] for key, value in flat.items()}
            yield (
                dataclasses.replace(
                    self,
                    tensors=[tensor.view(-1)[at]],
                    stores=[part],
                    in_pieces=False,
                    in_place=True,
                ),
                at,
            )
        store |= {key: part[key] for key in scalars}

    def of(self, coordinates: Tensor) -> Tensor:
        """The part of ``coordinates``, one row for each hyperparameter, that these tensors go by:
        a view, whose rows broadcast against a tensor."""
        if self.copies is None:
            return coordinates
        if self.copies is ...:
            return coordinates[..., None]
        part = coordinates[:, self.copies]
        if isinstance(self.copies, slice):  # one copy for each element
            part = part.view(len(part), *self.tensors[0].shape)
        return part

    def initialize(self, dtype: torch.dtype) -> None:
        for tensor, store in zip(self.tensors, self.stores, strict=True):
            state = self.first_state(tensor, dtype)
            state |= {key: torch.zeros_like(tensor) for key in self.level.previous_keys}
            numbers = {"step": 0, "is_kept": 0}
            store |= {self.prefix + key: value for key, value in (state | numbers).items()}
            set_guard(store, self.prefix, self.guard, tensor.device)

    def first_state(self, tensor: Tensor, dtype: torch.dtype) -> State:
        return first_state(self.level.rule, tensor.detach().to(dtype))

    @property
    def steps(self) -> int:
        return int(self.stores[0][self.prefix + "step"])

    @property
    def is_kept(self) -> bool:
        return bool(self.stores[0][self.prefix + "is_kept"])

    @property
    def t(self) -> int | Tensor:
        """How many updates there have been: known to the device alone where there is a guard."""
        steps: int | Tensor = self.stores[0][self.prefix + "step"]  # in a graph a tensor
        return steps - self._read("skipped") if self.guard else steps

    def state(self) -> State:
        return {key: self._read(key) for key in self.level.state_keys}

    def previous(self, lr_factor: float | Tensor = 1.0) -> Inputs:
        """The inputs of the last update."""
        g, w = (
            self._read(key) if key in self.level.previous_keys else None
            for key in ("previous_gradient", "previous_parameter")
        )
        return Inputs(g, self.state(), self.t, w, lr_factor)

    def next(self, g: Tensor, state: State, lr_factor: float | Tensor = 1.0) -> Inputs:
        """The inputs of the update to come."""
        w = self.joined_tensors() if "w" in self.level.inputs else None
        return Inputs(g, state, self.t + 1, w, lr_factor)

    def catch_up(
        self,
        learned: Tensor,
        constant: Tensor,
        along: Tensor | None,
        lr_factor: float | Tensor = 1.0,
    ) -> tuple[Tensor | None, State]:
        """The state up to date, by the last update made again, which is also pulled back: the
        hypergradient of ``learned`` along a cotangent. None where nothing is kept or asked for."""
        state = self.state()
        if not self.is_kept or (along is None and not self.level.lags):
            return None, state
        v, after = self.pulled(learned, constant, self.previous(lr_factor), along)
        if self.guard:
            valid = self._read("is_valid")
            after = {key: torch.where(valid, after[key], state[key]) for key in state}
            v = None if v is None else torch.where(valid, v, 0.0)
        return v, after

    def pulled(
        self, learned: Tensor, constant: Tensor, previous: Inputs, along: Tensor | None
    ) -> tuple[Tensor | None, State]:
        """The hypergradient through an update along a cotangent, if any, and the state after it."""
        last = (self.level, self.of(learned), constant, previous)
        return (None, remade(*last)[1]) if along is None else pull_back(*last, along)

    def update(self, learned: Tensor, constant: Tensor, inputs: Inputs) -> tuple[Tensor, State]:
        """The step, and the state after it."""
        return update(self.level, self.of(learned), constant, inputs)

    def save(self, inputs: Inputs, state_after: State, ok: Tensor | None = None) -> None:
        """Keep what the next step needs of the update that was just made."""
        for key in self.level.previous_keys:
            previous = inputs.g if key == "previous_gradient" else inputs.w
            assert previous is not None
            self._write(key, previous, ok)
        self._save_state(inputs.state if self.level.lags else state_after, ok)

    def count(self, ok: Tensor | None = None) -> None:
        """Count an update, which is kept if a level above learns."""
        for store in self.stores:
            store[self.prefix + "step"] = store[self.prefix + "step"] + 1
            store[self.prefix + "is_kept"] = (2 * self.guard or 1) if self.level.learned else 0
        if ok is not None:
            self._write("skipped", self._read("skipped") + ~ok)
            self._write("is_valid", self._read("is_valid") | ok)

    def joined(self) -> dict[str, Tensor]:
        """All tensors that are kept, each joined to one for good: what is written into it is kept.
        None of them is anyone else's."""
        flags = GUARDED if self.guard else ()
        result: dict[str, Tensor] = {}
        for key in (*self.level.state_keys, *self.level.previous_keys, *flags):
            whole = self._read(key)
            if self._is_scalar(key):
                whole = whole.clone()
                for store in self.stores:
                    store[self.prefix + key] = whole
            elif not self.in_place:
                whole = parted(whole)
                self._write(key, whole)
            result[key] = self.flat(whole)
        return result

    def flat(self, whole: Tensor) -> Tensor:
        """A joined tensor, or one that is ``in_place``, without dimensions that mean nothing.

        What is written into is contiguous, and no copy then; a gradient may be strided otherwise.
        """
        return whole.reshape(*self._rows, -1) if self.in_place and whole.dim() else whole

    def joined_tensors(self) -> Tensor:
        """A copy of the tensors themselves."""
        return self.join(self.tensors, copy=True)

    def drop(self, state_after: State, ok: Tensor | None = None) -> None:
        """Forget the last update: these tensors were left out of a step.

        Under a guard only the device knows whether that step was taken, so that it is forgotten
        again the next time. It surely is when that was done as often as steps may be skipped: twice
        the limit, for the counts are looked at once in so many steps.
        """
        self._save_state(state_after, ok)
        for store in self.stores:
            store[self.prefix + "is_kept"] -= 1
        if ok is not None:
            self._write("is_valid", self._read("is_valid") & ~ok)

    def _save_state(self, state: State, ok: Tensor | None) -> None:
        for key, value in state.items():
            self._write(key, value, ok)

    def join(self, parts: Sequence[Tensor], copy: bool = False) -> Tensor:
        """One flat tensor, by a copy unless ``parts`` are all the pieces of one already."""
        rows = self._rows
        if len(parts) == 1:
            part = parts[0].reshape(*rows, -1) if rows else parts[0]
            return part.detach().clone() if copy else part
        whole = parts[0]._base
        if not copy and whole is not None and whole.dim() == 1 + len(rows):
            offset = 0
            for part in parts:
                if part._base is not whole or part.storage_offset() != offset:
                    break
                if not _in_order(part, whole.stride()):
                    break
                offset += part.numel() // rows.numel()
            else:
                if offset == whole.shape[-1]:
                    return whole
        return torch.cat([part.detach().reshape(*rows, -1) for part in parts], -1)

    def split(self, whole: Tensor) -> list[Tensor]:
        """Pieces of a joined tensor, each in the shape of its own tensor: the inverse of `join`."""
        rows = self._rows
        if len(self.tensors) == 1:
            return [whole.view(self.tensors[0].shape) if rows and whole.dim() else whole]
        sizes = [tensor.numel() // rows.numel() for tensor in self.tensors]
        pieces = torch.split(whole, sizes, -1)
        return [p.view(t.shape) for p, t in zip(pieces, self.tensors, strict=True)]

    @property
    def _rows(self) -> torch.Size:
        """The first dimensions that a joined tensor keeps."""
        return self.tensors[0].shape[:1] if self.copies is ... else torch.Size()

    def _is_scalar(self, key: str) -> bool:
        return key in GUARDED or key in self.level.scalar_keys

    def _read(self, key: str) -> Tensor:
        parts = [store[self.prefix + key] for store in self.stores]
        return parts[0] if self._is_scalar(key) else self.join(parts)

    def _write(self, key: str, whole: Tensor, ok: Tensor | None = None) -> None:
        if ok is not None:
            whole = torch.where(ok, whole, self._read(key))
        if self._is_scalar(key):
            pieces = list(whole.repeat(len(self.stores)).unbind())
        elif self.in_place:
            self._read(key).copy_(whole)
            return
        else:
            pieces = self.split(whole)
        for store, piece in zip(self.stores, pieces, strict=True):
            store[self.prefix + key] = piece


def _in_order(part: Tensor, strides: Sequence[int]) -> bool:
    """Whether a piece of a tensor of so many ``strides``, of which the last dimension was cut, has
    its elements in the order of a flat one."""
    outer, expected = len(strides) - 1, strides[-1]
    dimensions = list(zip(part.shape, part.stride(), strict=True))
    for size, stride in reversed(dimensions[outer:]):
        if size != 1 and stride != expected:
            return False
        expected *= max(size, 1)
    outside = zip(dimensions, strides[:-1], strict=False)
    return all(size == 1 or stride == other for (size, stride), other in outside)


def is_contiguous(tensor: Tensor, store: Store) -> bool:
    """Whether all that is kept of a tensor, and itself, lies in one order without gaps."""
    everything = (tensor, *(x for x in store.values() if isinstance(x, Tensor)))
    return all(x.is_contiguous() for x in everything)


def parted(value: Tensor) -> Tensor:
    """A copy of what is part of a larger tensor, all of which would be held as long as it is."""
    return value.clone() if value.untyped_storage().nbytes() > value.nbytes else value


def halved(saved: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """Which of ``names`` are lacking where others of them are there: all are kept, or none."""
    lacking = [name for name in names if name not in saved]
    return lacking if len(lacking) < len(names) else []


def set_guard(store: Store, prefix: str, guard: int, device: torch.device) -> None:
    """Add what a guard needs to what is kept; or, without one, take it in and leave it out."""
    if guard and prefix + "skipped" not in store:
        store[prefix + "skipped"] = torch.zeros((), dtype=torch.int64, device=device)
        kept = bool(store[prefix + "is_kept"])
        store[prefix + "is_valid"] = torch.full((), kept, device=device)
    if guard:
        store[prefix + "is_kept"] = 2 * guard if store[prefix + "is_kept"] else 0
    elif prefix + "skipped" in store:
        store[prefix + "step"] -= int(store.pop(prefix + "skipped"))
        is_valid = bool(store.pop(prefix + "is_valid"))
        store[prefix + "is_kept"] = int(is_valid and store[prefix + "is_kept"] > 0)
        store.pop("left_out", None)
