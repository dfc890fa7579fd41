"""Memory is flat: neither tensors nor anything else piles up from step to step."""

import ctypes
import gc
import pathlib
import sys
import warnings

import pytest
import torch
from torch import Tensor, nn

import gdtuo
from tests.benchmarks.counts import kept_bytes
from tests.problem import make_model
from tests.rules_table import ROWS, homogeneous

STATM = pathlib.Path("/proc/self/statm")
LIBC = ctypes.CDLL(None)
PAGE = 4096


def live_tensors() -> int:
    gc.collect()
    with warnings.catch_warnings():  # of things that deprecate being looked at
        warnings.simplefilter("ignore")
        return sum(isinstance(each, Tensor) for each in gc.get_objects())


def resident() -> int:
    """In bytes; what is free goes back to the system first, such as the list of all objects, which
    is of megabytes where many tests ran before."""
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)
    return int(STATM.read_text().split()[1]) * PAGE if STATM.exists() else 0


def grows(step, warm_up: int, steps: int) -> tuple[int, int, int]:
    """What ``steps`` calls add: live tensors, Python's memory blocks, and bytes of the process."""
    for _ in range(warm_up):
        step()
    before = live_tensors(), sys.getallocatedblocks(), resident()
    for _ in range(steps):
        step()
    after = live_tensors(), sys.getallocatedblocks(), resident()
    return tuple(b - a for a, b in zip(before, after, strict=True))


def tower_step(rule):
    p = nn.Parameter(torch.ones(3))
    tower = gdtuo.Tower([p], rule)
    g = torch.full((3,), 0.1)

    def step():
        p.grad = g.clone()
        tower.step()

    return step


def flat(growth, megabytes: float = 4.0) -> None:
    tensors, blocks, size = growth
    assert tensors <= 0  # what other tests have left may go meanwhile
    assert blocks < 500  # a tensor a step would be more
    assert size < megabytes * 2**20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_gradient_s_buffer_and_graph_are_not_kept(row):
    p = nn.Parameter(torch.ones(3))
    height = 2 if row.rule.elementwise else 0
    tower = gdtuo.Tower([p], homogeneous(row.rule(1e-3), height))
    for _ in range(3):
        p.grad = torch.ones(3)
        tower.step()
        held = [*tower.state[p].values(), *tower.param_groups[0].values()]
        tensors = [x for x in held if isinstance(x, Tensor)]
        assert all(x.data_ptr() != p.grad.data_ptr() for x in tensors if x.numel())
        assert all(x.grad_fn is None and not x.requires_grad for x in tensors)


def test_2_000_steps():
    flat(grows(tower_step(gdtuo.SGD(1e-4, 0.5, optimizer=gdtuo.SGD(1e-9))), 200, 2_000))


@pytest.mark.slow
@pytest.mark.parametrize("height", [0, 2])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_10_000_steps_of_every_rule(row, height):
    flat(grows(tower_step(homogeneous(row.rule(1e-6), height)), 500, 10_000))


def wrapper_step(create_graph: bool):
    model = make_model(torch.float32)
    mw = gdtuo.ModuleWrapper(model, optimizer=gdtuo.Adam(1e-4, optimizer=gdtuo.SGD(1e-9)))
    mw.initialize()
    x = torch.ones(4, 6)

    def step():
        mw.begin()
        loss = mw.forward(x).square().mean()
        mw.zero_grad()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using backward.. with create_graph=True")
            loss.backward(create_graph=create_graph)
        mw.step()

    return step


@pytest.mark.parametrize("guard", [0, 2])
@pytest.mark.parametrize("tower", ["Adam", "Adam / SGD(1e-9)", "Adam^lr / SGD(1e-9)"])
def test_what_is_frozen_layer_by_layer_holds_no_others_memory(tower, guard):
    """What tensors that step together keep is joined; a view of it would hold all of it."""
    layers = [nn.Parameter(torch.ones(1000)) for _ in range(8)]
    safe = gdtuo.Safeguards(guard=guard)
    optimizer = gdtuo.Tower(layers, gdtuo.parse(tower), safeguards=safe)

    def step(first):
        for i, p in enumerate(layers):
            p.grad = torch.ones(1000) if i >= first else None
        optimizer.step()

    step(0)
    before = kept_bytes(optimizer)
    for first in range(len(layers)):
        for _ in range(2 + 2 * guard):  # only then is the guard sure that one was taken
            step(first)
    assert kept_bytes(optimizer) == before


@pytest.mark.parametrize("tower", ["Adam", "Adam / SGD(1e-9)"])
def test_the_last_of_those_that_a_graph_joined_holds_no_others_memory(tower):
    layers = [nn.Parameter(torch.ones(1000)) for _ in range(2)]
    optimizer = gdtuo.Tower(layers, gdtuo.parse(tower), compile="eager")

    def steps(parameters):
        optimizer.zero_grad()
        for _ in range(4):
            for p in parameters:
                p.grad = torch.ones(1000)
            optimizer.step()
        return kept_bytes(optimizer)

    assert steps(layers) == steps(layers[:1])


@pytest.mark.parametrize("create_graph", [False, True])
def test_the_published_loop(create_graph):
    flat(grows(wrapper_step(create_graph), 100, 600))


def test_a_leak_is_noticed():
    """So that the tests above can fail."""
    step, kept = tower_step(gdtuo.SGD(0.1)), []

    def leaking():
        step()
        kept.append(torch.ones(3))

    tensors, blocks, _ = grows(leaking, 10, 600)
    assert tensors == 600
    assert blocks >= 500
