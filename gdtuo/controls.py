"""The part of a tower by which a user reads what has been learned, and stops learning."""

from __future__ import annotations

from typing import Any

import torch

from gdtuo import groups, guard
from gdtuo.core import Level
from gdtuo.errors import GdtuoError
from gdtuo.groups import Granularity
from gdtuo.learner import Learner
from gdtuo.safeguards import Safeguards


class Controls(torch.optim.Optimizer):
    """An optimizer whose groups learn hyperparameters: a `Tower` but for its steps and states."""

    per: Granularity
    safeguards: Safeguards
    _levels: list[tuple[Level, ...]]  #: of each group
    _has_warned: bool  #: of steps that the guard skipped

    def hyperparameters(self, group: int = 0) -> list[dict[str, Any]]:
        """The values in force, in their own units: a dictionary for each level, level 0 first.

        Floats; with ``per="tensor"`` a learned one is a dictionary of floats by the parameter's
        name (or place), with ``per="element"`` one of tensors. An ``lr`` given by name is a
        dictionary too. Level 0's ``lr`` is what has been learned, a schedule's factor aside.
        Reading waits for the device.

        Args:
            group: which parameter group's.
        """
        learner = self._readable(group)
        self._report_skips()
        return learner.values(groups.parts(self.param_groups[group], self.per))

    def hypergradients(self, group: int = 0) -> list[dict[str, Any]]:
        """The hypergradients of the last step, laid out as in `hyperparameters`: for each level
        beneath the top, of what is learned.

        They are derivatives with respect to the coordinates (an RMSProp's ``lr`` is the square of
        its own), along the gradients or cotangents of that step; 0 where nothing was kept.
        """
        learner = self._readable(group)
        self._report_skips()
        return learner.hypergradients(groups.parts(self.param_groups[group], self.per))

    @property
    def skipped_steps(self) -> int:
        """How many steps the guard has skipped (`Safeguards`). Reading waits for the device."""
        return guard.skipped(self._learners()) if self.safeguards.guard else 0

    def freeze(self, *names: str, level: int = 0, group: int | None = None) -> None:
        """Stop learning, from the next step on, until `unfreeze`; values stay where they are.

        Args:
            names: hyperparameters of that level; none given: all that are learned, and then the
                levels above rest too.
            level: counted from 0, the parameters' own rule.
            group: which parameter group's; None: of all that learn it.

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
        known = [learner.learned_at(level) for learner in learners]
        somewhere = [name for learned in known for name in learned]
        unknown = [name for name in names if name not in somewhere]
        if unknown or not somewhere:
            learners[0].check_learned(level, unknown)
        for i, learned in zip(chosen, known, strict=True):
            if own := [name for name in names or learned if name in learned]:
                self._learner(i).freeze(level, own, frozen)

    def _learners(self) -> list[Learner]:
        """What learns: for each group, or for all."""
        count = 1 if self.per == "tower" else len(self.param_groups)
        return [self._learner(i) for i in range(count)]

    def _learner(self, i: int) -> Learner:
        """What learns for group i."""
        i = 0 if self.per == "tower" else i
        return Learner(self._levels[i], self.param_groups[i], self.safeguards)

    def _readable(self, group: int) -> Learner:
        count = len(self.param_groups)
        groups.check_list(self.param_groups, len(self._levels))
        if not isinstance(group, int) or not -count <= group < count:
            raise GdtuoError(f"group={group!r}, but there are {count} groups. Count from 0.")
        own, learner = self.param_groups[group], self._learner(group)
        if own is learner.store:
            return learner
        # One tower for all groups: what is learned is the first's, the constants are its own.
        store = {**learner.store, "level0.constant": own["level0.constant"]}
        return Learner(self._levels[group], store, self.safeguards)

    def _report_skips(self) -> None:
        limit, warn = self.safeguards.guard, not self._has_warned
        if limit:
            self._has_warned |= guard.report(self._learners(), limit, warn)
