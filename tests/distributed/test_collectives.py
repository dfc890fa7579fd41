"""What is communicated in a step, counted."""

from __future__ import annotations

import re
import subprocess
import sys
from unittest import mock

import pytest
import torch
import torch.distributed as dist
from torch.distributed.tensor import Partial, Replicate
from torch.distributed.tensor.debug import CommDebugMode

import gdtuo
from gdtuo import Safeguards
from gdtuo.tuning_free import RULE, START, STRIDE
from tests.distributed.problem import Case, Spread, read

ADAM = gdtuo.parse("Adam(0.02) / SGD(1e-3)")
MUON = gdtuo.Muon(0.02, optimizer=gdtuo.SGD(1e-3))  # of two matrices; the rest is AdamW's

#: Whatever the tower and the number of groups. A cap and a stride need norms of the update.
CASES = {
    "one group": (Case(ADAM), 1),
    "four groups": (Case(ADAM, by_layer=True), 1),
    "a guard": (Case(ADAM, safeguards=Safeguards(guard=10)), 1),
    "every safeguard": (Case(ADAM, safeguards=Safeguards(clip=1.0, cap=0.02, guard=10)), 2),
    "a stride": (Case(RULE, safeguards=Safeguards(start=START, stride=STRIDE)), 2),
    "of each tensor": (Case(ADAM, per="tensor"), 1),
    "a tall tower": (Case(gdtuo.parse("Adam / Adam / Adam / SGD(1e-5)")), 1),
    "nothing learned": (Case(gdtuo.Adam()), 0),
    "nothing learned, with a guard": (Case(gdtuo.Adam(), safeguards=Safeguards(guard=10)), 1),
    "not yet learned": (Case(ADAM, safeguards=Safeguards(delay=10)), 0),
    "of held-out gradients": (Case(ADAM, held_out=True), 1),
}


def in_a_step(kind, cases):
    """The collectives in the third step, and the elements that all-reduces of our own add up."""
    found = []
    for case in cases:
        spread = Spread(kind)
        tower = case.tower(spread)
        for step in range(2):
            case.step(spread, tower, step)
        found.append(communicated(case, spread, tower))
    return found


def communicated(case, spread, tower):
    sizes = []
    all_reduce = dist.all_reduce

    def counting(tensor, *args, **kwargs):
        sizes.append(tensor.numel())
        return all_reduce(tensor, *args, **kwargs)

    taking = tower.step
    counter = CommDebugMode()

    def step(*args, **kwargs):  # without forward and backward
        with counter, mock.patch("torch.distributed.all_reduce", counting):
            return taking(*args, **kwargs)

    with mock.patch.object(tower, "step", step):
        case.step(spread, tower, 2)
    counts = {
        re.sub(r"\W", "", str(op).split(".")[1]): n for op, n in counter.get_comm_counts().items()
    }
    return counts, sizes


@pytest.mark.parametrize(("kind", "ranks"), [("ddp", 2), ("fsdp", 2), ("hsdp", 4)])
def test_one_small_sum_a_step(processes, kind, ranks):
    for answer in processes.run(in_a_step, ranks, kind, [case for case, _ in CASES.values()]):
        for (name, (_, expected)), (counts, sizes) in zip(CASES.items(), answer, strict=True):
            if kind == "ddp":
                assert (counts, sizes) == ({}, []), name
            else:
                assert len(sizes) == sum(counts.values()) == expected, (name, counts)
            # 3 hyperparameters of 8 tensors at most, or their 16 norms
            assert all(size <= 3 * 8 for size in sizes), name


def test_a_partial_gradient_is_completed_first(processes):
    """Those of the first normalization, in tensor parallel: no more than these two."""
    assert processes.run(are_partial, 2) == [[True, True]] * 2
    for ((counts, sizes),) in processes.run(in_a_step, 2, "tp", [Case(ADAM)]):
        assert len(sizes) == 1
        assert sum(counts.values()) == 1 + 2


def are_partial():
    spread = Spread("tp")
    spread.backward(0)
    return [isinstance(p.grad.placements[0], Partial) for p in spread.model.norm.parameters()]


def test_matrices_are_gathered_for_muon_alone(processes):
    """Pulled back through: the last gradient, the momentum and the gradient; for the update the
    last two again, or the last alone where nothing is learned."""
    plain = gdtuo.Muon(0.02, weight_decay=0.0)
    learned = gdtuo.Muon(0.02, weight_decay=0.0, optimizer=gdtuo.SGD(1e-3))
    of_norms = Case(ADAM)
    for answer in processes.run(in_a_step, 2, "fsdp", [Case(learned), Case(plain), of_norms]):
        gathers = [sum(counts.values()) - len(sizes) for counts, sizes in answer]
        assert gathers == [2 * 5, 2 * 2, 0]


def drifting(kind, steps):
    spread = Spread(kind)
    rule = gdtuo.parse("Adam(0.005) / Adam(1e-3) / SGD(1e-4)")
    tower = spread.tower(rule, safeguards=Safeguards(guard=50), per="tensor")
    spread.train(tower, range(steps))
    replicas = [p for p in spread.model.parameters() if is_whole(p)]
    return read(tower), [gdtuo.sharded.part_of(p).tolist() for p in replicas]


def is_whole(p):
    placements = getattr(p, "placements", [Replicate()])
    return all(isinstance(each, Replicate) for each in placements)


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        ("fsdp", 2),
        pytest.param("tp", 2, marks=pytest.mark.slow),
        pytest.param("hsdp", 4, marks=pytest.mark.slow),
    ],
)
def test_ranks_never_drift(processes, kind, ranks):
    first, *others = processes.run(drifting, ranks, kind, 100)
    assert all(other == first for other in others)
    assert torch.tensor(first[0]).isfinite().all()


def test_a_torch_without_distributed_is_enough():
    program = """
import sys, torch, gdtuo
import torch._dynamo  # as torch does with any optimizer; that takes torch.distributed
sys.modules["torch.distributed"] = sys.modules["torch.distributed.tensor"] = None
p = torch.nn.Parameter(torch.ones(3))
tower = gdtuo.Tower([p], gdtuo.Adam(optimizer=gdtuo.SGD(1e-5)))
for _ in range(3):
    p.grad = torch.ones(3)
    tower.step()
tower.load_state_dict(tower.state_dict())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100)
