"""A record of what a tower learns: kept on the device step by step, read afterwards."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gdtuo import groups
from gdtuo.curves import Curve, figure, frame, scalars
from gdtuo.errors import GdtuoError
from gdtuo.learner import FORMAT, Learner, Parts
from gdtuo.loading import check_state
from gdtuo.safeguards import NO_SAFEGUARDS
from gdtuo.tower import Tower

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLOCK = 256  # rows allocated at a time, so that a step writes to memory that is there


@dataclasses.dataclass
class _Rows:
    """One row of coordinates and hypergradients for each recorded step of a group."""

    steps: list[int] = dataclasses.field(default_factory=list)
    blocks: list[Tensor] = dataclasses.field(default_factory=list)
    free: int = 0  #: rows of the last block; the others are full

    def append(self, step: int, row: Tensor) -> None:
        if self.free and (self.blocks[-1].dtype, self.blocks[-1].device) != (row.dtype, row.device):
            self.blocks[-1] = self.blocks[-1][: -self.free].clone()  # the tower was cast or moved
            self.free = 0
        if self.free == 0:
            self.blocks.append(row.new_empty(BLOCK, len(row)))
            self.free = BLOCK
        self.blocks[-1][-self.free].copy_(row)
        self.free -= 1
        self.steps.append(step)

    def whole(self) -> Tensor:
        device = self.blocks[-1].device
        return torch.cat([block.to(device) for block in self.blocks])[: len(self.steps)]


class History:
    """Record every hyperparameter and hypergradient of every level and group as training goes on.

    It attaches itself to ``optimizer`` as a step hook. A step copies a few numbers on the device
    and never waits for it; the methods that read do. What is recorded is what
    `Tower.hyperparameters` and `Tower.hypergradients` would have returned after that step.

    With ``per="tensor"`` each tensor has a curve. With ``per="element"`` too: the mean over its
    elements, of their coordinates, in which they are learned (so a beta is that of the mean x).

    Memory: for each recorded step and group one number a constant and two a learned
    hyperparameter (times the tensors with ``per="tensor"`` and ``"element"``), on the device, as
    long as the history lives: 32 bytes a step for Adam / SGD. A long run takes a larger ``every``.

    A copy goes on recording, the steps of its own optimizer: ``copy.deepcopy((model, history))``
    goes with the copied model.

    Args:
        optimizer: the tower.
        every: record the first step and each whose number this divides. Steps are calls of
            ``optimizer.step()``, from 1 where the history was made; ``history.step`` is the last.

    Raises:
        GdtuoError: ``optimizer`` is no `Tower`, or ``every`` no whole number from 1 up.

    Example:
        >>> import gdtuo, torch
        >>> w = torch.nn.Parameter(torch.ones(2))
        >>> optimizer = gdtuo.Tower([w], gdtuo.SGD(0.125, optimizer=gdtuo.SGD(0.0625)))
        >>> with gdtuo.History(optimizer) as history:
        ...     for _ in range(3):
        ...         optimizer.zero_grad()
        ...         w.square().sum().backward()
        ...         optimizer.step()
        >>> frame = history.to_frame()
        >>> frame[(frame.level == 0) & (frame.name == "lr")].value.round(3).tolist()
        [0.125, 0.5, 0.5]
    """

    def __init__(self, optimizer: Tower, every: int = 1) -> None:
        if not isinstance(optimizer, Tower):
            raise GdtuoError(
                f"History: the optimizer is a {type(optimizer).__name__}. Give a gdtuo.Tower "
                "(that of a ModuleWrapper is wrapper.tower)."
            )
        if not isinstance(every, int) or isinstance(every, bool) or every < 1:
            raise GdtuoError(f"History: every={every!r}. Give a whole number of steps, 1 or more.")
        self.optimizer, self.every, self.step = optimizer, every, 0
        self._rows: list[_Rows] = []
        self._open()

    def _open(self) -> None:
        self._handle = self.optimizer.register_step_post_hook(self._after_step)
        self._is_open = True

    def close(self) -> None:
        """Stop recording; what is recorded can still be read. Also at the end of a ``with``."""
        if self._is_open:
            self._handle.remove()
        self._is_open = False

    def __enter__(self) -> History:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        rows = [_Rows(list(r.steps), [r.whole()]) for r in self._rows]  # a copy writes in its own
        return {**vars(self), "_rows": rows, "_handle": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        if self._is_open:  # torch copies an optimizer without its hooks
            self._open()

    def _after_step(self, *_: Any) -> None:
        self.step += 1
        if self.step != 1 and self.step % self.every != 0:
            return
        for i in range(len(self.optimizer.param_groups)):
            if i == len(self._rows):  # a new group
                self._rows.append(_Rows())
            row = torch.cat([x.detach().reshape(-1) for x in self._tensors(i).values()])
            self._rows[i].append(self.step, row)

    def _tensors(self, i: int) -> dict[str, Tensor]:
        """What group i keeps of its hyperparameters: all, or only constants of its own."""
        group, per = self.optimizer.param_groups[i], self.optimizer.per
        result = {}
        for j in range(len(self.optimizer._levels[i])):
            for kind in ("learned", "hypergradient", "constant"):
                x = group.get(f"level{j}.{kind}")
                if x is not None and per == "element" and kind != "constant":
                    means = [x[:, at].mean(1) for at in groups.copies(group, per)]
                    x = torch.stack(means, 1) if means else x
                if x is not None:
                    result[f"level{j}.{kind}"] = x
        return result

    def _read(self, i: int) -> dict[str, Tensor]:
        """As `_tensors`, on the host, with a last dimension of the recorded steps."""
        shapes = {key: x.shape for key, x in self._tensors(i).items()}
        columns = self._rows[i].whole().cpu().T
        pieces = torch.split(columns, [shape.numel() for shape in shapes.values()])
        n = columns.shape[1]
        return {k: x.reshape(*shapes[k], n) for k, x in zip(shapes, pieces, strict=True)}

    def _curves(self) -> Iterator[Curve]:
        shared = self._read(0) if self.optimizer.per == "tower" and self._rows else {}
        per = "tensor" if self.optimizer.per == "element" else self.optimizer.per
        for i, rows in enumerate(self._rows):
            n, levels = len(rows.steps), self.optimizer._levels[i]
            store = {key: x[..., x.shape[-1] - n :] for key, x in shared.items()} | self._read(i)
            parts = groups.parts(self.optimizer.param_groups[i], per)
            without = self._without_elements(i, parts)
            for j, level in enumerate(levels):
                values = vars(level.values(*Learner(levels, store, NO_SAFEGUARDS).coordinates(j)))
                slopes = level.split(level.learned, store[f"level{j}.hypergradient"])
                for name in (n for n in level.rule.hyperparameters if n in values):
                    of = level.lr_for if name == "lr" else None
                    names = [name] if of is None else [f"lr[{entry}]" for entry in of]
                    many = name in level.learned or per == "member"
                    own = [""] if parts is None or not many else list(parts)
                    value = values[name].reshape(len(names) * len(own), n).tolist()
                    slope = [None] * len(value)
                    if name in slopes:
                        slope = slopes[name].reshape(len(value), n).tolist()
                    for (entry, part), *numbers in zip(
                        itertools.product(names, own), value, slope, strict=True
                    ):
                        if part not in without:
                            yield Curve(i, j, entry, str(part), rows.steps, *numbers)

    def _without_elements(self, i: int, parts: Parts | None) -> set[Any]:
        """Which of the tensors of group i have no mean over their elements."""
        tensors = zip(parts or (), self.optimizer.param_groups[i]["params"], strict=False)
        return {k for k, p in tensors if self.optimizer.per == "element" and not p.numel()}

    def to_frame(self) -> Any:
        """Return a pandas DataFrame of a row for each step and number.

        Columns: step, group, level, name (``lr[momentum]`` for an entry of an lr given by name),
        part (the tensor's name or place, empty where a group has one value), value in the
        hyperparameter's own units, hypergradient with respect to the coordinate (missing for what
        is not learned).

        Raises:
            GdtuoError: pandas is not installed.
        """
        return frame(self._curves())

    def to_tensorboard(self, writer: Any, prefix: str = "gdtuo", since: int = 0) -> None:
        """Write scalars ``prefix/group0/level0/lr`` and ``prefix/group0/level0/lr/hypergradient``.

        Args:
            writer: a ``torch.utils.tensorboard.SummaryWriter``, or what else has its
                ``add_scalar(tag, value, step)``.
            prefix: of the tags.
            since: only steps after this one: with the ``history.step`` of the last call, a call
                now and then writes no step twice.
        """
        for tag, value, step in scalars(self._curves(), prefix):
            if step > since:
                writer.add_scalar(tag, value, step)

    def plot(self) -> Figure:
        """Return a matplotlib figure: a row for all that is learned, level 0 first, its value on
        the left and its hypergradient on the right, against the step; a line for each group and
        tensor. Values that are positive and span two decades are on a log scale.

        Raises:
            GdtuoError: matplotlib is not installed, or nothing that is learned is recorded yet.
        """
        return figure(list(self._curves()))

    def state_dict(self) -> dict[str, Any]:
        """Return the record, tensors and numbers alone, to be saved beside the optimizer's."""
        rows = [
            {
                "steps": torch.tensor(r.steps),
                "rows": r.whole(),
                "tower": group["tower"].clone(),
                "coordinates": group["coordinates"].clone(),
            }
            for r, group in zip(self._rows, self.optimizer.param_groups, strict=False)
        ]
        return {"format": FORMAT, "step": self.step, "groups": rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with a saved record, in the place of this one's; ``every`` is as given here.

        Raises:
            GdtuoError: it is the record of another tower, or of a later version of this package.
        """
        if not _is_record(state_dict, len(self.optimizer.param_groups)):
            raise GdtuoError(
                "History: this is not the state of a history of this tower. Load what its "
                "state_dict() returned, with all groups in place."
            )
        loaded = []
        for i, theirs in enumerate(state_dict["groups"]):
            group = self.optimizer.param_groups[i]
            learner = Learner(self.optimizer._levels[i], group, NO_SAFEGUARDS)
            check_state(learner, state_dict | theirs)
            tensors = list(self._tensors(i).values())
            width = sum(x.numel() for x in tensors)
            if theirs["rows"].shape != (len(theirs["steps"]), width):
                raise GdtuoError(
                    f"History: the record of group {i} has rows of {theirs['rows'].shape[-1]} "
                    f"numbers, this tower of {width}. Build it with the same per= and parameters."
                )
            kept = theirs["rows"].to(tensors[0].device)
            loaded.append(_Rows(theirs["steps"].tolist(), [kept]))
        self._rows, self.step = loaded, state_dict["step"]


def _is_record(given: Any, most: int) -> bool:
    """Whether it is laid out as what `History.state_dict` returns, of at the ``most`` so many
    groups."""
    if not isinstance(given, Mapping) or not {"format", "step", "groups"} <= given.keys():
        return False
    groups = given["groups"]
    return (
        type(given["step"]) is int
        and isinstance(groups, Sequence)
        and len(groups) <= most
        and all(isinstance(each, Mapping) for each in groups)
        and all(isinstance(each.get(key), Tensor) for each in groups for key in ("steps", "rows"))
        and all(each["steps"].dim() == 1 and each["rows"].dim() == 2 for each in groups)
    )
