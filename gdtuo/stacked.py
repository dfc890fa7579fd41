"""The tower of an ensemble: one more granularity.

The parameters are stacked, shape [members, ...]. Every learned or constant coordinate has a column
for each member, and a rule, being elementwise, meets tensors of shape [members, elements] and
hyperparameters of shape [members, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from gdtuo.cell import Cell, Store
from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.groups import Granularity
from gdtuo.learner import Learner
from gdtuo.safeguards import Safeguards
from gdtuo.tower import Tower


class MemberSafeguards(Safeguards):
    """Safeguards whose norms are those of each member."""

    def capped(self, tensors: Sequence[Tensor], steps: list[Tensor]) -> list[Tensor]:
        if self.cap is None:
            return steps

        def of_a_member(tensors: list[Tensor], steps: list[Tensor]) -> list[Tensor]:
            return Safeguards.capped(self, tensors, steps)

        return torch.vmap(of_a_member)(list(tensors), steps)


class StackedTower(Tower):
    """The tower of all members. What it reads out is by member, a dictionary for each value."""

    _granularities: ClassVar[tuple[Granularity, ...]] = ("member",)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if self.param_groups:
            raise GdtuoError(
                "Ensemble: its tower has one group, all of the members' parameters. Give the "
                "models as they are, with nothing to add."
            )
        super().add_param_group(param_group)

    def start(self, towers: Sequence[tuple[Level, ...]]) -> None:
        """Give each member the values that its own levels start from."""
        store, levels = self.param_groups[0], self._levels[0]
        learner = self._learner(0)
        for i, level in enumerate(levels):
            for kind, before in zip(("learned", "constant"), learner.coordinates(i), strict=True):
                names = getattr(level, kind)
                columns = [tower[i].initial(names, before.dtype, before.device) for tower in towers]
                store[f"level{i}.{kind}"] = torch.stack(columns, -1)
            if i > 0 and f"level{i}.step" in store:  # a rule may look at what it starts from
                beneath = store[f"level{i - 1}.learned"]
                Cell(level, [beneath], [store], f"level{i}.").initialize(beneath.dtype)
        # At level 0 they meet tensors [members, elements], further up vectors [entries, members].
        store["level0.constant"] = store["level0.constant"][..., None]

    def learner_of(self, member: int) -> Learner:
        """What learns for one member, to be read."""
        store: Store = {}
        for key, value in self.param_groups[0].items():
            if key == "level0.constant":
                value = value[..., 0]
            if key.endswith((".learned", ".constant", ".hypergradient")):
                store[key] = value[:, member]
        return Learner(self._levels[0], store, self.safeguards)

    def hyperparameters(self, group: int = 0) -> list[dict[str, Any]]:
        learners = self._of_all(group)
        return _by_member([each.values(None) for each in learners])  # type: ignore[no-any-return]

    def hypergradients(self, group: int = 0) -> list[dict[str, Any]]:
        learners = self._of_all(group)
        return _by_member([each.hypergradients(None) for each in learners])  # type: ignore[no-any-return]

    def _of_all(self, group: int) -> list[Learner]:
        store = self._readable(group).store
        return [self.learner_of(i) for i in range(len(store["params"][0]))]


def _by_member(values: list[Any]) -> Any:
    """Nested values of each member as one nest, with a dictionary of members at each leaf."""
    first = values[0]
    if isinstance(first, dict):
        return {key: _by_member([value[key] for value in values]) for key in first}
    if isinstance(first, list):
        return [_by_member([value[i] for value in values]) for i in range(len(first))]
    return dict(enumerate(values))
