"""Tensors that step together, and the dictionaries in which what they need to go on is kept."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gdtuo.core import Inputs, Level
from gdtuo.rule import State

Store = dict[str, Any]


@dataclasses.dataclass
class Cell:
    """A few tensors of one dtype, device and step count, updated as one.

    Each has a store, a plain dictionary of tensors and numbers: ``step``, the rule's state, and, if
    a level above learns, ``previous_gradient`` (and ``previous_parameter`` for a rule that reads
    the parameter), the inputs of the last update. While ``is_kept`` is 1 the state is that *before*
    the last update; pulling back through it brings it up to date. At 0 it is up to date already.
    All of it is there from the start: some checkpoints restore only what they find in place.
    """

    level: Level
    tensors: list[Tensor]
    stores: list[Store]
    prefix: str = ""
    copies: int | slice | None = None  #: which copies of the hyperparameters; None: there is one

    def of(self, coordinates: Tensor) -> Tensor:
        """The part of ``coordinates``, one row for each hyperparameter, that these tensors go by:
        a view, whose rows broadcast against a tensor."""
        if self.copies is None:
            return coordinates
        part = coordinates[:, self.copies]
        if isinstance(self.copies, slice):  # one copy for each element
            part = part.view(len(part), *self.tensors[0].shape)
        return part

    def initialize(self, dtype: torch.dtype) -> None:
        for tensor, store in zip(self.tensors, self.stores, strict=True):
            state = self.level.rule.init(tensor.detach().to(dtype))
            if self.level.learned:
                state["previous_gradient"] = torch.zeros_like(tensor)
                if "w" in self.level.rule.inputs:
                    state["previous_parameter"] = torch.zeros_like(tensor)
            numbers = {"step": 0, "is_kept": 0}
            store |= {self.prefix + key: value for key, value in (state | numbers).items()}

    @property
    def steps(self) -> int:
        return int(self.stores[0][self.prefix + "step"])

    @property
    def is_kept(self) -> bool:
        return bool(self.stores[0][self.prefix + "is_kept"])

    def state(self) -> State:
        return {key: self._read(key) for key in self.level.state_keys}

    def previous(self, lr_factor: float = 1.0) -> Inputs:
        """The inputs of the last update."""
        w = self._read("previous_parameter") if "w" in self.level.rule.inputs else None
        return Inputs(self._read("previous_gradient"), self.state(), self.steps, w, lr_factor)

    def next(self, g: Tensor, state: State, lr_factor: float = 1.0) -> Inputs:
        """The inputs of the update to come."""
        w = self.join(self.tensors, copy=True) if "w" in self.level.rule.inputs else None
        return Inputs(g, state, self.steps + 1, w, lr_factor)

    def save(self, inputs: Inputs, state_after: State) -> None:
        """Keep what the next step needs of the update that was just made."""
        if self.level.learned:
            self._write("previous_gradient", inputs.g)
            if inputs.w is not None:
                self._write("previous_parameter", inputs.w)
        self.save_state(inputs.state if self.level.learned else state_after)
        for store in self.stores:
            store[self.prefix + "step"] = inputs.t
            store[self.prefix + "is_kept"] = int(bool(self.level.learned))

    def drop(self, state_after: State) -> None:
        """Forget the last update: these tensors were left out of a step."""
        self.save_state(state_after)
        for store in self.stores:
            store[self.prefix + "is_kept"] = 0

    def save_state(self, state: State) -> None:
        for key, value in state.items():
            self._write(key, value)

    def join(self, parts: Sequence[Tensor], copy: bool = False) -> Tensor:
        """One flat tensor, by a copy unless ``parts`` are all the pieces of one already."""
        if len(parts) == 1:
            return parts[0].detach().clone() if copy else parts[0]
        whole = parts[0]._base
        if not copy and whole is not None and whole.dim() == 1:
            offset = 0
            for part in parts:
                if part._base is not whole or part.storage_offset() != offset:
                    break
                offset += part.numel()
            else:
                if offset == whole.numel():
                    return whole
        return torch.cat([part.detach().reshape(-1) for part in parts])

    def split(self, whole: Tensor) -> list[Tensor]:
        """Pieces of a joined tensor, each in the shape of its own tensor: the inverse of `join`."""
        if len(self.tensors) == 1:
            return [whole]
        pieces = torch.split(whole, [tensor.numel() for tensor in self.tensors])
        return [p.view(t.shape) for p, t in zip(pieces, self.tensors, strict=True)]

    def _read(self, key: str) -> Tensor:
        parts = [store[self.prefix + key] for store in self.stores]
        return parts[0] if key in self.level.scalar_keys else self.join(parts)

    def _write(self, key: str, whole: Tensor) -> None:
        scalar = key in self.level.scalar_keys
        pieces = [whole] * len(self.stores) if scalar else self.split(whole)
        for store, piece in zip(self.stores, pieces, strict=True):
            store[self.prefix + key] = piece
