"""Which runs are trained together, as one ensemble."""

from collections.abc import Hashable, Sequence
from itertools import pairwise

import gdtuo
from experiments import optimizers, tasks
from experiments.run import Run
from experiments.tasks import StackableTask
from gdtuo.layout import levels_of
from gdtuo.members import structure_of

MEMBERS = 16  # more save no time on a processor, and an interrupt loses more


def batches(runs: Sequence[Run], members: int = MEMBERS) -> list[list[Run]]:
    """`runs` in batches of at most `members`, each of which can be trained as one ensemble.

    Runs share a batch if they differ in seed and in the values of hyperparameters alone; those of
    a task that can't be stacked, or of a rival, are by themselves. Batches of one kind are as equal
    in size as can be, since no executor can split one.
    """
    kinds: dict[Hashable, list[Run]] = {}
    for run in runs:
        kinds.setdefault(_kind(run), []).append(run)
    return [batch for kind in kinds.values() for batch in _split(kind, members)]


def _split(runs: list[Run], members: int) -> list[list[Run]]:
    count = -(-len(runs) // members)
    ends = [len(runs) * i // count for i in range(count + 1)]
    return [runs[start:end] for start, end in pairwise(ends)]


def _kind(run: Run) -> Hashable:
    """What the runs of an ensemble have in common."""
    rule = optimizers.parse(run.tower)
    stackable = issubclass(tasks.find(run.task), StackableTask)
    if not stackable or run.schedule or not isinstance(rule, gdtuo.Rule) or not rule.elementwise:
        return run
    structure = structure_of(levels_of(rule))
    return run.task, run.data, run.epochs, run.options, run.parent is None, structure
