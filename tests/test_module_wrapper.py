"""The published loop, unchanged, on `gdtuo.ModuleWrapper`."""

import copy
import importlib
import warnings

import pytest
import torch
from torch import nn

import gdtuo
from tests.problem import loss_at, make_model, parameters_of, same, train

RULE = gdtuo.Adam(0.005, optimizer=gdtuo.SGD(1e-5))


def published_loop(mw, steps, create_graph=True):
    """Line by line what the published package's README has."""
    losses = []
    mw.initialize()
    for i in range(steps):
        mw.begin()
        loss = loss_at(mw.forward, i)
        mw.zero_grad()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Using backward.. with create_graph=True")
            loss.backward(create_graph=create_graph)
        mw.step()
        losses.append(loss.item())
    return losses


def test_against_the_published_wrapper():
    published = pytest.importorskip(
        "gradient_descent_the_ultimate_optimizer.gdtuo",
        reason="the published package is not installed",
    )
    torch.set_default_dtype(torch.float64)
    ours, theirs = make_model(), make_model()
    rule = published.Adam(0.005, optimizer=published.SGD(1e-5))
    losses = published_loop(gdtuo.ModuleWrapper(ours, optimizer=RULE), 30)
    expected = published_loop(published.ModuleWrapper(theirs, optimizer=rule), 30)
    assert losses == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-9, atol=1e-9)


def test_it_has_everything_that_the_published_one_has():
    published = pytest.importorskip(
        "gradient_descent_the_ultimate_optimizer.gdtuo",
        reason="the published package is not installed",
    )
    names = {name for name in vars(published.ModuleWrapper) if not name.startswith("_")}
    assert names
    assert all(callable(getattr(gdtuo.ModuleWrapper, name)) for name in names)
    assert importlib.import_module("gdtuo").ModuleWrapper is gdtuo.ModuleWrapper


@pytest.mark.parametrize("create_graph", [True, False])
def test_it_is_a_tower(create_graph):
    wrapped, plain = make_model(), make_model()
    mw = gdtuo.ModuleWrapper(wrapped, optimizer=RULE)
    tower = gdtuo.Tower(plain.parameters(), RULE)
    losses = published_loop(mw, 10, create_graph)
    assert losses == train(plain, tower, 10)
    assert same(parameters_of(wrapped), parameters_of(plain))
    assert mw.tower.hyperparameters() == tower.hyperparameters()
    assert mw.module is wrapped


def test_no_graph_is_left_on_the_parameters():
    model = make_model()
    published_loop(gdtuo.ModuleWrapper(model, optimizer=RULE), 2)
    for p in model.parameters():
        assert p.is_leaf
        assert isinstance(p, nn.Parameter)
        assert p.grad.grad_fn is None
        assert not p.grad.requires_grad


def test_tied_weights_stay_tied():
    model = make_model()
    model.append(nn.Linear(3, 3)).append(nn.Linear(3, 3)).double()
    model[4].weight = model[3].weight
    start = model[3].weight.detach().clone()
    published_loop(gdtuo.ModuleWrapper(model, optimizer=RULE), 4)
    assert model[4].weight is model[3].weight
    assert not model[3].weight.equal(start)


def test_frozen_parameters_stay_frozen():
    model = make_model()
    model[0].requires_grad_(False)
    start = parameters_of(model)
    published_loop(gdtuo.ModuleWrapper(model, optimizer=RULE), 4)
    assert same(parameters_of(model)[:2], start[:2])
    assert not same(parameters_of(model)[2:], start[2:])
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]


def test_what_is_unfrozen_later_is_trained():
    model = make_model()
    model[0].requires_grad_(False)
    start = parameters_of(model)
    wrapper = gdtuo.ModuleWrapper(model, optimizer=RULE)
    model[0].requires_grad_(True)
    published_loop(wrapper, 4)
    assert not any(map(torch.equal, parameters_of(model), start))


def test_the_model_can_be_copied_at_any_time():
    model = make_model()
    mw = gdtuo.ModuleWrapper(model, optimizer=RULE)
    for _ in range(2):
        published_loop(mw, 3)
        copied = copy.deepcopy(model)
        assert same(parameters_of(copied), parameters_of(model))
    assert loss_at(copied, 0).item() == loss_at(model, 0).item()
    assert copy.deepcopy(mw).tower.hyperparameters() == mw.tower.hyperparameters()


def test_the_model_s_hooks_and_modes_are_its_own():
    model, seen = make_model(), []
    model.register_forward_hook(lambda *_: seen.append("forward"))
    mw = gdtuo.ModuleWrapper(model, optimizer=RULE)
    mw.eval()
    assert not model.training
    mw.train()
    assert model.training
    published_loop(mw, 2)
    assert seen == ["forward"] * 2
    x = torch.ones(2, 6, dtype=torch.float64)
    assert mw(x).equal(model(x))
