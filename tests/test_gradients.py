"""Gradients as they come: cleared, scaled, clipped, accumulated, by a closure, of any dtype."""

import copy

import pytest
import torch
from torch import nn

import gdtuo
from tests.problem import loss_at, make_model, make_tower, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous, stacked


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_how_gradients_are_cleared_and_stored_does_not_matter(row, count):
    """Buffers that are zeroed, or written over in place, are what DDP and others give."""
    losses, values = [], []
    for way in ("none", "zeroed", "one buffer"):
        model = make_model()
        params = list(model.parameters())[:count]
        tower = gdtuo.Tower(params, homogeneous(row.pronounced, 2))
        buffers = [torch.zeros_like(p) for p in params]
        for i in range(6):
            tower.zero_grad(set_to_none=way != "zeroed")
            loss = loss_at(model, i)
            loss.backward()
            if way == "one buffer":
                for p, buffer in zip(params, buffers, strict=True):
                    p.grad = buffer.copy_(p.grad)
            tower.step()
            losses.append(loss.item())
            for buffer in buffers:
                buffer.fill_(float("nan"))
        values.append(tower.hyperparameters())
    assert losses[:6] == losses[6:12] == losses[12:]
    assert values[0] == values[1] == values[2]


def test_a_gradient_is_left_as_it_was():
    model, tower = make_tower()
    for i in range(3):
        tower.zero_grad()
        loss_at(model, i).backward()
        before = [p.grad.clone() for p in model.parameters()]
        tower.step()
        assert same([p.grad for p in model.parameters()], before)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_scaling_the_gradient_scales_the_hypergradient(row):
    """A gradient that is clipped is the cotangent as it stands."""

    def hypergradient(scale):
        model, tower = make_tower(
            stacked(row.pronounced, gdtuo.SGD(1e-4, optimizer=gdtuo.SGD(1e-6)))
        )
        train(model, tower, 4)
        tower.zero_grad()
        loss_at(model, 4).backward()
        for p in model.parameters():
            p.grad.mul_(scale)
        tower.step()
        return tower.param_groups[0]["level1.previous_gradient"]

    whole = hypergradient(1.0)
    assert whole.abs().min() > 1e-7
    assert hypergradient(0.5).equal(whole * 0.5)
    assert hypergradient(0.0).equal(whole * 0.0)


def test_clip_grad_norm_clips_the_hypergradient():
    model, tower = make_tower(gdtuo.SGD(0.05, optimizer=gdtuo.SGD(0.01)))
    kept = []
    for i in range(2):
        tower.zero_grad()
        loss_at(model, i).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        assert norm > 0.05
        kept.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        tower.step()
    expected = 0.05 + 0.01 * (kept[0] @ kept[1]).item()
    assert tower.hyperparameters()[0]["lr"] == pytest.approx(expected, rel=1e-13)


def test_accumulated_gradients_are_one_gradient():
    model, tower = make_tower()
    other, other_tower = make_tower()
    for i in range(0, 6, 2):
        tower.zero_grad()
        loss_at(model, i).backward()
        loss_at(model, i + 1).backward()
        tower.step()
        other_tower.zero_grad()
        (loss_at(other, i) + loss_at(other, i + 1)).backward()
        other_tower.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_closure():
    (model, tower), (other, other_tower) = make_tower(), make_tower()
    calls = []
    for i in range(4):

        def closure(i=i):
            calls.append(i)
            tower.zero_grad()
            loss = loss_at(model, i)
            loss.backward()
            return loss

        loss = tower.step(closure)
        assert loss.item() == train(other, other_tower, 1, start=i)[0]
    assert calls == [0, 1, 2, 3]
    assert same(parameters_of(model), parameters_of(other))


@pytest.mark.skipif(
    not hasattr(torch.Tensor, "grad_dtype"), reason="a torch whose gradients have no own dtype"
)
def test_gradients_wider_than_their_parameters_resume_to_the_bit():
    def go(interrupted):
        w = nn.Parameter(torch.linspace(1, 2, 5, dtype=torch.bfloat16))
        w.grad_dtype = torch.float32
        rule = gdtuo.SGD(0.5, optimizer=gdtuo.SGD(1e-2))
        tower = gdtuo.Tower([w], rule)
        for i in range(6):
            if interrupted and i == 3:
                state = copy.deepcopy(tower.state_dict())
                tower = gdtuo.Tower([w], rule)
                tower.load_state_dict(state)
            w.grad = torch.linspace(0.1, 0.37, 5) * (1 + i / 7)
            tower.step()
        return tower.hyperparameters()

    assert go(True) == go(False)
