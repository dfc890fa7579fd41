"""What keeps a tower's steps sane. All of it lies outside the differentiated update."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from numbers import Integral
from typing import Literal, get_args

import torch
from torch import Tensor

from gdtuo.core import arithmetic_dtype
from gdtuo.errors import GdtuoError
from gdtuo.hyperparameters import as_float, is_number

Mode = Literal["plain", "normalized", "sign"]


@dataclasses.dataclass(frozen=True)
class Safeguards:
    """Options of a `Tower`; by default there are none, as in the paper.

    Args:
        clip: the largest norm of one level's hypergradient, in its coordinates; a longer one is
            scaled down before the level above sees it. Keeps one bad batch from throwing the step
            size away. None: no limit.
        hyper_step: what the level above is given for a hypergradient v: ``"plain"``: v;
            ``"normalized"``: v over its norm; ``"sign"``: the sign of each entry. The last two are
            scale-free: an upper step size is then the distance that a coordinate moves in a step,
            whatever the task, and best taken in ``log`` coordinates.
        delay: how many first steps learn nothing, while the gradients are not yet typical;
            those that a guard skips count too.
        cap: the longest step of one tensor, relative to its own norm (taken as at least 0.01 times
            the square root of its number of elements). Keeps a step size that is far too large from
            destroying the weights before it is mended. The hypergradient is that of the step
            without the cap. None: no limit.
        start: from what to what length, relative to the norm of all parameters that share a step
            size, their first step is to be: the step size that level 0 starts from is brought to
            the nearest end of that range, as if no schedule had a part in it. So a first guess may
            be anything. A step of length 0 is not the first one, for up to 100 steps, of which one
            flag is read from the device, as a rule in the second step alone; one that the guard
            skips is none at all. None: it starts as given.
        stride: how long a step of all parameters that share a step size may be, relative to their
            norm. Where it would be longer, the step size is brought down by as much before the step
            is taken, which is then as long as that. It may be longer where a part of it does not
            depend on the step size, as with an average of weights: such a part is not limited, and
            where it alone is too long the step size comes to nothing while that lasts. None: no
            limit. Both are for an ``lr`` that is learned alone, in ``log`` coordinates, and are no
            derivatives. For groups that are to be measured together there is ``per="tower"``.
        guard: how many steps may be skipped in a row. A step in which the gradient, a hypergradient
            or what it would make of a hyperparameter is not finite, or a beta that is below 1 would
            round to 1, is skipped: it changes nothing. It is counted (`Tower.skipped_steps`), the
            first time that values are read there is a warning with the level and the name, and as
            many as this in a row are an error, so that a run that stands still is not taken for a
            stable one; the count is looked at once in so many steps, beside that nothing waits for
            the device. 0: no guard.

    Raises:
        GdtuoError: a value that makes no sense.

    Example:
        >>> import gdtuo, torch
        >>> safe = gdtuo.Safeguards(hyper_step="sign", cap=0.1)
        >>> rule = gdtuo.Adam(1e-6, coordinates={"lr": "log"}, optimizer=gdtuo.SGD({"lr": 0.05}))
        >>> optimizer = gdtuo.Tower(torch.nn.Linear(2, 1).parameters(), rule, safeguards=safe)
    """

    clip: float | None = None
    hyper_step: Mode = "plain"
    delay: int = 0
    cap: float | None = None
    start: tuple[float, float] | None = None
    stride: float | None = None
    guard: int = 0

    def __post_init__(self) -> None:
        for name in ("clip", "cap", "stride"):
            value = getattr(self, name)
            if value is None:
                continue
            if not (is_number(value) and value > 0):
                raise GdtuoError(f"Safeguards: {name}={value!r}. Give a number above 0, or None.")
            object.__setattr__(self, name, as_float(value))
        if self.start is not None:
            if not _is_range(self.start):
                raise GdtuoError(
                    f"Safeguards: start={self.start!r}. Give the shortest and the longest first "
                    "step, (low, high) with 0 < low <= high, or None."
                )
            object.__setattr__(self, "start", tuple(map(as_float, self.start)))
        if self.hyper_step not in get_args(Mode):
            raise GdtuoError(
                f"Safeguards: hyper_step={self.hyper_step!r}. Expected one of "
                f"{', '.join(map(repr, get_args(Mode)))}."
            )
        for name in ("delay", "guard"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
                raise GdtuoError(f"Safeguards: {name}={value!r}. Give a number of steps from 0.")
            object.__setattr__(self, name, int(value))

    def tamed(self, v: Tensor) -> Tensor:
        """What the level above is given for the hypergradient ``v``, a row for each entry."""
        if self.clip is not None or self.hyper_step == "normalized":
            v = v.nan_to_num(nan=math.nan)  # inf over inf would be NaN
        if self.clip is not None:
            direction, length = _apart(v)
            v = torch.where(length > self.clip, self.clip * direction, v)
        if self.hyper_step == "normalized":
            return _apart(v)[0]
        return v.sign() if self.hyper_step == "sign" else v

    def capped(self, tensors: Sequence[Tensor], steps: list[Tensor]) -> list[Tensor]:
        """The ``steps`` of ``tensors``, each no longer than the cap allows."""
        if self.cap is None:
            return steps
        steps = [step.nan_to_num(nan=math.nan) for step in steps]  # inf times 0 would be NaN
        norms = [torch.linalg.vector_norm(p, dtype=arithmetic_dtype(p.dtype)) for p in tensors]
        lengths = [_length(step) for step in steps]
        return self.shortened(steps, lengths, norms, [p.numel() for p in tensors])

    def shortened(
        self,
        steps: Sequence[Tensor],
        lengths: Sequence[Tensor],
        norms: Sequence[Tensor],
        sizes: Sequence[int],
    ) -> list[Tensor]:
        """The ``steps`` of those ``lengths``, each no longer than the cap allows for a tensor of
        that norm and number of elements."""
        assert self.cap is not None
        allowed = [
            self.cap * norm.clamp_min(0.01 * size**0.5)
            for norm, size in zip(norms, sizes, strict=True)
        ]
        return [
            step * (most / length).clamp_max(1.0).nan_to_num(1.0)  # a step of 0 stays
            for step, most, length in zip(steps, allowed, lengths, strict=True)
        ]


def _is_range(pair: object) -> bool:
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        return False
    return all(map(is_number, pair)) and 0 < pair[0] <= pair[1] < math.inf


def _length(step: Tensor) -> Tensor:
    """The norm, whose square is beyond float32 where a step size is far too large."""
    widest = torch.float32 if step.device.type == "mps" else torch.float64  # Metal has no other
    length: Tensor = torch.linalg.vector_norm(step, dtype=widest)
    return length


def _apart(v: Tensor) -> tuple[Tensor, Tensor]:
    """The direction of each copy's entries, of length 1 or 0, and their norm. Entries whose squares
    are beyond the precision have a direction too."""
    tiny = torch.finfo(v.dtype).tiny
    largest = v.abs().amax(dim=0, keepdim=True).clamp_min(tiny)
    scaled = v / largest
    norm = torch.linalg.vector_norm(scaled, dim=0, keepdim=True)
    return scaled / norm.clamp_min(tiny), largest * norm


NO_SAFEGUARDS = Safeguards()
