"""A scheduler means a factor on the learned step size, and the hypergradient accounts for it."""

import pytest
import torch
from torch.optim import lr_scheduler

import gdtuo
from tests.differences import check
from tests.problem import loss_at, make_model, parameters_of, same, train
from tests.rules_table import ROWS, stacked

SCHEDULERS = {
    "lambda": lambda opt: lr_scheduler.LambdaLR(opt, lambda i: 0.5 + 0.1 * i),
    "warm-up from 0": lambda opt: lr_scheduler.LambdaLR(opt, lambda i: min(1.0, i / 3)),
    "cosine": lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=20),
    "step": lambda opt: lr_scheduler.StepLR(opt, step_size=3, gamma=0.5),
    "one after another": lambda opt: lr_scheduler.SequentialLR(
        opt,
        [lr_scheduler.LinearLR(opt, 0.1, total_iters=4), lr_scheduler.ExponentialLR(opt, 0.9)],
        milestones=[4],
    ),
}


def scheduled(make_scheduler):
    """`train` with a scheduler that steps after the optimizer."""
    schedulers = {}

    def take(model, optimizer, steps, start=0):
        scheduler = schedulers.get(id(optimizer))
        if scheduler is None:
            scheduler = schedulers[id(optimizer)] = make_scheduler(optimizer)
        losses = []
        for i in range(start, start + steps):
            losses += train(model, optimizer, 1, start=i)
            scheduler.step()
        return losses

    return take


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_where_nothing_is_learned_a_scheduler_does_what_it_does_to_torch_s(row, name):
    rule, ours, theirs = row.alike[0], make_model(), make_model()
    losses = scheduled(SCHEDULERS[name])(ours, gdtuo.Tower(ours.parameters(), rule), 15)
    expected = row.torch_optimizer(theirs.parameters(), rule)
    assert losses == pytest.approx(scheduled(SCHEDULERS[name])(theirs, expected, 15), rel=1e-11)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("name", ["lambda", "warm-up from 0", "cosine"])
def test_hypergradients_under_a_schedule(row, name):
    model, above = make_model(), gdtuo.SGD(1e-4, optimizer=gdtuo.SGD(1e-5))
    tower = gdtuo.Tower(model.parameters(), stacked(row.pronounced, above))
    check(model, tower, take=scheduled(SCHEDULERS[name]))
    assert tower.param_groups[0]["lr"] != tower.param_groups[0]["initial_lr"] or "warm" in name


def test_a_factor_of_0_takes_no_step_and_learns_nothing():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.1, optimizer=gdtuo.SGD(0.01)))
    start, before = parameters_of(model), tower.hyperparameters()
    tower.param_groups[0]["lr"] = 0.0
    train(model, tower, 3)
    assert same(parameters_of(model), start)
    assert tower.hyperparameters() == before
    tower.param_groups[0]["lr"] = 0.1
    train(model, tower, 3)
    assert not same(parameters_of(model), start)
    assert tower.hyperparameters() != before


def test_the_nominal_value_is_the_schedule_s_and_the_learned_one_is_read_apart():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.2, optimizer=gdtuo.SGD(0.01)))
    train(model, tower, 5)
    assert tower.param_groups[0]["lr"] == 0.2
    learned = tower.hyperparameters()[0]["lr"]
    assert learned != pytest.approx(0.2, rel=1e-6)
    tower.param_groups[0]["lr"] = 0.1
    assert tower.hyperparameters()[0]["lr"] == learned
    before = parameters_of(model)
    tower.zero_grad()
    loss_at(model, 5).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    tower.step()
    lr = tower.hyperparameters()[0]["lr"] * 0.5
    for p, w, g in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(p.detach(), w - lr * g, rtol=1e-14, atol=1e-14)


def test_a_schedule_on_a_step_size_that_started_at_0():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.0, optimizer=gdtuo.SGD(0.01)))
    train(model, tower, 3)
    assert tower.hyperparameters()[0]["lr"] != 0
    before, values = parameters_of(model), tower.hyperparameters()
    tower.param_groups[0]["lr"] = 0.1
    with pytest.raises(gdtuo.GdtuoError, match=r"is 0.1.* started at 0.*Start with another lr"):
        train(model, tower, 1)
    assert same(parameters_of(model), before)
    assert tower.hyperparameters() == values


def test_each_group_has_its_own_factor():
    model, rule = make_model(), gdtuo.SGD(0.1)
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters())}]
    tower = gdtuo.Tower(groups, rule)
    scheduler = lr_scheduler.LambdaLR(tower, [lambda i: 1.0, lambda i: 0.0])
    last = parameters_of(model[2])
    first = parameters_of(model[0])
    train(model, tower, 2)
    scheduler.step()
    assert same(parameters_of(model[2]), last)
    assert not same(parameters_of(model[0]), first)
