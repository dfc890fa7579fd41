"""Who learns what: for all groups, a group, a tensor or an element; and held-out gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gdtuo
from tests.problem import loss_at, make_model, numbers, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous

TOWERS = [homogeneous(row.pronounced, 2) for row in ROWS]
BY_NAME = gdtuo.parse(
    "Adam(0.01) / SGD({lr: 1e-5, beta1: 1e-3, beta2: 1e-3}, momentum=0.5) / SGD(1e-4)"
)
STEPS = 12


def trained(groups_of, rule, **options):
    model = make_model()
    optimizer = gdtuo.Tower(groups_of(model), rule, **options)
    return train(model, optimizer, STEPS), model, optimizer


def all_together(model):
    return list(model.parameters())


def each_alone(model):
    return [{"params": [p]} for p in model.parameters()]


@pytest.mark.parametrize("rule", [*TOWERS, BY_NAME], ids=str)
def test_per_tower_is_one_group(rule):
    losses, model, optimizer = trained(all_together, rule)
    others, other_model, other = trained(each_alone, rule, per="tower")
    # Sums of hypergradients in another order: the rules that divide by a root of a second moment
    # that starts at 0 make much of the last digit.
    assert others == pytest.approx(losses, rel=1e-10)
    for i in range(4):
        ours, theirs = numbers(other.hyperparameters(i)), numbers(optimizer.hyperparameters())
        assert ours == pytest.approx(theirs, rel=1e-10)
    for ours, theirs in zip(parameters_of(other_model), parameters_of(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rule", [*TOWERS, BY_NAME], ids=str)
def test_per_tensor_is_a_group_for_each(rule):
    losses, model, optimizer = trained(each_alone, rule)
    others, _, other = trained(lambda m: m.named_parameters(), rule, per="tensor")
    assert others == pytest.approx(losses, rel=1e-12)
    names = [name for name, _ in model.named_parameters()]
    values = other.hyperparameters()
    for i, name in enumerate(names):
        expected = optimizer.hyperparameters(i)
        assert values[0]["lr"][name] == pytest.approx(expected[0]["lr"], rel=1e-10)
    # Each has learned its own. (Lion moves all by the same length.)
    hypergradients = other.hypergradients()[0]["lr"].values()
    assert len({round(v, 12) for v in hypergradients}) == 4


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_per_element_is_a_tensor_for_each(rule):
    def run(size, **options):
        torch.manual_seed(0)
        target = torch.randn(6, dtype=torch.float64)
        w = torch.zeros(6, dtype=torch.float64)
        pieces = [nn.Parameter(piece.clone()) for piece in w.split(size)]
        optimizer = gdtuo.Tower(pieces, rule, **options)
        for _ in range(STEPS):
            optimizer.zero_grad()
            (0.05 * (torch.cat(pieces) - target) ** 2 * torch.arange(1.0, 7.0)).mean().backward()
            optimizer.step()
        return torch.cat(pieces).detach(), optimizer.hyperparameters()[0]["lr"]

    alone, each = run(1, per="tensor")
    together, both = run(3, per="element")
    torch.testing.assert_close(together, alone, rtol=1e-11, atol=1e-13)
    torch.testing.assert_close(
        torch.cat([both[0], both[1]]), torch.tensor(list(each.values()), dtype=torch.float64)
    )


@pytest.mark.parametrize("per", ["tower", "group", "tensor", "element"])
@pytest.mark.parametrize("rule", [*TOWERS, BY_NAME], ids=str)
def test_resume_to_the_bit(rule, per, tmp_path):
    groups = lambda m: [{"params": m[0].parameters()}, {"params": m[2].parameters()}]  # noqa: E731
    model = make_model()
    optimizer = gdtuo.Tower(groups(model), rule, per=per)
    train(model, optimizer, 5)
    optimizer.freeze("lr")
    train(model, optimizer, 1, start=5)
    torch.save([model.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    expected = train(model, optimizer, 5, start=6)
    resumed = make_model()
    resumed_optimizer = gdtuo.Tower(groups(resumed), rule, per=per)
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed.load_state_dict(states[0])
    resumed_optimizer.load_state_dict(states[1])
    assert train(resumed, resumed_optimizer, 5, start=6) == expected
    assert same(parameters_of(model), parameters_of(resumed))


def test_a_group_with_its_own_rule():
    model = make_model()
    rule, own = gdtuo.parse("SGD(0.1) / SGD(1e-3)"), gdtuo.parse("Adam(0.01) / SGD(1e-5)")
    head = {"params": model[2].parameters(), "rule": own, "lr": 0.02}
    optimizer = gdtuo.Tower([{"params": model[0].parameters()}, head], rule)
    train(model, optimizer, 3)
    assert "momentum" in optimizer.hyperparameters(0)[0]
    assert set(optimizer.hyperparameters(1)[0]) == {"lr", "beta1", "beta2"}
    assert optimizer.hyperparameters(1)[0]["lr"] == pytest.approx(0.02, abs=5e-3)


def test_a_group_added_in_mid_training():
    model = make_model()
    optimizer = gdtuo.Tower(model[0].parameters(), gdtuo.parse("Adam(0.01) / SGD(1e-5)"))
    train(model, optimizer, 3)
    before = parameters_of(model[2])
    optimizer.add_param_group({"params": model[2].parameters(), "lr": 0.02})
    train(model, optimizer, 3, start=3)
    assert not same(before, parameters_of(model[2]))
    assert optimizer.hyperparameters(0)[0]["lr"] != optimizer.hyperparameters(1)[0]["lr"]


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_frozen_learning(rule):
    def run(frozen):
        model = make_model()
        optimizer = gdtuo.Tower(model.parameters(), rule)
        train(model, optimizer, 4)
        values = []
        if frozen is not None:
            optimizer.freeze(*frozen)
        for i in range(4, 8):
            train(model, optimizer, 1, start=i)
            values.append(optimizer.hyperparameters()[0])
        optimizer.unfreeze()
        train(model, optimizer, 1, start=8)
        values.append(optimizer.hyperparameters()[0])
        return values

    free, one, everything = run(None), run(["lr"]), run([])
    assert one[0]["lr"] == one[3]["lr"] != one[4]["lr"]
    for name in set(rule.learned) - {"lr"}:
        assert one[0][name] != one[3][name]
    assert everything[0] == everything[3]
    assert everything[0]["lr"] == one[0]["lr"] != free[0]["lr"]
    assert everything[4]["lr"] != everything[3]["lr"]


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_cotangents_are_what_is_differentiated(rule):
    """Their hypergradient is the derivative of the held-out loss through the last update."""
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), rule)
    train(model, optimizer, 4)
    optimizer.zero_grad()
    loss_at(model, 4).backward()
    held_out = torch.autograd.grad(loss_at(model, 6), list(model.parameters()))

    # The same, had the held-out gradients been those of the loss; other parameters move, not these.
    twin = make_model()
    twin.load_state_dict(model.state_dict())
    twin_optimizer = gdtuo.Tower(twin.parameters(), rule)
    twin_optimizer.load_state_dict(optimizer.state_dict())
    for p, g in zip(twin.parameters(), held_out, strict=True):
        p.grad = g
    optimizer.step(cotangents=held_out)
    twin_optimizer.step()
    assert optimizer.hypergradients() == twin_optimizer.hypergradients()
    assert optimizer.hyperparameters() == twin_optimizer.hyperparameters()
    assert not same(parameters_of(model), parameters_of(twin))
    assert all(abs(v) > 1e-9 for level in optimizer.hypergradients() for v in level.values())


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_maximize(rule):
    model, mirrored = make_model(), make_model()
    optimizer = gdtuo.Tower(model.parameters(), rule)
    other = gdtuo.Tower(mirrored.parameters(), rule, maximize=True)
    for i in range(STEPS):
        for m, o, sign in ((model, optimizer, 1), (mirrored, other, -1)):
            o.zero_grad()
            (sign * loss_at(m, i)).backward()
            o.step()
    assert same(parameters_of(model), parameters_of(mirrored))
    assert optimizer.hyperparameters() == other.hyperparameters()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p, r: gdtuo.Tower(p, r, per="layer"), "per='layer'"),
        (lambda p, r: gdtuo.Tower([{"params": p, "lr": 0.1}], r, per="tower"), "gives lr"),
        (lambda p, r: gdtuo.Tower([{"params": p, "rule": r}], r, per="tower"), "gives a rule"),
        (lambda p, r: gdtuo.Tower([{"params": p, "rule": "SGD"}], r), "is not a rule"),
        (lambda p, r: gdtuo.Tower(p, r).freeze("beta3"), "not beta3"),
        (lambda p, r: gdtuo.Tower(p, r).freeze(level=1), "learns nothing"),
        (lambda p, r: gdtuo.Tower(p, r).hyperparameters(3), "there are 1 groups"),
    ],
)
def test_errors(make, message):
    with pytest.raises(gdtuo.GdtuoError, match=message):
        make(list(make_model().parameters()), gdtuo.parse("Adam / SGD(1e-05)"))


def test_too_few_cotangents():
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), gdtuo.parse("Adam / SGD(1e-05)"))
    loss_at(model, 0).backward()
    with pytest.raises(gdtuo.GdtuoError, match="1 cotangents for 4 parameters"):
        optimizer.step(cotangents=[None])


def test_a_group_s_own_constants_are_its_own_where_the_tower_is_shared():
    """Where nothing is learned, against a tower for each group."""
    rule, results = gdtuo.parse("Adam(0.02) / SGD(0)"), []
    for per in ("tower", "group"):
        model = make_model()
        groups = [
            {"params": list(model[0].parameters())},
            {"params": list(model[2].parameters()), "eps": 0.1, "initial_second_moment": 0.01},
        ]
        train(model, gdtuo.Tower(groups, rule, per=per), 4)
        results.append(parameters_of(model))
    assert same(*results)


def test_names_that_two_tensors_have_are_no_labels():
    """Of two models in a group: then they go by their places."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    named = [*first.named_parameters(), *second.named_parameters()]
    tower = gdtuo.Tower(named, gdtuo.SGD(0.1, optimizer=gdtuo.SGD(1e-2)), per="tensor")
    history = gdtuo.History(tower)
    second(first(torch.ones(3, 2))).square().sum().backward()
    tower.step()
    assert list(tower.hyperparameters()[0]["lr"]) == [0, 1, 2, 3]
    assert set(history.to_frame()["part"]) == {"", "0", "1", "2", "3"}


