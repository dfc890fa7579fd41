"""Hooks of the optimizer, of its state and of its parameters: a tower runs them as torch does."""

import contextlib

import pytest
import torch
from torch.optim import optimizer as torch_optimizer

import gdtuo
from tests.models_table import TOWERS
from tests.problem import loss_at, make_model, parameters_of, same, train

RULE = TOWERS["Adam"]
every_tower = pytest.mark.parametrize("rule", TOWERS.values(), ids=TOWERS)


def make(rule=RULE):
    model = make_model()
    return model, gdtuo.Tower(model.named_parameters(), rule)


def test_step_hooks_see_the_parameters_before_and_after():
    model, tower = make()
    before, after, everywhere = [], [], []
    handles = [
        tower.register_step_pre_hook(lambda *_: before.append(parameters_of(model))),
        tower.register_step_post_hook(lambda *_: after.append(parameters_of(model))),
        torch_optimizer.register_optimizer_step_post_hook(lambda opt, *_: everywhere.append(opt)),
    ]
    with contextlib.ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        train(model, tower, 3)
    train(model, tower, 1, start=3)
    assert len(before) == len(after) == 3
    assert everywhere == [tower] * 3
    assert same(before[1], after[0])
    assert not same(before[0], after[0])


@every_tower
def test_a_step_hook_may_give_the_cotangents(rule):
    """Those of the next batch, here, as if it were held out."""
    (model, tower), (expected, expected_tower) = make(rule), make(rule)

    def held_out(model, i):
        return torch.autograd.grad(loss_at(model, i + 1), list(model.parameters()))

    def hook(tower, args, kwargs):
        return args, {**kwargs, "cotangents": held_out(model, i)}

    tower.register_step_pre_hook(hook)
    losses = []
    for i in range(5):
        losses += train(model, tower, 1, start=i)
        expected_tower.zero_grad()
        loss = loss_at(expected, i)
        loss.backward()
        expected_tower.step(cotangents=held_out(expected, i))
        assert loss.item() == losses[-1]
    assert tower.hyperparameters() == expected_tower.hyperparameters()
    plain, plain_tower = make(rule)
    assert train(plain, plain_tower, 5) != losses


@every_tower
def test_a_gradient_hook_is_seen_by_the_hypergradient(rule):
    (model, tower), (expected, expected_tower) = make(rule), make(rule)
    for p in model.parameters():
        p.register_hook(lambda g: 0.5 * g)
    losses = train(model, tower, 6)
    for i in range(6):
        expected_tower.zero_grad()
        loss = loss_at(expected, i)
        (0.5 * loss).backward()
        expected_tower.step()
        assert losses[i] == pytest.approx(loss.item(), rel=1e-12)


@every_tower
def test_a_tower_for_each_parameter_that_steps_within_the_backward_pass(rule):
    (model, _), (expected, _) = make(), make()
    towers = {p: gdtuo.Tower([p], rule) for p in model.parameters()}

    def step(p):
        towers[p].step()
        towers[p].zero_grad()

    for p in model.parameters():
        p.register_post_accumulate_grad_hook(step)
    losses = []
    for i in range(8):
        loss = loss_at(model, i)
        loss.backward()
        losses.append(loss.item())
    together = gdtuo.Tower(expected.parameters(), rule, per="tensor")
    assert train(expected, together, 8) == losses
    learned = [tower.hyperparameters()[0]["lr"] for tower in towers.values()]
    assert learned == list(together.hyperparameters()[0]["lr"].values())


def test_state_dict_hooks():
    model, tower = make()
    train(model, tower, 3)
    seen = []
    tower.register_state_dict_pre_hook(lambda tower: seen.append("before"))
    tower.register_state_dict_post_hook(lambda tower, state: {**state, "epoch": 3})
    state = tower.state_dict()
    assert seen == ["before"]
    assert state["epoch"] == 3
    again, other = make()
    again.load_state_dict(model.state_dict())
    other.register_load_state_dict_pre_hook(lambda tower, state: seen.append(state["epoch"]))
    other.register_load_state_dict_post_hook(lambda tower: seen.append("after"))
    other.load_state_dict(state)
    assert seen == ["before", 3, "after"]
    assert train(model, tower, 3, start=3) == train(again, other, 3, start=3)


def test_a_hook_before_loading_may_bring_the_state_into_order():
    """By the parameters' names: the use that torch's documentation gives for it."""

    def by_name(tower, state):
        (group,) = state["param_groups"]
        ids = dict(zip(group["param_names"], group["params"], strict=True))
        names = tower.param_groups[0]["param_names"]
        ordered = {**group, "params": [ids[name] for name in names], "param_names": names}
        return {**state, "param_groups": [ordered]}

    model, tower = make()
    train(model, tower, 3)
    again = make_model()
    again.load_state_dict(model.state_dict())
    other = gdtuo.Tower([*again.named_parameters()][::-1], RULE)
    other.register_load_state_dict_pre_hook(by_name)
    other.load_state_dict(tower.state_dict())
    expected = train(model, tower, 4, start=3)
    assert train(again, other, 4, start=3) == pytest.approx(expected, rel=1e-12)


def test_a_hook_after_loading_may_change_the_state():
    def forget(tower):
        for state in tower.state.values():
            state["exp_avg"] = torch.zeros_like(state["exp_avg"])

    model, tower = make()
    train(model, tower, 3)
    _, other = make()
    other.register_load_state_dict_post_hook(forget)
    other.load_state_dict(tower.state_dict())
    assert not any(state["exp_avg"].any() for state in other.state.values())
