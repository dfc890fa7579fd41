"""Training on several ranks is training in one process with the whole batch."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import pytest

import gdtuo
from gdtuo import Safeguards
from gdtuo.tuning_free import RULE
from tests.distributed.problem import HIDDEN, TOWERS, Case, trajectories

EVERY_RULE = [Case(rule) for rule in TOWERS.values()]

SAFEGUARDS = [
    Safeguards(),
    Safeguards(clip=1e-3),
    Safeguards(hyper_step="normalized", delay=2),
    Safeguards(cap=0.02, guard=10),
    Safeguards(guard=10),
]

TUNING_FREE = RULE
STRIDES = [Safeguards(start=(1e-3, 1e-2), stride=0.005, guard=guard) for guard in (0, 10)]
ADAM = gdtuo.parse("Adam(0.02) / Adam(1e-3) / SGD(1e-4)")
DECAY = gdtuo.parse("SGD^{lr,weight_decay}(0.1, momentum=0.5, weight_decay=0.1) / SGD(1e-3)")
MUON = TOWERS["Muon 1"]
# One whose hypergradients are not 0 to rounding, of which a sign would be made.
ONLY_LR = gdtuo.parse("Adam^lr(0.02) / SGD(1e-3)")

BOTH = [Safeguards(), Safeguards(cap=0.02, guard=10)]

USES = [
    *(Case(ADAM, per, safe) for per in ("tower", "tensor") for safe in BOTH),
    *(Case(DECAY, per, safe) for per in ("tower", "tensor") for safe in BOTH),
    *(Case(rule, safeguards=safe) for rule in (ADAM, MUON) for safe in SAFEGUARDS),
    Case(ONLY_LR, safeguards=Safeguards(hyper_step="sign", cap=0.02)),
    *(Case(TUNING_FREE, per, safe) for per in ("tower", "tensor") for safe in STRIDES),
    *(Case(ADAM, safeguards=safe, piece=16) for safe in BOTH),
    *(Case(TUNING_FREE, safeguards=safe, piece=16) for safe in STRIDES),
    *(Case(ADAM, per, by_layer=True) for per in ("group", "tensor")),
    *(Case(rule, held_out=True) for rule in (ADAM, DECAY, MUON)),
    *(Case(rule, batches=2) for rule in (ADAM, DECAY)),
    *(Case(rule, freezes=True, schedules=True) for rule in (ADAM, MUON)),
]


@functools.cache
def in_one_process(hidden: int, case: Case) -> list[list[float]]:
    (found,) = trajectories("one", [case], hidden=hidden)
    return found


def expect_one_process(processes, kind, ranks, cases):
    answers = processes.run(trajectories, ranks, kind, cases)
    for case, *found in zip(cases, *answers, strict=True):
        right = in_one_process(HIDDEN[kind], dataclasses.replace(case, compile=False))
        for ours, theirs in itertools.product(found, [right]):
            for values, expected in zip(ours, theirs, strict=True):
                assert values == pytest.approx(expected, rel=1e-9, abs=1e-9), case
        assert all(each == found[0] for each in found), f"ranks have drifted: {case}"


SLOW = [("fsdp", 4), ("tp", 4), ("hsdp", 4), ("fsdp and tp", 4)]
slow = [pytest.param(*each, marks=pytest.mark.slow) for each in SLOW]


# With tensor parallelism parameters are DTensors as with FSDP, in other pieces: both are tried by
# every way to use a tower.
@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        ("ddp", 2),
        ("fsdp", 2),
        pytest.param("tp", 2, marks=pytest.mark.slow),
        ("replicated", 2),
        *slow,
    ],
)
def test_every_rule_at_every_height(processes, kind, ranks):
    expect_one_process(processes, kind, ranks, EVERY_RULE)


@pytest.mark.parametrize(("kind", "ranks"), [("ddp", 2), ("fsdp", 2), ("tp", 2), *slow])
def test_every_way_to_use_a_tower(processes, kind, ranks):
    expect_one_process(processes, kind, ranks, USES)


@pytest.mark.parametrize(("kind", "ranks"), SLOW)
def test_some_on_four_ranks(processes, kind, ranks):
    some = [Case(TOWERS[name]) for name in ("SGD 1", "Adam 2", "Muon 1")]
    expect_one_process(processes, kind, ranks, [*some, Case(DECAY, "tensor", BOTH[1])])


def test_a_compiled_step(processes):
    """Its sum over ranks is a node of the graph."""
    cases = [
        Case(rule, safeguards=safe, compile="eager", steps=6, piece=16)
        for rule, safe in ((ONLY_LR, BOTH[1]), (TUNING_FREE, STRIDES[1]))
    ]
    expect_one_process(processes, "fsdp", 2, cases)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "ranks"), [("ddp", 2), ("fsdp", 2), ("fsdp and tp", 4)])
def test_a_step_compiled_by_inductor(processes, kind, ranks):
    cases = [
        Case(ADAM, safeguards=BOTH[1], compile=True, steps=5, piece=16),
        Case(DECAY, "tensor", compile=True, steps=5),
        Case(ONLY_LR, compile=True, steps=5, by_layer=True),
    ]
    expect_one_process(processes, kind, ranks, cases)
