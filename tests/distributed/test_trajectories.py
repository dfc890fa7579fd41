"""Training on several ranks is training in one process with the whole batch."""

from __future__ import annotations

import functools
import itertools

import pytest

import gdtuo
from gdtuo import Safeguards
from tests.distributed.problem import TOWERS, Case, Spread, trajectories

EVERY_RULE = [Case(rule) for rule in TOWERS.values()]

SAFEGUARDS = [
    Safeguards(),
    Safeguards(clip=1e-3),
    Safeguards(hyper_step="normalized", delay=2),
    Safeguards(cap=0.02, guard=10),
    Safeguards(guard=10),
]

ADAM = gdtuo.parse("Adam(0.02) / Adam(1e-3) / SGD(1e-4)")
DECAY = gdtuo.parse("SGD^{lr,weight_decay}(0.1, momentum=0.5, weight_decay=0.1) / SGD(1e-3)")
MUON = TOWERS["Muon 1"]
# One whose hypergradients are not 0 to rounding, of which a sign would be made.
ONLY_LR = gdtuo.parse("Adam^lr(0.02) / SGD(1e-3)")

USES = [
    *(Case(rule, per, safe) for per in ("tower", "tensor") for rule in (ADAM, DECAY) for safe in (Safeguards(), Safeguards(cap=0.02, guard=10))),
    *(Case(rule, safeguards=safe) for safe in SAFEGUARDS for rule in (ADAM, MUON)),
    Case(ONLY_LR, safeguards=Safeguards(hyper_step="sign", cap=0.02)),
    *(Case(ADAM, safeguards=safe, piece=16) for safe in (Safeguards(), Safeguards(cap=0.02, guard=10))),
    *(Case(ADAM, per, by_layer=True) for per in ("group", "tensor")),
    *(Case(rule, held_out=True) for rule in (ADAM, DECAY, MUON)),
    *(Case(rule, batches=2) for rule in (ADAM, DECAY)),
    *(Case(rule, freezes=True, schedules=True) for rule in (ADAM, MUON)),
]  # fmt: skip


@functools.cache
def in_one_process(hidden: int, case: Case) -> list[list[float]]:
    (found,) = trajectories("one", [case], hidden=hidden)
    return found


def expect_one_process(processes, kind, ranks, cases):
    answers = processes.run(trajectories, ranks, kind, cases)
    for case, *found in zip(cases, *answers, strict=True):
        right = in_one_process(Spread.HIDDEN[kind], case)
        for ours, theirs in itertools.product(found, [right]):
            for values, expected in zip(ours, theirs, strict=True):
                assert values == pytest.approx(expected, rel=1e-9, abs=1e-9), case
        assert all(each == found[0] for each in found), f"ranks have drifted: {case}"


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        ("ddp", 2),
        ("fsdp", 2),
        ("tp", 2),
        ("replicated", 2),
        pytest.param("fsdp", 4, marks=pytest.mark.slow),
        pytest.param("tp", 4, marks=pytest.mark.slow),
        pytest.param("hsdp", 4, marks=pytest.mark.slow),
        ("fsdp and tp", 4),
    ],
)
def test_every_rule_at_every_height(processes, kind, ranks):
    expect_one_process(processes, kind, ranks, EVERY_RULE)


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        ("ddp", 2),
        ("hsdp", 4),
        ("tp", 2),
        pytest.param("fsdp", 2, marks=pytest.mark.slow),
        pytest.param("fsdp", 4, marks=pytest.mark.slow),
        pytest.param("fsdp and tp", 4, marks=pytest.mark.slow),
        pytest.param("replicated", 2, marks=pytest.mark.slow),
    ],
)
def test_every_way_to_use_a_tower(processes, kind, ranks):
    expect_one_process(processes, kind, ranks, USES)


def test_a_compiled_step(processes):
    """Its sum over ranks is a node of the graph."""
    safe = Safeguards(cap=0.02, guard=10)
    cases = [Case(ONLY_LR, safeguards=safe, compile="eager", steps=6, piece=16)]
    for kind in ("fsdp", "tp"):
        expect_one_process(processes, kind, 2, cases)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "ranks"), [("ddp", 2), ("fsdp", 2), ("fsdp and tp", 4)])
def test_a_step_compiled_by_inductor(processes, kind, ranks):
    cases = [
        Case(rule, per, safe, compile=True, steps=6, piece=16, by_layer=rule is ADAM)
        for rule in (ADAM, DECAY)
        for per in ("group", "tensor")
        for safe in (Safeguards(), Safeguards(cap=0.02, guard=10))
    ]
    expect_one_process(processes, kind, ranks, cases)
