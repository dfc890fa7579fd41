"""Weight decay and the options beside it: groups without it, what it is learned along, refusals."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from gdtuo import SGD, AdamW, GdtuoError, Lion, Muon, Tower
from tests import references
from tests.problem import PER, loss_at, make_model, train
from tests.rules_table import BY_RULE, without_decay
from tests.test_muon import matrices

DECAYED = [
    SGD(0.05, weight_decay=0.3),
    SGD(0.05, momentum=0.9, weight_decay=0.3, dampening=0.3),
    AdamW(0.01, beta1=0.8, beta2=0.99, weight_decay=0.3),
    Lion(0.005, weight_decay=0.3),
]


def torch_s(rule, groups):
    is_muon = type(rule) is Muon
    return (references.Muon if is_muon else BY_RULE[type(rule)].torch_optimizer)(groups, rule)


def without_on_some(model, last_only=False):
    """The usual groups: no decay of what is no matrix; or of the last matrix."""
    *_, last = model.parameters()
    split = [[], []]
    for p in model.parameters():
        split[p is last if last_only else p.dim() < 2].append(p)
    return [{"params": split[False]}, {"params": split[True], "weight_decay": 0.0}]


@pytest.mark.parametrize("without_first", [False, True])
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("rule", [*DECAYED, Muon(0.02, weight_decay=0.3)], ids=str)
def test_a_group_without_decay_is_torch_s(rule, per, without_first):
    is_muon = type(rule) is Muon
    make = matrices if is_muon else make_model
    ours, theirs, decayed = make(), make(), make()
    order = slice(None, None, -1) if without_first else slice(None)
    train(ours, Tower(without_on_some(ours, is_muon)[order], rule, per=per), 10)
    train(theirs, torch_s(rule, without_on_some(theirs, is_muon)[order]), 10)
    train(decayed, Tower(decayed.parameters(), rule), 10)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)
    assert not list(ours.parameters())[-1].allclose(list(decayed.parameters())[-1])


@pytest.mark.parametrize("rule", DECAYED, ids=str)
def test_the_hypergradients_of_such_groups_add_up(rule):
    """At the first that is taken, where all copies of the hyperparameters are alike."""
    rule = dataclasses.replace(rule, optimizer=SGD(1e-4))

    def hypergradients(per):
        model = make_model()
        tower = Tower(without_on_some(model), rule, per=per)
        train(model, tower, 2)
        assert [("weight_decay" in tower.hyperparameters(i)[0]) for i in range(2)] == [True, False]
        return [tower.hypergradients(i)[0] for i in range(1 if per == "tower" else 2)]

    (whole,) = hypergradients("tower")
    first, second = hypergradients("group")
    both = {name: first[name] + second[name] for name in whole}
    assert whole == pytest.approx(both, rel=1e-10, abs=1e-15)
    assert min(abs(first["lr"]), abs(second["lr"])) > 1e-3


@pytest.mark.parametrize("rule", [*DECAYED, Muon(0.02, weight_decay=0.3)], ids=str)
def test_weights_that_no_gradient_moves_shrink_by_the_learned_lr_times_the_learned_decay(rule):
    def shrunk(rule):
        w = nn.Parameter(torch.ones(2, 2, dtype=torch.float64))
        w.grad = torch.zeros_like(w)
        Tower([w], rule).step()
        return w

    assert shrunk(rule).allclose(torch.tensor(1 - rule.lr * 0.3, dtype=torch.float64), rtol=1e-12)
    assert shrunk(without_decay(rule)).equal(torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("rule", [SGD(0.05, weight_decay=0.01), AdamW(0.01)], ids=str)
def test_held_out_gradients_decide_which_way_it_goes(rule):
    """Along w it grows, against it it shrinks: what the last step did of it was -lr decay w."""

    def learned(sign):
        model = make_model()
        sizes = SGD(lr={"weight_decay": 0.1})
        tower = Tower(model.parameters(), dataclasses.replace(rule, optimizer=sizes))
        train(model, tower, 3)
        start = tower.hyperparameters()[0]["weight_decay"]
        tower.zero_grad()
        loss_at(model, 3).backward()
        tower.step(cotangents=[sign * p.detach() for p in model.parameters()])
        return tower.hyperparameters()[0]["weight_decay"] - start

    assert learned(1.0) > 1e-5
    assert learned(-1.0) < -1e-5


def test_no_copy_of_the_parameters_is_kept_where_nothing_decays():
    for rule, copies in ((SGD, 0), (AdamW, 1), (Lion, 0)):
        for decay, expected in ((None, copies), (0.0, 0), (0.1, 1)):
            options = {} if decay is None else {"weight_decay": decay}
            tower = Tower(make_model().parameters(), rule(**options, optimizer=SGD()))
            kept = [key for state in tower.state.values() for key in state]
            assert kept.count("previous_parameter") == 4 * expected
            assert all(isinstance(tower.state[p]["step"], int) for p in tower.state)


REFUSED = {
    "weight_decay below 0": (
        lambda: AdamW(weight_decay=-0.1),
        r"AdamW: weight_decay=-0\.1 is outside its domain\. Give a finite number, 0 or more",
    ),
    "a positional weight_decay": (
        lambda: SGD(0.1, 0.9, 0.01),
        r"SGD: .*positional.* Expected lr, momentum and, by name alone, weight_decay, dampening, "
        "nesterov, optimizer",
    ),
    "a switch that is a number": (
        lambda: SGD(momentum=0.9, nesterov=1.0),
        r"SGD: nesterov=1\.0 is no switch\. Give True or False",
    ),
    "nesterov without momentum": (
        lambda: SGD(nesterov=True),
        r"SGD: nesterov=True with momentum=0\.0 and dampening=0\.0\. Give a momentum, and no damp",
    ),
    "nesterov with dampening": (
        lambda: SGD(momentum=0.9, dampening=0.1, nesterov=True),
        r"SGD: nesterov=True with momentum=0\.9 and dampening=0\.1\. Give a momentum, and no damp",
    ),
    "nesterov in a group without momentum": (
        lambda: Tower(
            [{"params": make_model().parameters(), "momentum": 0.0}],
            SGD(momentum=0.9, nesterov=True),
        ),
        r"SGD: nesterov=True with momentum=0\.0 .* Give a momentum",
    ),
    "learn of what has no derivative": (
        lambda: Lion(optimizer=SGD(), learn=("lr", "beta1")),
        r"Lion: learn names 'beta1', which can't be learned: .*a sign, whose derivative is 0\. "
        r"Expected some of lr, weight_decay",
    ),
    "lr={...} of what has no derivative": (
        lambda: Lion(optimizer=SGD(lr={"lr": 0.1, "beta2": 0.1})),
        r"Lion: the lr of the rule above names 'beta2', .* a sign, .* some of lr, weight_decay",
    ),
    "a learned decay that a group of one tower switches off": (
        lambda: Tower(
            without_on_some(make_model()),
            AdamW(optimizer=SGD(), learn=("weight_decay",)),
            per="tower",
        ),
        r"group gives weight_decay, but per='tower' learns weight_decay.*use per='group'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    attempt, message = REFUSED[name]
    with pytest.raises(GdtuoError, match=message):
        attempt()


def test_what_is_not_refused():
    assert SGD(nesterov=True, optimizer=SGD(), learn=["momentum"]).nesterov  # it starts at 0
    assert SGD(momentum=-0.5, nesterov=True).momentum == -0.5
    assert SGD(dampening=0.5).dampening == 0.5  # of no momentum, as in torch
    assert Lion(optimizer=SGD(lr={"weight_decay": 0.1})).learned == ("weight_decay",)
    assert AdamW(optimizer=SGD()).learned == ("lr", "beta1", "beta2")


def test_a_state_with_decay_is_not_one_without():
    with_decay = Tower(make_model().parameters(), AdamW()).state_dict()
    tower = Tower(make_model().parameters(), AdamW(weight_decay=0.0))
    with pytest.raises(
        GdtuoError, match=r"(?s)saved: .*with weight_decay.*here:  AdamW\^\{\}\(eps"
    ):
        tower.load_state_dict(with_decay)
    Tower(make_model().parameters(), AdamW(weight_decay=0.5)).load_state_dict(with_decay)


def test_an_sgd_that_uses_none_of_it_keeps_and_takes_what_it_did():
    """The text by which a state is known, so that older ones are still loaded; neither t nor w."""
    rule = SGD(0.1, momentum=0.9, optimizer=SGD(1e-5))
    tower = Tower(make_model().parameters(), rule)
    assert rule.inputs == frozenset()
    text = bytes(tower.param_groups[0]["tower"].tolist()).decode()
    assert text == "SGD^{lr,momentum}(state momentum_buffer) / SGD^{}()"
    tensors = {k for p in tower.state.values() for k, v in p.items() if isinstance(v, Tensor)}
    assert tensors == {"momentum_buffer", "previous_gradient"}


@pytest.mark.parametrize(
    ("above", "learned"),
    [
        (SGD(1e-3), ["lr", "weight_decay"]),
        (SGD(lr={"lr": 1e-3, "weight_decay": 1e-3}), None),
        (SGD(1e-3), ["weight_decay"]),
    ],
    ids=str,
)
def test_a_group_without_it_does_not_learn_it(above, learned):
    rule = AdamW(0.01, weight_decay=0.3, optimizer=above, learn=learned)
    model = make_model()
    tower = Tower(without_on_some(model), rule)
    train(model, tower, 5)
    with_it, without = (tower.hyperparameters(i)[0] for i in (0, 1))
    assert with_it["weight_decay"] != 0.3
    assert without.get("weight_decay", 0.0) == 0.0
    assert (without["lr"] != 0.01) == ("lr" in rule.learned)
