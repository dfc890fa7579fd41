"""Ensembles: each member goes the way it would go alone, and is disturbed by no other."""

from __future__ import annotations

import copy
import dataclasses
import io
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import gdtuo
from gdtuo import Ensemble, Safeguards, Tower
from tests.problem import golden, same
from tests.rules_table import ROWS, stacked

STEPS = 50
FACTORS = (1.0, 0.6, 1.3)  # of the members' first values
ELEMENTWISE = [row for row in ROWS if row.rule.elementwise]


def batch(step, member=None):
    """The rows of a step; with ``member``, other ones for each."""
    problem = golden()["problem"]
    start = 10 * ((step + (member or 0)) % 4)
    inputs, targets = (problem[key][start : start + 10] for key in ("inputs", "targets"))
    return torch.tensor(inputs, dtype=torch.float64), torch.tensor(targets)


def mlp(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def models(make=mlp):
    return [make(i) for i in range(len(FACTORS))]


def varied(rule, factor):
    """``rule`` with other first values, learned ones and constants, at every level."""
    changed = {}
    for name in rule.hyperparameters:
        value = getattr(rule, name)
        if isinstance(value, tuple):
            changed[name] = {entry: v * factor for entry, v in value}
        elif name == "lr":
            changed[name] = value * factor
        elif value != 0:  # betas and the like stay inside (0, 1), switches stay as they are
            changed[name] = 1 - (1 - value) * factor / 1.5
    for name, (low, high) in dict(rule.bounds or ()).items():
        changed[name] = min(max(changed[name], low), high)
    above = None if rule.optimizer is None else varied(rule.optimizer, factor)
    return dataclasses.replace(rule, **changed, optimizer=above)


def tall(row, height):
    """The rule on itself, with upper step sizes that 50 steps stand."""
    above = None
    for _ in range(height):
        above = dataclasses.replace(row.pronounced, lr=row.pronounced.lr / 100, optimizer=above)
    return stacked(row.pronounced, above)


def losses_of(ensemble, step, separate=False):
    pairs = [batch(step, i) if separate else batch(step) for i in range(len(ensemble))]
    x, y = (torch.stack(each) for each in zip(*pairs, strict=True))
    outputs = ensemble(x, separate=True) if separate else ensemble(x[0])
    return torch.vmap(cross_entropy)(outputs, y)


def train(ensemble, steps, start=0, separate=False, scheduler=None):
    """The members' losses before each step, [steps, N]."""
    losses = []
    for i in range(start, start + steps):
        ensemble.zero_grad()
        each = losses_of(ensemble, i, separate)
        each.sum().backward()
        ensemble.step()
        if scheduler is not None:
            scheduler.step()
        losses.append(each.detach())
    return torch.stack(losses)


def alone(model, rule, member, steps, separate=False, safeguards=None, schedule=None):
    model = copy.deepcopy(model)
    tower = Tower(model.parameters(), rule, safeguards=safeguards or Safeguards())
    scheduler = schedule(tower) if schedule else None
    for i in range(steps):
        tower.zero_grad()
        x, y = batch(i, member) if separate else batch(i)
        cross_entropy(model(x), y).backward()
        tower.step()
        if scheduler is not None:
            scheduler.step()
    return model, tower


def numbers(values):
    if isinstance(values, (float, int)):
        return [float(values)]
    children = values.values() if isinstance(values, dict) else values
    return [number for child in children for number in numbers(child)]


def agree(ensemble, member, model, tower):
    """That a member's weights, buffers, values and hypergradients are those of the run alone."""
    ours, theirs = ensemble.member(member).state_dict(), model.state_dict()
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
    for mine, other in (
        (ensemble.hyperparameters(member), tower.hyperparameters()),
        (ensemble.hypergradients(member), tower.hypergradients()),
    ):
        assert numbers(mine) == pytest.approx(numbers(other), rel=1e-8, abs=1e-9)


def compare(rule, separate=False, safeguards=None, schedule=None, steps=STEPS):
    rules, starts = [varied(rule, factor) for factor in FACTORS], models()
    ensemble = Ensemble(starts, rules, safeguards=safeguards or Safeguards())
    before = [ensemble.hyperparameters(i) for i in range(3)]
    assert len({str(values) for values in before}) == 3  # they do start from other values
    scheduler = schedule(ensemble.tower) if schedule else None
    losses = train(ensemble, steps, separate=separate, scheduler=scheduler)
    assert losses.isfinite().all()
    for i, (model, own) in enumerate(zip(starts, rules, strict=True)):
        agree(ensemble, i, *alone(model, own, i, steps, separate, safeguards, schedule))
        learns = rule.optimizer is not None
        assert (ensemble.hyperparameters(i) != before[i]) == learns


@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
@pytest.mark.parametrize("height", range(4))
@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_each_member_is_the_run_alone(row, height, separate):
    compare(tall(row, height), separate)


MANNERS = {
    "clip": Safeguards(clip=1e-3),
    "normalized": Safeguards(hyper_step="normalized", clip=1.0),
    "sign": Safeguards(hyper_step="sign"),
    "delay": Safeguards(delay=7),
    "cap": Safeguards(cap=0.002),
    "all": Safeguards(clip=1e-2, hyper_step="normalized", delay=3, cap=0.005),
}


@pytest.mark.parametrize("safeguards", MANNERS.values(), ids=MANNERS)
@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_with_safeguards(row, safeguards):
    # Only lr: Adam's first step is one of lr whatever the betas, and their hypergradient then a 0
    # whose sign is that of the rounding.
    above = gdtuo.parse("SGD(1e-4) / SGD(1e-6)")
    compare(stacked(row.pronounced, above, learn=("lr",)), safeguards=safeguards)


def test_the_safeguards_above_are_felt():
    """So that the comparisons with them can fail."""
    rule, start = gdtuo.parse("SGD(0.05) / SGD(1e-4)"), mlp(0)
    free = list(alone(start, rule, 0, 10)[0].parameters())
    for name, safeguards in MANNERS.items():
        safe = list(alone(start, rule, 0, 10, safeguards=safeguards)[0].parameters())
        assert not same(free, safe), name


def warm_up(tower):
    return torch.optim.lr_scheduler.LambdaLR(tower, lambda i: min(1.0, (i + 1) / 10))


@pytest.mark.parametrize("height", range(4))
@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_under_a_schedule(row, height):
    compare(tall(row, height), schedule=warm_up)


@pytest.mark.parametrize(
    "text",
    [
        "SGD(0.05, coordinates={lr: log}, bounds={lr: [0.02, 0.07]}) / SGD(10)",
        "Adam(0.01, coordinates={lr: log, beta1: logit}) / SGD(1e-2)",
        "Adam^beta1(0.01) / Adam^lr(1e-3) / SGD(1e-5)",
        "SGD(0.05, momentum=0.5) / SGD({lr: 1e-3, momentum: 1e-3}, momentum=0.5) / SGD(1e-4)",
        "SGD(0.05) / SGD(1e-3, momentum=0.5)",
        "SGD(0.05, momentum=0.5, bounds={momentum: [0.3, 0.7]}) / RMSProp(1e-4)",
    ],
)
def test_coordinates_bounds_and_step_sizes_by_name(text):
    compare(gdtuo.parse(text))


class Everything(gdtuo.Rule):
    """Decay, momentum, and a number that is a function of t: all that an update may ask for."""

    lr: float = gdtuo.hyperparameter(0.05)
    decay: float = gdtuo.hyperparameter(0.1)
    elementwise = True

    def init(self, w):
        return {"weight": w.new_ones(()), "m": torch.zeros_like(w)}

    def update(self, g, state, h, t, w):
        m = 0.5 * state["m"] + g + h.decay * w
        weight = state["weight"] * 0.9
        return h.lr * (1 + weight) * m / t.sqrt(), {"weight": weight, "m": m}


@pytest.mark.parametrize("make", [mlp, lambda i: nn.Sequential(nn.Linear(6, 3, bias=False))])
def test_a_rule_of_one_s_own_that_asks_for_everything(make):
    """On several tensors and on a single one, which is not joined with others."""
    rule = Everything(optimizer=Everything(1e-3, decay=1e-3, optimizer=gdtuo.SGD(1e-5)))
    rules = [varied(rule, factor) for factor in FACTORS]
    starts = [make(i).double() for i in range(3)]
    ensemble = Ensemble(starts, rules)
    train(ensemble, STEPS)
    for i in range(3):
        agree(ensemble, i, *alone(starts[i], rules[i], i, STEPS))


class Normalized(nn.Module):
    """Norms, a buffer that counts, a tied weight and a frozen one."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.first = nn.BatchNorm1d(6)
        self.a, self.b, self.head = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 3)
        self.norm = nn.BatchNorm1d(6)
        self.b.weight = self.a.weight
        self.scale = nn.Parameter(torch.tensor(1.5))  # of no dimension
        self.a.bias.requires_grad_(False)
        self.double()

    def forward(self, x):
        return self.head(self.b(self.norm(self.a(self.first(x))).tanh()) * self.scale)


@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
def test_batch_norm_ties_and_what_is_frozen(separate):
    starts = models(Normalized)
    rules = [f"Adam({lr}) / SGD(1e-5)" for lr in (0.01, 0.02, 0.005)]
    ensemble = Ensemble(starts, rules)
    train(ensemble, 20, separate=separate)
    ensemble.eval()
    x = batch(3)[0]
    outputs = ensemble(x)
    for i, (start, rule) in enumerate(zip(starts, rules, strict=True)):
        model, tower = alone(start, gdtuo.parse(rule), i, 20, separate)
        agree(ensemble, i, model, tower)
        assert not torch.equal(ensemble.member(i).norm.running_mean, start.norm.running_mean)
        torch.testing.assert_close(outputs[i], model.eval()(x))
        torch.testing.assert_close(outputs[i], ensemble.member(i)(x))


@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_a_member_that_diverges_disturbs_no_other(row):
    """The others are equal to the bit to those beside one that stays sane."""
    rule = tall(row, 2)

    def others(poison):
        ensemble = Ensemble(models(), rule)
        train(ensemble, 3)
        with torch.no_grad():
            for p in ensemble.parameters():
                p[1].fill_(math.nan) if poison else None
        losses = train(ensemble, 10, start=3)
        assert losses[:, 1].isfinite().all() != poison
        values = [ensemble.hyperparameters(i) for i in (0, 2)]
        weights = [p for i in (0, 2) for p in ensemble.member(i).parameters()]
        return losses[:, [0, 2]], values, weights

    (losses, values, weights), (expected, expected_values, expected_weights) = map(
        others, (True, False)
    )
    assert losses.equal(expected)
    assert values == expected_values
    assert same(weights, expected_weights)


def test_a_member_that_blows_up_by_its_own_step_size():
    rules = ["SGD(0.1) / SGD(1e-3)", "SGD(1e200) / SGD(1e-3)", "SGD(0.05) / SGD(1e-3)"]
    starts = models()
    ensemble = Ensemble(starts, rules)
    losses = train(ensemble, 20)
    assert not losses[-1, 1] < 1e100
    for i in (0, 2):
        agree(ensemble, i, *alone(starts[i], gdtuo.parse(rules[i]), i, 20))


@pytest.mark.parametrize("cap", [None, 0.01])
@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_resume_and_deepcopy_to_the_bit(row, cap):
    rule, safeguards = tall(row, 2), Safeguards(cap=cap)
    rules = [varied(rule, factor) for factor in FACTORS]
    ensemble = Ensemble(models(), rules, safeguards=safeguards)
    train(ensemble, 4)
    ensemble.tower.freeze("lr")
    train(ensemble, 1, start=4)
    buffer = io.BytesIO()
    torch.save(ensemble.state_dict(), buffer)
    buffer.seek(0)
    copied = copy.deepcopy(ensemble)
    resumed = Ensemble([mlp(9)] * 3, rule, safeguards=safeguards)
    resumed.load_state_dict(torch.load(buffer, weights_only=True))
    expected = train(ensemble, 5, start=5)
    for other in (resumed, copied):
        assert train(other, 5, start=5).equal(expected)
        assert same(list(other.parameters()), list(ensemble.parameters()))
        for i in range(3):
            assert other.hyperparameters(i) == ensemble.hyperparameters(i)


def test_buffers_are_saved():
    ensemble = Ensemble(models(Normalized), "Adam / SGD(1e-5)")
    train(ensemble, 3)
    resumed = Ensemble([Normalized(9)] * 3, "Adam / SGD(1e-5)")
    resumed.load_state_dict(ensemble.state_dict())
    for ours, theirs in zip(ensemble.eval()(batch(0)[0]), resumed.eval()(batch(0)[0]), strict=True):
        assert ours.equal(theirs)


def test_cotangents_are_each_member_s_own():
    rules, starts = ["SGD(0.1) / SGD(0.01)", "SGD(0.2) / SGD(0.02)"], models()[:2]
    ensemble = Ensemble(starts, rules)
    train(ensemble, 2)
    held_out = [torch.randn(p.shape, dtype=p.dtype) for p in ensemble.parameters()]
    ensemble.step(cotangents=held_out)
    for i in range(2):
        model, tower = alone(starts[i], gdtuo.parse(rules[i]), i, 2)
        tower.step(cotangents=[each[i] for each in held_out])
        agree(ensemble, i, model, tower)


def test_the_models_given_are_left_alone_and_a_member_is_a_copy():
    starts = models()
    before = copy.deepcopy(starts)
    ensemble = Ensemble(starts, "SGD(0.1)")
    train(ensemble, 2)
    member = ensemble.member(-1)
    for p in member.parameters():
        assert p.is_leaf
        p.data.zero_()
    assert ensemble.member(2)[0].weight.abs().sum() > 0
    for start, old in zip(starts, before, strict=True):
        assert same(list(start.parameters()), list(old.parameters()))


def test_an_ensemble_of_one():
    model = mlp(0)
    ensemble = Ensemble([model], "Adam(0.01) / SGD(1e-4)")
    train(ensemble, 5)
    agree(ensemble, 0, *alone(model, gdtuo.parse("Adam(0.01) / SGD(1e-4)"), 0, 5))
    assert ensemble.tower.hyperparameters()[0]["lr"].keys() == {0}


def test_dropout_draws_for_each_member():
    ensemble = Ensemble(models(drop), "SGD(0.1)")
    outputs = ensemble(torch.ones(1, 64))
    assert not outputs[0].equal(outputs[1])
    assert ensemble.eval()(torch.ones(1, 64)).equal(torch.ones(3, 1, 64))


def drop(_):
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(64, 64, bias=False))
    nn.init.eye_(model[1].weight)
    return model


def test_the_tower_reads_out_by_member():
    ensemble = Ensemble(models(), [f"SGD({lr}, momentum=0.5) / Adam(0.01)" for lr in (1, 2, 3)])
    values = ensemble.tower.hyperparameters()
    assert values[0]["lr"] == {0: 1.0, 1: 2.0, 2: 3.0}
    assert values[1]["lr"] == dict.fromkeys(range(3), pytest.approx(0.01))
    train(ensemble, 2)
    slopes = ensemble.tower.hypergradients()[0]["lr"]
    assert slopes == {i: ensemble.hypergradients(i)[0]["lr"] for i in range(3)}
    assert len(set(slopes.values())) == 3


def test_history_has_a_curve_for_each_member():
    pytest.importorskip("pandas")
    ensemble = Ensemble(models(), [f"SGD({lr}) / SGD(0.01)" for lr in (0.1, 0.2, 0.3)])
    history = gdtuo.History(ensemble.tower)
    train(ensemble, 3)
    last = history.to_frame().query("step == 3 and name == 'lr'")
    for i in range(3):
        found = last[last.part == str(i)].value.tolist()
        assert found == [level["lr"] for level in ensemble.hyperparameters(i)]


def test_freezing_holds_for_all():
    ensemble = Ensemble(models(), "SGD(0.1) / SGD(0.01)")
    train(ensemble, 2)
    ensemble.tower.freeze()
    before = ensemble.tower.hyperparameters()
    train(ensemble, 2, start=2)
    assert ensemble.tower.hyperparameters() == before
    ensemble.tower.unfreeze()
    train(ensemble, 1, start=4)
    assert ensemble.tower.hyperparameters() != before


class Coupled(gdtuo.Rule):
    """A rule whose step of an entry depends on the others."""

    lr: float = gdtuo.hyperparameter(0.1)

    def update(self, g, state, h):
        return h.lr * g / g.norm(), {}


def wider(i):
    return nn.Linear(2, 2 + i)


SGD = gdtuo.SGD(0.1, optimizer=gdtuo.SGD(0.01))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble([], SGD), "not of modules, or empty"),
        (lambda: Ensemble(mlp(0), SGD), "models is a Sequential"),
        (lambda: Ensemble([mlp(0), 3], SGD), "a list of a module for each"),
        (lambda: Ensemble([mlp(0), nn.Linear(6, 3)], SGD), "model 1: Linear"),
        (lambda: Ensemble(models(wider), SGD), r"model 1: Linear\(in_features=2, out_features=3"),
        (lambda: Ensemble([mlp(0), mlp(0).float()], SGD), r"model 1: .*float32"),
        (lambda: Ensemble([mlp(0), mlp(0).eval()], SGD), r"model 1: .*training: False"),
        (lambda: Ensemble([mlp(0), mlp(1).requires_grad_(False)], SGD), "model 1: .*frozen"),
        (lambda: Ensemble(models(), [SGD, SGD]), "2 rules for 3 models"),
        (
            lambda: Ensemble(models(), [SGD, SGD, "SGD(0.1)"]),
            r"(?s)member 0: SGD\^\{lr\}.* / SGD.*member 2: SGD\^\{\}",
        ),
        (lambda: Ensemble(models(), [SGD, "SGD(0.1, momentum=0.9) / SGD", SGD]), "member 1: .*mom"),
        (
            lambda: Ensemble(models()[:2], ["Adam(eps=1e-8)", "Adam(eps=1e-6)"]),
            "member 1: .*eps=1e-06",
        ),
        (
            lambda: Ensemble(models()[:2], [SGD, "SGD(0.1, coordinates={lr: log}) / SGD(0.01)"]),
            "coordinates of SGD",
        ),
        (
            lambda: Ensemble(models()[:2], [SGD, "SGD(0.1, bounds={lr: [0.1, 1]}) / SGD(0.01)"]),
            "bounds of SGD",
        ),
        (lambda: Ensemble(models(), Coupled()), "Coupled is not elementwise"),
        (lambda: Ensemble(models(), 0.1), "rule=0.1 is not a rule"),
        (lambda: Ensemble(models(), SGD, safeguards=Safeguards(guard=9)), "guard=9"),
        (lambda: Ensemble(models(), SGD)(torch.ones(2, 4, 6), separate=True), r"shape \(2, 4, 6\)"),
        (lambda: Ensemble(models(), SGD).member(3), "member=3, but there are 3"),
        (lambda: Ensemble(models(), SGD).hyperparameters(-4), "member=-4"),
        (lambda: Ensemble(models(), SGD).load_state_dict({}), "another ensemble"),
        (
            lambda: Ensemble(models(), SGD).load_state_dict(
                Ensemble(models()[:2], SGD).state_dict()
            ),
            r"saved parameters: \{'0.weight': \(2, 8, 6\)",
        ),
        (
            lambda: Ensemble(models(), SGD).load_state_dict(
                Ensemble(models(), "SGD(0.1)").state_dict()
            ),
            "state is that of another tower",
        ),
        (
            lambda: Ensemble(models(), SGD).tower.add_param_group({"params": [torch.ones(3)]}),
            "has one group",
        ),
        (lambda: Tower(mlp(0).parameters(), SGD, per="member"), "per='member'. Expected 'tower'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(gdtuo.GdtuoError, match=message):
        make()


def test_a_refused_state_changes_nothing():
    ensemble, other = Ensemble(models(), SGD), Ensemble(models(mlp)[::-1], "SGD(0.1)")
    before = [p.clone() for p in ensemble.parameters()]
    with pytest.raises(gdtuo.GdtuoError):
        ensemble.load_state_dict(other.state_dict())
    assert same(before, [p.detach() for p in ensemble.parameters()])