def test_all_groups_freeze_what_they_learn():
    model = nn.Linear(5, 7)
    groups = [{"params": [model.weight]}, {"params": [model.bias], "weight_decay": 0.0}]
    rule = gdtuo.AdamW(learn=["lr", "weight_decay"], optimizer=gdtuo.SGD(1e-3))
    tower = gdtuo.Tower(groups, rule)

    def learn():
        before = [tower.hyperparameters(i)[0] for i in range(2)]
        for p in model.parameters():
            p.grad = torch.ones_like(p)
        tower.step()
        after = [tower.hyperparameters(i)[0] for i in range(2)]
        pairs = zip(before, after, strict=True)
        return [[name for name in old if old[name] != new[name]] for old, new in pairs]

    learn()
    tower.freeze("weight_decay")
    assert learn() == [["lr"], ["lr"]]
    tower.unfreeze()
    tower.freeze("lr")
    assert learn() == [["weight_decay"], []]
    tower.freeze()
    assert learn() == [[], []]
    with pytest.raises(gdtuo.GdtuoError, match="not gamma"):
        tower.freeze("lr", "gamma")
    with pytest.raises(gdtuo.GdtuoError, match="not weight_decay"):
        tower.freeze("weight_decay", group=1)


def test_a_group_that_learns_nothing_is_no_hindrance_to_freezing():
    model = nn.Linear(5, 7)
    groups = [{"params": [model.bias], "rule": gdtuo.SGD(0.1)}, {"params": [model.weight]}]
    tower = gdtuo.Tower(groups, gdtuo.AdamW(optimizer=gdtuo.SGD(1e-5)))
    tower.freeze()
    assert not tower._learner(1).is_free(0)
    tower.unfreeze("lr")
    assert tower._learner(1).is_free(0)
    with pytest.raises(gdtuo.GdtuoError, match="Level 1 of"):
        tower.freeze(level=1)


@pytest.mark.parametrize("loads", [True, False])
def test_a_wider_group_widens_what_is_learned(loads):
    """To the rule's values in all digits, unless others were loaded."""
    rule = gdtuo.SGD(0.05, optimizer=gdtuo.SGD(1e-3))
    tower = gdtuo.Tower([nn.Parameter(torch.ones(2))], rule, per="tower")
    if loads:
        other = gdtuo.SGD(0.3, optimizer=gdtuo.SGD(1e-3))
        saved = gdtuo.Tower([nn.Parameter(torch.ones(2))], other, per="tower")
        tower.load_state_dict(saved.state_dict())
    tower.add_param_group({"params": [nn.Parameter(torch.ones(2, dtype=torch.float64))]})
    expected = torch.tensor(0.3).item() if loads else 0.05
    assert tower.hyperparameters()[0]["lr"] == expected
