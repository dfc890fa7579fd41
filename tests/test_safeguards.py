"""Each safeguard, and what it prevents."""

from __future__ import annotations

import dataclasses
import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch

import gdtuo
from gdtuo import Safeguards
from tests.problem import make_model, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous

TOWERS = [homogeneous(row.pronounced, 2) for row in ROWS if row.rule.elementwise]
STEPS = 30


def run(text, safeguards, steps=STEPS):
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), gdtuo.parse(text), safeguards=safeguards)
    return train(model, optimizer, steps), optimizer


def moves(values):
    return [abs(b - a) for a, b in itertools.pairwise(values)]


def step_sizes(text, safeguards, steps=STEPS):
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), gdtuo.parse(text), safeguards=safeguards)
    values = [optimizer.hyperparameters()[0]["lr"]]
    for i in range(steps):
        train(model, optimizer, 1, start=i)
        values.append(optimizer.hyperparameters()[0]["lr"])
    return values


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_loose_ones_change_nothing(rule):
    loose = Safeguards(clip=1e9, cap=1e9)
    model, other = make_model(), make_model()
    train(model, gdtuo.Tower(model.parameters(), rule), 5)
    train(other, gdtuo.Tower(other.parameters(), rule, safeguards=loose), 5)
    assert same(parameters_of(model), parameters_of(other))


def test_clip_bounds_what_one_batch_can_do():
    text, clip = "SGD(0.1) / SGD(10)", 1e-3
    clipped = step_sizes(text, Safeguards(clip=clip))
    assert max(moves(clipped)) <= 10 * clip * (1 + 1e-9)
    assert max(moves(step_sizes(text, Safeguards()))) > 0.1


def test_clip_keeps_the_direction():
    model = make_model()
    rule = gdtuo.parse("SGD(0.1, momentum=0.5) / SGD(1)")
    optimizer = gdtuo.Tower(model.parameters(), rule, safeguards=Safeguards(clip=1e-6))
    train(model, optimizer, 2)
    before = optimizer.hyperparameters()[0]
    train(model, optimizer, 1, start=2)
    after, v = optimizer.hyperparameters()[0], optimizer.hypergradients()[0]
    moved = {name: before[name] - after[name] for name in before}
    assert math.hypot(*moved.values()) == pytest.approx(1e-6, rel=1e-6)
    assert moved["lr"] / moved["momentum"] == pytest.approx(v["lr"] / v["momentum"], rel=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_sign_and_normalized_are_scale_free(scale):
    for manner in ("sign", "normalized"):
        w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
        rule = gdtuo.parse("SGD(0.1, coordinates={lr: log}) / SGD(0.05)")
        optimizer = gdtuo.Tower([w], rule, safeguards=Safeguards(hyper_step=manner))
        for _ in range(2):
            w.grad = torch.full_like(w, scale)
            optimizer.step()
        learned = optimizer.hyperparameters()[0]["lr"]
        assert learned == pytest.approx(0.1 * math.exp(0.05), rel=1e-12)


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-25, 1.0, 1e20, 3e38])
def test_what_has_no_square_has_a_direction(size):
    """In float32 the squares of what is below 1e-23 are 0, and above 1e19 infinite."""
    v = size * torch.tensor([[0.75, 0.0], [-1.0, 1.0]])
    direction = torch.tensor([[0.6, 0.0], [-0.8, 1.0]]) * (size > 0)
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=0.0)
    close(Safeguards(hyper_step="normalized").tamed(v), direction)
    close(Safeguards(clip=0.5).tamed(v), 0.5 * direction if size >= 1 else v)
    close(Safeguards(clip=2.0).tamed(v), 2 * direction if size > 2 else v)


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_delay(rule):
    values = step_sizes(str(rule), Safeguards(delay=4), steps=6)
    assert len(set(values[:5])) == 1
    assert len(set(values[4:])) == 3


