"""What is kept of the last update: where `lr` alone is learned, no more than the rule's state."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import gdtuo
from gdtuo import Safeguards
from tests.problem import PER, make_model, parameters_of, same, train
from tests.rules_table import ROWS
from tests.test_contract import read, through_a_file

TOLD = {
    "Adam": gdtuo.Adam(0.02, beta1=0.6, beta2=0.8),
    "AdamW": gdtuo.AdamW(0.02, beta1=0.6, beta2=0.8, weight_decay=0.0),
    "SGD": gdtuo.SGD(0.05, momentum=0.6, dampening=0.2, weight_decay=0.1),
}
NOT_TOLD = {
    "Adam, more learned": gdtuo.Adam(0.02, learn=["lr", "beta1"], optimizer=gdtuo.SGD(1e-3)),
    "AdamW with decay": gdtuo.AdamW(0.02),
    "Nesterov": gdtuo.SGD(0.05, momentum=0.6, nesterov=True),
    "SGD": gdtuo.SGD(0.05),
    "NAdam": gdtuo.NAdam(0.02),
    "RMSProp": gdtuo.RMSProp(0.02),
}


def lr_alone(rule, height=1):
    above = gdtuo.SGD(1e-3) if height == 1 else lr_alone(dataclasses.replace(rule, lr=1e-3))
    return dataclasses.replace(rule, learn=["lr"], optimizer=above)


def keys(tower):
    kept = {key for store in tower.state.values() for key in store}
    return kept | {key.rpartition(".")[2] for key in tower.param_groups[0] if "level1" in key}


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("guard", [0, 50])
@pytest.mark.parametrize("height", [1, 2])
@pytest.mark.parametrize("rule", TOLD.values(), ids=TOLD)
def test_the_step_told_from_the_state_is_the_step_that_was_taken(
    rule, height, guard, per, monkeypatch
):
    """To the bit: the same trajectory as with the gradient kept, and after a resumption."""

    def make():
        model = make_model()
        options = {"per": per, "safeguards": Safeguards(guard=guard)}
        return model, gdtuo.Tower(model.parameters(), lr_alone(rule, height), **options)

    model, tower = make()
    losses = train(model, tower, 4)
    assert "previous_gradient" not in keys(tower)
    again, other = make()
    weights, state = through_a_file(model, tower)
    again.load_state_dict(weights)
    other.load_state_dict(state)
    losses += train(model, tower, 4, start=4)
    assert train(again, other, 4, start=4) == losses[4:]

    monkeypatch.setattr(type(rule), "steps_again", False)
    model, reference = make()
    assert "previous_gradient" in keys(reference)
    assert train(model, reference, 8) == losses
    assert same(parameters_of(model), parameters_of(again))
    assert read(reference) == read(other)


@pytest.mark.parametrize("rule", NOT_TOLD.values(), ids=NOT_TOLD)
def test_where_it_can_not_be_told_the_gradient_is_kept(rule):
    rule = rule if rule.optimizer is not None else lr_alone(rule)
    tower = gdtuo.Tower(make_model().parameters(), rule)
    assert "previous_gradient" in keys(tower)


def test_every_rule_that_can_tell_is_held_to_it_above():
    can = {row.name for row in ROWS if row.rule.step_again is not gdtuo.Rule.step_again}
    assert can == set(TOLD)


def test_memory():
    """8 bytes a parameter for Adam, those of plain Adam."""
    p = torch.nn.Parameter(torch.zeros(1000))
    tower = gdtuo.Tower([p], gdtuo.parse("Adam^lr / SGD(1e-05)"))
    p.grad = torch.ones(1000)
    for _ in range(3):
        tower.step()
    tensors = [x for x in tower.state[p].values() if isinstance(x, torch.Tensor)]
    assert sum(x.untyped_storage().nbytes() for x in tensors) == 8000
