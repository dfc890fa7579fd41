"""Saving, resuming and copying in the middle of a run: everything goes on to the bit."""

import copy
import io
import math
import pickle

import hypothesis
import pytest
import torch
from torch import Tensor, nn

import gdtuo
from tests.problem import make_model, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous, towers


def through_a_file(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def leaves(state):
    if isinstance(state, dict):
        assert all(isinstance(key, str | int) for key in state)
        for value in state.values():
            yield from leaves(value)
    elif isinstance(state, list):
        for value in state:
            yield from leaves(value)
    else:
        yield state


def other_values(rule: gdtuo.Rule) -> gdtuo.Rule:
    """A tower of the same structure that starts elsewhere."""
    text = str(rule)
    other = gdtuo.parse(
        text.replace("0.02", "0.01").replace("0.05", "0.04").replace("0.005", "0.004")
    )
    assert other != rule
    return other


def resumed(rule, make=make_model, dtype=torch.float64, steps=5, restart=None):
    """(a run without a break, the same with one): parameters, hyperparameters, losses of each."""
    model = make(dtype)
    tower = gdtuo.Tower(model.parameters(), rule)
    train(model, tower, steps, dtype=dtype)
    saved = through_a_file({"model": model.state_dict(), "tower": tower.state_dict()})
    losses = train(model, tower, steps, start=steps, dtype=dtype)

    again = make(dtype)
    again.load_state_dict(saved["model"])
    tower_again = gdtuo.Tower(again.parameters(), rule if restart is None else restart)
    tower_again.load_state_dict(saved["tower"])
    losses_again = train(again, tower_again, steps, start=steps, dtype=dtype)
    assert all(map(math.isfinite, losses)) or dtype != torch.float64
    assert losses == losses_again
    assert same(parameters_of(model), parameters_of(again))
    assert tower.hyperparameters() == tower_again.hyperparameters()
    for a, b in zip(leaves(tower.state_dict()), leaves(tower_again.state_dict()), strict=True):
        assert type(a) is type(b)
        assert same([a], [b]) if isinstance(a, Tensor) else a == b


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("height", range(4))
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_resume_to_the_bit(row, height, dtype):
    if not row.rule.elementwise and height > 0:
        pytest.skip("not an upper level")
    rule = homogeneous(row.pronounced, height)
    resumed(rule, dtype=dtype, restart=other_values(rule))


@hypothesis.settings(max_examples=25)
@hypothesis.given(towers(min_height=0, max_height=3))
def test_resume_of_random_towers(rule):
    hypothesis.note(str(rule))
    resumed(rule, steps=3)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_break_matters(row):
    """What is kept of the last update is needed to go on: so that the tests above can fail."""
    rule, (model, again) = homogeneous(row.pronounced, 1), (make_model(), make_model())
    tower = gdtuo.Tower(model.parameters(), rule)
    train(model, tower, 5)
    again.load_state_dict(model.state_dict())
    without = gdtuo.Tower(again.parameters(), rule)
    assert train(model, tower, 5, start=5) != train(again, without, 5, start=5)


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_state_is_tensors_and_numbers(row, learned):
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), homogeneous(row.pronounced, 2 if learned else 0))
    for steps in (0, 3):
        train(model, tower, steps)
        state = tower.state_dict()
        assert set(state) == {"state", "param_groups"}
        found = list(leaves(state))
        assert found
        assert {type(leaf) for leaf in found} <= {Tensor, int, float}
        assert not any(leaf.requires_grad for leaf in found if isinstance(leaf, Tensor))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_state_exists_from_construction(row):
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), row.pronounced)
    before = tower.state_dict()
    train(model, tower, 1)
    after = tower.state_dict()
    assert before["state"].keys() == after["state"].keys()
    assert all(before["state"][k].keys() == after["state"][k].keys() for k in before["state"])
    assert before["param_groups"][0].keys() == after["param_groups"][0].keys()


def test_resume_before_the_first_step():
    resumed(gdtuo.Adam(optimizer=gdtuo.SGD(1e-5)), steps=0)
    rule = gdtuo.Adam(0.01, optimizer=gdtuo.Adam(1e-3))
    model, again = make_model(), make_model()
    tower, other = (gdtuo.Tower(m.parameters(), rule) for m in (model, again))
    other.load_state_dict(through_a_file(tower.state_dict()))
    assert train(model, tower, 4) == train(again, other, 4)