def test_cap_bounds_each_tensor_s_step():
    model = make_model()
    rule = gdtuo.parse("SGD(1e6)")
    optimizer = gdtuo.Tower(model.parameters(), rule, safeguards=Safeguards(cap=0.1))
    for i in range(5):
        before = parameters_of(model)
        train(model, optimizer, 1, start=i)
        for old, new in zip(before, parameters_of(model), strict=True):
            floor = 0.01 * old.numel() ** 0.5
            assert (new - old).norm() <= 0.1 * max(old.norm(), floor) * (1 + 1e-9)


@pytest.mark.parametrize("size", [1.0, 1e15, 1e25, 3e38])
def test_a_cap_of_what_has_no_square(size):
    """That of a step above 1e19 is infinite in float32."""
    ws = [torch.nn.Parameter(torch.full(shape, 0.5)) for shape in [(4,), ()]]
    safe = Safeguards(cap=0.01)
    tower = gdtuo.Tower(ws, gdtuo.SGD(1.0), safeguards=safe)
    for w, g in zip(ws, ([0.75, 0.0, -1.0, 1e-30], -1.0), strict=True):
        w.grad = size * torch.tensor(g)
    tower.step()
    torch.testing.assert_close(ws[0].detach(), 0.5 + 0.01 * torch.tensor([-0.6, 0.0, 0.8, 0.0]))
    torch.testing.assert_close(ws[1].detach(), torch.tensor(0.505))


def test_cap_saves_what_would_diverge():
    text = "SGD(1000.0, coordinates={lr: log}) / SGD(0.5)"
    free, _ = run(text, Safeguards(hyper_step="sign"))
    saved, _ = run(text, Safeguards(hyper_step="sign", cap=0.1))
    assert not max(free) < 100  # nan counts as diverged
    assert max(saved) < 3


def test_a_step_of_nothing_stays_nothing():
    w = torch.nn.Parameter(torch.zeros(3))
    optimizer = gdtuo.Tower([w], gdtuo.SGD(1.0), safeguards=Safeguards(cap=0.1, clip=1.0))
    w.grad = torch.zeros(3)
    optimizer.step()
    assert same([w.detach()], [torch.zeros(3)])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip": 0.0}, "clip=0.0"),
        ({"cap": -1.0}, "cap=-1.0"),
        ({"clip": math.nan}, "clip=nan"),
        ({"hyper_step": "cosine"}, "Expected one of 'plain'"),
        ({"delay": -1}, "delay=-1"),
        ({"delay": 0.5}, "delay=0.5"),
    ],
)
def test_errors(options, message):
    with pytest.raises(gdtuo.GdtuoError, match=message):
        Safeguards(**options)


def test_clip_of_a_hypergradient_that_is_not_finite():
    """One that overflows is the longest that there is, and the step size stays a number."""
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = gdtuo.Tower([w], gdtuo.parse("SGD / SGD"), safeguards=Safeguards(clip=1e-3))
    for size in (1e19, 1e25):
        w.grad = torch.full((3,), size)
        optimizer.step()
    assert optimizer.hyperparameters()[0]["lr"] == pytest.approx(0.01 + 0.01 * 1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cap_of_half_precision_does_not_overflow(dtype):
    w = torch.nn.Parameter(torch.full((2500,), 1500.0, dtype=dtype))  # of norm 75,000
    optimizer = gdtuo.Tower([w], gdtuo.SGD(1.0), safeguards=Safeguards(cap=0.01))
    w.grad = torch.full_like(w, 150.0)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full_like(w, 1485.0), rtol=0.005, atol=0)


def test_numbers_of_numpy():
    safe = Safeguards(
        clip=np.float32(0.5), cap=np.float64(0.1), delay=np.int64(3), start=[np.float32(0.25), 1]
    )
    assert safe == Safeguards(clip=0.5, cap=0.1, delay=3, start=(0.25, 1.0))
    assert hash(safe) == hash(dataclasses.replace(safe))
