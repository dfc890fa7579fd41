"""The derivative of the loss with respect to every learned hyperparameter, at every level."""

import copy
import dataclasses

import pytest

import gdtuo
from tests.differences import check
from tests.problem import loss_at, make_model, train
from tests.rules_table import ROWS, homogeneous, stacked


def tower_of(rule):
    model = make_model()
    return model, gdtuo.Tower(model.parameters(), rule)


@pytest.mark.parametrize("height", [1, 2, 3, 4])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_rule_on_itself(row, height):
    if not row.rule.elementwise and height > 1:
        pytest.skip("not an upper level")
    check(*tower_of(homogeneous(row.pronounced, height)))


@pytest.mark.parametrize("position", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_rule_at_every_position_among_others(row, position):
    if not row.rule.elementwise and position > 0:
        pytest.skip("not an upper level")
    rule = None
    for i in range(4, -1, -1):
        if i == position:
            plain = row.pronounced
        elif position == 0:  # Adam's hypergradients are so large that SGD above SGD explodes
            plain = gdtuo.AdaGrad(0.002)
        else:
            plain = gdtuo.SGD(0.05 if i == 0 else 0.002, momentum=0.4)
        rule = stacked(plain, rule)
    check(*tower_of(rule))


@pytest.mark.parametrize(
    "text",
    [
        "Adam^lr(0.01) / SGD(0.001)",
        "Adam^{beta1,beta2}(0.01, beta1=0.6, beta2=0.8) / SGD(0.01)",
        "SGD^momentum(0.05, momentum=0.5) / AdaGrad(0.01)",
        "SGD^{lr,momentum}(0.05) / SGD(0.01)",
        "SGD(0.05, momentum=0.5) / SGD({lr: 0.01, momentum: 0.02})",
        "SGD(0.05, momentum=0.5) / SGD({lr: 0.01, momentum: 0.02}, momentum=0.3) / SGD(0.01)",
        "SGD(0.05, momentum=0.5) / SGD({lr: 0.01, momentum: 0.02}) / SGD({lr: 0.01}) / SGD(0.01)",
        "RMSProp(0.01, gamma=0.7) / SGD({gamma: 0.1}) / Adam(0.001)",
        "AdaGrad(0.05, initial_accumulator_value=0.02) / RMSProp(0.001, eps=1e-06) / SGD(0.01)",
        "SGD(-0.01, momentum=-0.3) / SGD(-0.01) / SGD(0.01)",
        "SGD(0.05, momentum=0.5, dampening=0.3) / SGD(0.01, momentum=0.5, dampening=0.3) / SGD",
        "SGD(0.05, momentum=0.5, nesterov=True) / SGD(0.01, momentum=0.5, nesterov=True) / SGD",
        "SGD^{lr,momentum}(0.05, nesterov=True) / SGD(0.01)",
        "NAdam^{beta1,beta2}(0.01, beta1=0.6, beta2=0.8, momentum_decay=0.1) / SGD(0.01)",
        # Weight decay of an upper level, which is of the coordinates beneath.
        "SGD(0.05, momentum=0.5) / SGD^{lr,weight_decay}(0.01, weight_decay=0.1) / SGD(0.01)",
        "SGD(0.05, momentum=0.5) / AdamW^{lr,weight_decay}(0.01, weight_decay=0.1) / SGD(0.01)",
        "SGD(0.05, momentum=0.5) / Lion^{lr,weight_decay}(0.01, weight_decay=0.1) / SGD(0.01)",
    ],
)
def test_particular_towers(text):
    check(*tower_of(gdtuo.parse(text)))


DECAYED = [
    gdtuo.SGD(0.05, weight_decay=0.0),  # named, it is learned from there too
    gdtuo.SGD(0.05, momentum=0.5, weight_decay=0.1, dampening=0.3),
    gdtuo.SGD(0.05, momentum=0.5, weight_decay=0.1, nesterov=True),
    gdtuo.AdamW(0.02, beta1=0.6, beta2=0.8, weight_decay=0.1),
    gdtuo.Lion(0.02, weight_decay=0.1),
]


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("height", [1, 2, 3])
@pytest.mark.parametrize("rule", DECAYED, ids=str)
def test_a_weight_decay_that_is_learned(rule, height, by_name):
    # Larger steps than these make three levels above Lion explode on some processors.
    above = homogeneous(gdtuo.SGD(1e-4, momentum=0.4), height - 1)
    if by_name:
        sizes = {"lr": 1e-4, "weight_decay": 0.01}
        above = dataclasses.replace(above, lr=sizes)
    learn = None if by_name else rule.learnable
    derivatives = check(*tower_of(stacked(rule, above, learn)))
    assert len(derivatives[0]) == (2 if by_name else len(rule.learnable))


def test_a_level_that_is_frozen_cuts_the_tower_there():
    model, tower = tower_of(gdtuo.parse("SGD(0.05) / SGD^{}(0.01) / SGD(0.01)"))
    assert len(check(model, tower)) == 1
    assert tower.hyperparameters()[1:] == [
        {"lr": 0.01, "momentum": 0.0},
        {"lr": 0.01, "momentum": 0.0},
    ]


@pytest.mark.parametrize("then", [(), ("lr",), ("momentum",)], ids=str)
@pytest.mark.parametrize("first", [(), ("lr",), ("momentum",)], ids=str)
def test_what_was_frozen_in_the_last_step_has_no_part_in_it(first, then):
    """Whatever is frozen now: the derivative is that of the step that was taken."""
    text = "SGD(0.1, momentum=0.5) / SGD(1e-3, momentum=0.9) / SGD(1e-15)"
    # On top a step size of almost nothing: what is moved by hand stays there in the step.
    model, tower = tower_of(gdtuo.parse(text))

    def take(step, frozen, model=model, tower=tower):
        tower.unfreeze()
        if frozen:
            tower.freeze(*frozen)
        train(model, tower, 1, start=step)

    def loss(distance):
        """That of step 7, had level 1's lr been another in step 6. (No state depends on it.)"""
        again, other = copy.deepcopy((model, tower))
        other.param_groups[0]["level1.learned"][0] += distance
        take(6, first, again, other)
        return loss_at(again, 7).item()

    train(model, tower, 5)
    take(5, first)
    difference = (loss(1e-4) - loss(-1e-4)) / 2e-4
    take(6, first)
    take(7, then)
    assert tower.hypergradients()[1]["lr"] == pytest.approx(difference, rel=1e-7)