def test_resume_after_a_parameter_was_left_out():
    rule = gdtuo.Adam(0.02, optimizer=gdtuo.SGD(1e-4))
    model, again = make_model(), make_model()
    model[0].requires_grad_(False)
    tower = gdtuo.Tower(model.parameters(), rule)
    train(model, tower, 3)
    model[0].requires_grad_(True)
    train(model, tower, 3)
    model[2].requires_grad_(False)
    train(model, tower, 1)
    model[2].requires_grad_(True)
    saved = through_a_file(tower.state_dict())
    again.load_state_dict(model.state_dict())
    other = gdtuo.Tower(again.parameters(), rule)
    other.load_state_dict(saved)
    assert train(model, tower, 5) == train(again, other, 5)
    assert tower.hyperparameters() == other.hyperparameters()


def test_resume_of_groups_and_of_a_schedule():
    def make(model):
        groups = [
            {"params": model[0].parameters(), "lr": 0.05},
            {"params": model[2].parameters(), "momentum": 0.3},
        ]
        tower = gdtuo.Tower(groups, gdtuo.SGD(0.1, momentum=0.5, optimizer=gdtuo.Adam(1e-3)))
        return tower, torch.optim.lr_scheduler.LambdaLR(tower, lambda i: 1 / (1 + i))

    def go(model, tower, scheduler, steps):
        losses = []
        for _ in range(steps):
            losses += train(model, tower, 1)
            scheduler.step()
        return losses

    model, again = make_model(), make_model()
    tower, scheduler = make(model)
    go(model, tower, scheduler, 4)
    saved = through_a_file([model.state_dict(), tower.state_dict(), scheduler.state_dict()])
    losses = go(model, tower, scheduler, 4)
    tower_again, scheduler_again = make(again)
    for each, state in zip((again, tower_again, scheduler_again), saved, strict=True):
        each.load_state_dict(state)
    assert go(again, tower_again, scheduler_again, 4) == losses
    for group in (0, 1):
        assert tower.hyperparameters(group) == tower_again.hyperparameters(group)
    assert tower.hyperparameters(0) != tower.hyperparameters(1)


@pytest.mark.parametrize("copy_both", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
@pytest.mark.parametrize("height", range(4))
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_copy_of_model_and_tower_goes_on_to_the_bit(row, height, copy_both):
    if not row.rule.elementwise and height > 0:
        pytest.skip("not an upper level")
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), homogeneous(row.pronounced, height))
    train(model, tower, 4)
    other_model, other_tower = copy_both((model, tower))
    assert str(other_tower) == str(tower)
    losses = train(model, tower, 4)
    start = parameters_of(other_model)
    assert train(other_model, other_tower, 4) == losses  # the copy did not move with the original
    assert not same(start, parameters_of(other_model))
    assert other_tower.hyperparameters() == tower.hyperparameters()


def test_a_rule_is_pickled_and_copied():
    rule = gdtuo.parse("Adam^{lr,beta1}(0.01) / SGD({lr: 0.1, beta1: 0.2}) / RMSProp")
    assert pickle.loads(pickle.dumps(rule)) == rule == copy.deepcopy(rule)


def test_loading_leaves_what_was_loaded_alone():
    rule = gdtuo.Adam(0.02, optimizer=gdtuo.Adam(1e-3))
    model, again = make_model(), make_model()
    tower = gdtuo.Tower(model.parameters(), rule)
    train(model, tower, 3)
    state = tower.state_dict()
    before = [x.clone() if isinstance(x, Tensor) else x for x in leaves(state)]
    other = gdtuo.Tower(again.parameters(), rule)
    other.load_state_dict(state)
    train(again, other, 5)
    for a, b in zip(leaves(tower.state_dict()), before, strict=True):
        assert same([a], [b]) if isinstance(a, Tensor) else a == b


def test_a_state_on_another_dtype_takes_that_of_the_parameters():
    rule = gdtuo.Adam(0.02, optimizer=gdtuo.SGD(1e-4))
    model, wide = make_model(torch.float32), make_model(torch.float64)
    tower = gdtuo.Tower(model.parameters(), rule)
    train(model, tower, 3, dtype=torch.float32)
    other = gdtuo.Tower(wide.parameters(), rule)
    other.load_state_dict(tower.state_dict())
    assert len(train(wide, other, 3)) == 3
    tensors = [x for x in leaves(other.state_dict()) if isinstance(x, Tensor)]
    assert {x.dtype for x in tensors} == {torch.float64, torch.uint8}


def test_named_parameters():
    model, named = make_model(), make_model()
    rule = gdtuo.Adam(0.02, optimizer=gdtuo.SGD(1e-4))
    tower = gdtuo.Tower(named.named_parameters(), rule)
    losses = train(model, gdtuo.Tower(model.parameters(), rule), 4)
    assert train(named, tower, 4) == losses
    assert nn.Module.state_dict(named).keys() == set(tower.param_groups[0]["param_names"])
