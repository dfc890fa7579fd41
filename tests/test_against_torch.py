"""Where nothing is learned a rule is `torch.optim`'s, and an upper level that stands still is none.

The constants are such that the two add eps in the same place, and torch's state is preset to the
paper's start.
"""

import dataclasses
import inspect

import pytest
import torch
from torch import nn

import gdtuo
from tests.problem import loss_at, make_model, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous, stacked

ALIKE = [(row, rule) for row in ROWS for rule in row.alike]
ids = [str(rule) for _, rule in ALIKE]


@pytest.mark.parametrize(("row", "rule"), ALIKE, ids=ids)
def test_a_rule_alone_is_torch_s(row, rule):
    ours, theirs = make_model(), make_model()
    losses = train(ours, gdtuo.Tower(ours.parameters(), rule), 50)
    expected = train(theirs, row.torch_optimizer(theirs.parameters(), rule), 50)
    assert losses == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert sum(losses[-4:]) < sum(losses[:4])
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("rule", "theirs"),
    [
        (gdtuo.AdamW(), torch.optim.AdamW),
        (gdtuo.NAdam(), torch.optim.NAdam),
        (gdtuo.Muon(), getattr(torch.optim, "Muon", None)),  # which torch 2.6 hasn't got
    ],
    ids=str,
)
def test_a_rule_with_torch_s_numerics_has_its_defaults(rule, theirs):
    if theirs is None:
        pytest.skip(f"this version of torch has no {type(rule).__name__}")
    given = {k: v.default for k, v in inspect.signature(theirs).parameters.items()}
    given |= dict(zip(("beta1", "beta2"), given.pop("betas", ()), strict=False))
    own = {name: getattr(rule, name) for name in rule.specs}
    assert own == {name: given[name] for name in own}


@pytest.mark.parametrize(("row", "rule"), ALIKE, ids=ids)
def test_a_layer_unfrozen_late_starts_there(row, rule):
    """Its own step count too, which is what bias correction depends on."""
    models = [make_model(), make_model()]
    optimizers = [
        gdtuo.Tower(models[0].parameters(), rule),
        row.torch_optimizer(models[1].parameters(), rule),
    ]
    for model, optimizer in zip(models, optimizers, strict=True):
        model[0].requires_grad_(False)
        start = parameters_of(model[0])
        train(model, optimizer, 5)
        assert same(start, parameters_of(model[0]))
        model[0].requires_grad_(True)
        train(model, optimizer, 6, start=5)
        assert not same(start, parameters_of(model[0]))
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("row", "rule"), ALIKE, ids=ids)
def test_a_parameter_without_gradient_now_and_then(row, rule):
    models = [make_model(), make_model()]
    optimizers = [
        gdtuo.Tower(models[0].parameters(), rule),
        row.torch_optimizer(models[1].parameters(), rule),
    ]
    for model, optimizer in zip(models, optimizers, strict=True):
        for i in range(12):
            optimizer.zero_grad()
            loss_at(model, i).backward()
            if i in (3, 4, 8):
                model[2].weight.grad = None
            if i == 4:
                model[0].bias.grad = None
            optimizer.step()
    for p, q in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "dtype", [torch.float32, pytest.param(torch.float64, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("above", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_upper_level_of_step_size_0_changes_no_bit(row, above, dtype):
    if not above.rule.elementwise:
        pytest.skip("not an upper level")
    still = dataclasses.replace(above.pronounced, lr=0.0)
    alone = make_model(dtype)
    losses = train(alone, gdtuo.Tower(alone.parameters(), row.pronounced), 8, dtype=dtype)
    for tower_above in (still, stacked(still, still), stacked(still, stacked(still, still))):
        learning = make_model(dtype)
        tower = gdtuo.Tower(learning.parameters(), stacked(row.pronounced, tower_above))
        before = tower.hyperparameters()
        assert train(learning, tower, 8, dtype=dtype) == losses
        assert same(parameters_of(learning), parameters_of(alone))
        assert tower.hyperparameters() == before


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_an_upper_level_that_does_step_changes_the_run(row):
    """So that the test above can fail."""
    alone, learning = make_model(), make_model()
    losses = train(alone, gdtuo.Tower(alone.parameters(), row.pronounced), 8)
    rule = stacked(row.pronounced, gdtuo.SGD(1e-4))
    tower = gdtuo.Tower(learning.parameters(), rule)
    before = tower.hyperparameters()
    assert train(learning, tower, 8) != losses
    after = tower.hyperparameters()
    assert all(after[0][name] != before[0][name] for name in rule.learned)
    assert after[1] == before[1]


@pytest.mark.parametrize("learn", [(), ("lr",)])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_is_not_learned_stays_to_the_bit(row, learn):
    model, rule = make_model(), stacked(row.pronounced, gdtuo.SGD(1e-3), learn)
    tower = gdtuo.Tower(model.parameters(), rule)
    before = tower.hyperparameters()
    train(model, tower, 10)
    after = tower.hyperparameters()
    assert {name for name in after[0] if after[0][name] != before[0][name]} == set(learn)
    if not learn:
        alone = make_model()
        train(alone, gdtuo.Tower(alone.parameters(), row.pronounced), 10)
        assert same(parameters_of(model), parameters_of(alone))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_arithmetic_is_one_at_every_height(row):
    """Frozen beneath a tall tower: to the bit the rule alone."""
    alone, tall = make_model(torch.float32), make_model(torch.float32)
    train(alone, gdtuo.Tower(alone.parameters(), row.pronounced), 10, dtype=torch.float32)
    rule = stacked(row.pronounced, homogeneous(gdtuo.SGD(0.1), 2), ())
    train(tall, gdtuo.Tower(tall.parameters(), rule), 10, dtype=torch.float32)
    assert same(parameters_of(alone), parameters_of(tall))


def test_tied_weights_are_one_parameter():
    def make() -> nn.Module:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3)).double()
        model[2].weight = model[0].weight
        return model

    ours, theirs = make(), make()
    tower = gdtuo.Tower(ours.parameters(), gdtuo.SGD(0.1, momentum=0.9))
    train(ours, tower, 10)
    train(theirs, torch.optim.SGD(theirs.parameters(), lr=0.1, momentum=0.9), 10)
    assert ours[2].weight is ours[0].weight
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
