"""Parameter groups: they learn apart, come at any time, and leave nothing where one is refused."""

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import Safeguards
from tests.problem import (
    SGD_SGD,
    halves,
    loss_at,
    make_model,
    make_tower,
    numbers,
    parameters_of,
    same,
    train,
)


def test_a_group_without_any_gradient_does_nothing_while_another_steps():
    model = make_model()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    tower = gdtuo.Tower(groups, SGD_SGD)
    train(model, tower, 4)
    before, frozen = tower.hyperparameters(0), parameters_of(model[0])
    moving = tower.hyperparameters(1)
    model[0].requires_grad_(False)
    train(model, tower, 2)
    assert tower.hyperparameters(0) == before
    assert same(parameters_of(model[0]), frozen)
    assert tower.hyperparameters(1) != moving
    model[0].requires_grad_(True)
    train(model, tower, 1)  # its kept update was dropped: there is no hypergradient yet
    assert tower.hyperparameters(0)[0] == before[0]
    train(model, tower, 1)
    assert tower.hyperparameters(0)[0] != before[0]


@pytest.mark.parametrize("options", [{}, {"compile": "eager"}, {"safeguards": Safeguards(guard=9)}])
def test_a_group_without_any_gradient_has_no_hypergradient(options):
    model = make_model()
    rule = gdtuo.SGD(0.1, optimizer=gdtuo.SGD(1e-3, optimizer=gdtuo.SGD(1e-5)))
    tower = gdtuo.Tower(halves(model), rule, **options)
    train(model, tower, 5)
    assert min(map(abs, numbers(tower.hypergradients(0)))) > 0
    model[0].requires_grad_(False)
    for _ in range(4):
        train(model, tower, 1)
        assert numbers(tower.hypergradients(0)) == [0.0, 0.0]
        assert min(map(abs, numbers(tower.hypergradients(1)))) > 0


def test_groups_learn_apart_each_from_its_own_values():
    model, alone = make_model(), make_model()
    groups = [
        {"params": list(model[0].parameters()), "lr": 0.02},
        {"params": list(model[2].parameters()), "momentum": 0.25, "name": "head"},
    ]
    tower = gdtuo.Tower(groups, SGD_SGD)
    assert tower.hyperparameters(0)[0] == {"lr": 0.02, "momentum": 0.5}
    assert tower.hyperparameters(1)[0] == {"lr": 0.05, "momentum": 0.25}
    assert tower.hyperparameters(-1) == tower.hyperparameters(1)
    # The same as a tower for each.
    first = gdtuo.SGD(0.02, momentum=0.5, optimizer=gdtuo.SGD(0.01))
    second = gdtuo.SGD(0.05, momentum=0.25, optimizer=gdtuo.SGD(0.01))
    towers = [
        gdtuo.Tower(alone[0].parameters(), first),
        gdtuo.Tower(alone[2].parameters(), second),
    ]
    train(model, tower, 6)
    for i in range(6):
        alone.zero_grad()
        loss_at(alone, i).backward()
        for each in towers:
            each.step()
    assert same(parameters_of(model), parameters_of(alone))
    assert tower.hyperparameters(0) == towers[0].hyperparameters()
    assert tower.hyperparameters(1) == towers[1].hyperparameters()
    assert tower.param_groups[1]["name"] == "head"


def test_a_group_added_later():
    model = make_model()
    tower = gdtuo.Tower(model[0].parameters(), SGD_SGD)
    start = parameters_of(model[2])
    train(model, tower, 2)
    assert same(parameters_of(model[2]), start)
    tower.add_param_group({"params": model[2].parameters(), "lr": 0.01})
    train(model, tower, 2)
    assert not same(parameters_of(model[2]), start)
    assert len(tower.param_groups) == 2
    assert tower.hyperparameters(1)[0]["lr"] != 0.01


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_that_is_given_twice():
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(gdtuo.GdtuoError, match="a parameter twice"):
        gdtuo.Tower([p, p], SGD_SGD)


class Picky(gdtuo.Rule):
    """w <- w - lr g, of vectors."""

    lr: float = gdtuo.hyperparameter(default=0.1)
    elementwise = True

    def init(self, w):
        if w.dim() != 1:
            raise RuntimeError("no vector")
        return {}

    def update(self, g, state, h):
        return h.lr * g, state


def test_nothing_of_a_group_stays_behind_that_its_rule_refuses():
    model, tower = make_tower()
    for bad in (nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones((), dtype=torch.float64))):
        with pytest.raises(RuntimeError, match="no vector"):
            tower.add_param_group({"params": [bad], "rule": Picky()})
        assert bad not in tower.state
    other_model, other = make_tower()
    assert train(model, tower, 3) == train(other_model, other, 3)
    assert len(tower.state_dict()["param_groups"]) == 1


def test_what_all_groups_share_stays_when_one_is_refused():
    """A group of another precision changes that of a tower that has not begun; if it is taken."""
    p = nn.Parameter(torch.ones(3))
    tower = gdtuo.Tower([p], Picky(optimizer=gdtuo.SGD(1e-3)), per="tower")
    before = str(tower.state_dict())
    bad = nn.Parameter(torch.ones((), dtype=torch.float64))
    with pytest.raises(RuntimeError, match="no vector"):
        tower.add_param_group({"params": [bad]})
    assert str(tower.state_dict()) == before
    tower.add_param_group({"params": [nn.Parameter(torch.ones(2, dtype=torch.float64))]})
    assert tower.param_groups[0]["level0.learned"].dtype == torch.float64


class Named(gdtuo.Rule):
    """w <- w - lr g / steps: a constant by the name of what a tower keeps in a group."""

    lr: float = gdtuo.hyperparameter(default=0.1)
    steps: float = gdtuo.constant(default=5.0)
    elementwise = True

    def update(self, g, state, h):
        return h.lr * g / self.steps, state


def test_a_rule_may_call_a_constant_what_it_likes():
    w = nn.Parameter(torch.ones(3))
    tower = gdtuo.Tower([w], Named(optimizer=gdtuo.SGD(1e-3)))
    w.grad = torch.ones(3)
    tower.step()
    assert w.tolist() == pytest.approx([0.98] * 3)


def test_a_group_may_ask_for_no_weight_decay_of_a_rule_that_has_none():
    model = make_model()
    groups = [{"params": p, "weight_decay": 0.0} for p in model.parameters()]
    tower = gdtuo.Tower(groups, SGD_SGD)
    other = make_model()
    plain = gdtuo.Tower([{"params": p} for p in other.parameters()], SGD_SGD)
    assert train(model, tower, 3) == train(other, plain, 3)
    with pytest.raises(gdtuo.GdtuoError, match="gives 'weight_decay'"):
        gdtuo.Tower(
            [{"params": p, "weight_decay": 0.1} for p in parameters_of(model)], gdtuo.Adam()
        )


def test_a_default_takes_it_too():
    gdtuo.default([{"params": list(make_model().parameters()), "weight_decay": 0.0}])
