"""What goes wrong on one rank, and what is refused."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
import warnings

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

import gdtuo
from gdtuo import GdtuoError, Safeguards
from tests.distributed.problem import HIDDEN, Spread, read
from tests.distributed.processes import world
from tests.distributed.test_checkpoints import load, state_of

ADAM = gdtuo.parse("Adam(0.02) / SGD(1e-3)")


def poisoned(kind, poison):
    """A gradient is not finite on rank 1 alone in one step; what came of it."""
    spread = Spread(kind)
    tower = spread.tower(ADAM, safeguards=Safeguards(guard=10))
    spread.train(tower, range(3))
    before = [read(tower), spread.parameters()]
    tower.zero_grad()
    spread.backward(3)
    if dist.get_rank() == 1:
        gdtuo.sharded.part_of(spread.model.first.weight.grad).view(-1)[0] = poison
    tower.step()
    skipped = tower.skipped_steps
    with pytest.warns(RuntimeWarning, match="the loss gradient"):
        after = [read(tower), spread.parameters()]
    spread.train(tower, range(3, 6))
    return skipped, before == after, read(tower), spread.parameters()


@pytest.mark.parametrize(("kind", "ranks"), [("fsdp", 2), ("fsdp", 4), ("tp", 2)])
def test_all_ranks_skip_a_step_together(processes, kind, ranks):
    spread = Spread("one", HIDDEN[kind])
    tower = spread.tower(ADAM)
    spread.train(tower, range(6))
    for poison in (float("nan"), float("inf"), 1e200):
        for skipped, unchanged, learned, parameters in processes.run(poisoned, ranks, kind, poison):
            assert skipped == 1
            assert unchanged
            assert learned == pytest.approx(read(tower), rel=1e-9, abs=1e-9)
            assert parameters == pytest.approx(spread.parameters(), rel=1e-9, abs=1e-9)


def dying(rank, folder, connection):
    """Train until the other rank dies."""
    torch.set_num_threads(1)
    with world(rank, 2, f"{folder}/store", seconds=20):
        spread = Spread("fsdp")
        tower = spread.tower(ADAM)
        spread.train(tower, range(3))
        torch.distributed.checkpoint.save(
            state_of(spread.model, tower), checkpoint_id=f"{folder}/checkpoint"
        )
        for step in range(3, 1000):
            if rank == 1 and step == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            try:
                spread.train(tower, range(step, step + 1))
            except RuntimeError as error:
                connection.send((step, str(error)))
                os._exit(0)  # torch 2.13 may abort as it is taken down: see the example


def resuming(folder):
    spread = Spread("fsdp")
    tower = spread.tower(ADAM)
    load(spread.model, tower, f"{folder}/checkpoint")
    spread.train(tower, range(3, 6))
    return read(tower)


def test_a_killed_rank_is_an_error_and_the_run_resumes(processes, tmp_path):
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    both = [context.Process(target=dying, args=(rank, str(tmp_path), theirs)) for rank in range(2)]
    for process in both:
        process.start()
    start = time.monotonic()
    assert ours.poll(100), "the rank that is left hangs"
    step, _ = ours.recv()
    assert step == 5
    for process in both:
        process.join(60)
    assert [process.exitcode for process in both] == [0, -signal.SIGKILL]
    assert time.monotonic() - start < 60
    spread = Spread("one", HIDDEN["fsdp"])
    tower = spread.tower(ADAM)
    spread.train(tower, range(6))
    for learned in processes.run(resuming, 2, str(tmp_path)):
        assert learned == pytest.approx(read(tower), rel=1e-9, abs=1e-9)


def refusals():
    """Each is refused at once, and says what to use instead."""
    mesh = init_device_mesh("cpu", (2,))

    def refused(message, make, *args, **kwargs):
        with pytest.raises(GdtuoError, match=message):
            make(*args, **kwargs)

    plain = nn.Linear(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its own module
        from torch.distributed.optim import ZeroRedundancyOptimizer
    refused(r"ZeroRedundancyOptimizer .* Use fully_shard", ZeroRedundancyOptimizer,
            plain.parameters(), gdtuo.Tower, rule=ADAM)  # fmt: skip
    for use_orig_params in (True, False):
        old = FullyShardedDataParallel(
            nn.Linear(4, 4), use_orig_params=use_orig_params, device_id=torch.device("cpu")
        )
        refused("FullyShardedDataParallel.* Use fully_shard", gdtuo.Tower, old.parameters(), ADAM)

    sharded = fully_shard(nn.Linear(4, 4), mesh=mesh)
    parameters = list(sharded.parameters())
    refused("per='element'.* Use per='tensor'", gdtuo.Tower, parameters, ADAM, per="element")
    muon = gdtuo.Muon(optimizer=gdtuo.SGD(1e-3))
    refused("compile=True and Muon.* Leave compile out", gdtuo.Tower, parameters[:1], muon,
            compile=True)  # fmt: skip
    refused("is no matrix", gdtuo.Tower, parameters, muon)
    partial = DTensor.from_local(torch.ones(4), mesh, [Partial()])
    refused("a partial sum", gdtuo.Tower, [nn.Parameter(partial)], ADAM)
    refused("Ensemble.*DTensors", gdtuo.Ensemble, [fully_shard(nn.Linear(4, 4), mesh=mesh)], ADAM)

    tower = gdtuo.Tower(parameters, ADAM)
    for p in parameters:
        p.grad = torch.ones_like(p)
    before = read(tower)
    refused(
        "a cotangent that is a plain tensor",
        tower.step,
        cotangents=map(torch.ones_like, plain.parameters()),
    )
    other = init_device_mesh("cpu", (1, 2))
    elsewhere = [
        distribute_tensor(torch.ones(p.shape), other, [Replicate(), Shard(0)]) for p in parameters
    ]
    refused("a cotangent that is a DTensor .* mesh", tower.step, cotangents=elsewhere)
    assert read(tower) == before  # nothing has changed
    tower.step()


def test_what_is_refused(processes):
    processes.run(refusals, 2)


def on_other_ranks():
    halves = init_device_mesh("cpu", (2, 2), mesh_dim_names=("a", "b"))
    one, two = (fully_shard(nn.Linear(4, 4), mesh=mesh) for mesh in (halves["a"], halves))
    with pytest.raises(GdtuoError, match=r"ranks \[\d, \d\], and over .*ranks \[0, 1, 2, 3\]"):
        gdtuo.Tower([*one.parameters(), *two.parameters()], ADAM)
    tower = gdtuo.Tower(one.parameters(), ADAM)
    with pytest.raises(GdtuoError, match="the same ranks"):
        tower.add_param_group({"params": two.parameters()})
    assert len(tower.param_groups) == 1

    # Meshes of other shapes over the same ranks go together.
    flat = fully_shard(nn.Linear(4, 4), mesh=init_device_mesh("cpu", (4,)))
    gdtuo.Tower([*flat.parameters(), *two.parameters()], ADAM)

    # A mesh of several dimensions over some of the ranks has a group of its own.
    mesh = init_device_mesh("cpu", (2, 2, 1), mesh_dim_names=("out", "a", "b"))["a", "b"]
    part = fully_shard(nn.Linear(4, 4), mesh=mesh)
    tower = gdtuo.Tower(part.parameters(), ADAM)
    assert dist.get_world_size(tower._ranks.group) == 2
    part(torch.ones(1, 4)).sum().backward()
    tower.step()


def test_meshes_of_other_ranks(processes):
    processes.run(on_other_ranks, 4)
