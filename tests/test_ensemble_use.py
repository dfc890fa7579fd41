"""Ensembles in use: what one member does to the others, saving, reading, refusing."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import Ensemble, Safeguards, Tower
from tests.ensembles import (
    ELEMENTWISE,
    FACTORS,
    Normalized,
    agree,
    alone,
    batch,
    mlp,
    models,
    tall,
    train,
    varied,
)
from tests.problem import same


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

    lr: float = gdtuo.hyperparameter(default=0.1)

    def update(self, g, state, h):
        return h.lr * g / g.norm(), {}


def wider(i):
    return nn.Linear(2, 2 + i)


SGD = gdtuo.SGD(0.1, optimizer=gdtuo.SGD(0.01))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Ensemble([], SGD), "none for each member"),
        (lambda: Ensemble(mlp(0), SGD), "models is a Sequential"),
        (lambda: Ensemble([mlp(0), 3], SGD), "Give a list of modules"),
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
        (lambda: Ensemble(models(), 0.1), "Ensemble: rule=0.1 is not a rule"),
        (lambda: Ensemble([nn.Tanh()], SGD), "Ensemble: a Tanh has no parameters"),
        (lambda: Ensemble([nn.LazyLinear(2)], SGD), "lazy layers .* Call each model once"),
        (lambda: Ensemble(models(), SGD, safeguards=None), "Ensemble: safeguards=None"),
        (lambda: Ensemble(models(), SGD).member("0"), "member='0', but there are 3"),
        (lambda: Ensemble(models(), SGD).load_state_dict(3), "The state is a int and not that"),
        (lambda: Ensemble(models(), SGD, safeguards=Safeguards(guard=9)), "guard=9"),
        (lambda: Ensemble(models(), SGD)(torch.ones(2, 4, 6), separate=True), r"shape \(2, 4, 6\)"),
        (lambda: Ensemble(models(), SGD).member(3), "member=3, but there are 3"),
        (lambda: Ensemble(models(), SGD).hyperparameters(-4), "member=-4"),
        (lambda: Ensemble(models(), SGD).load_state_dict({}), "not that of an ensemble"),
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
        (
            lambda: Tower(mlp(0).parameters(), SGD, per="member"),
            "per='member'. Expected one of 'tower'",
        ),
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


class Named(nn.Module):
    """Takes its inputs in a dictionary and by name."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 1)

    def forward(self, inputs, scale=None):
        return self.layer(inputs["x"]) * scale


def test_inputs_in_dictionaries_and_by_name():
    several = [Named() for _ in range(3)]
    ensemble = Ensemble(nn.ModuleList(several), SGD)
    x, scale = torch.randn(3, 4, 6), torch.randn(3, 1)
    outputs = ensemble({"x": x}, scale=scale, separate=True)
    expected = [m({"x": each}, scale=s) for m, each, s in zip(several, x, scale, strict=True)]
    torch.testing.assert_close(outputs, torch.stack(expected))
    assert ensemble({"x": x[0]}, scale=2.0).shape == (3, 4, 1)
    with pytest.raises(gdtuo.GdtuoError, match=r"separate=True with an input of shape \(2, 6\)"):
        ensemble({"x": torch.ones(2, 6)}, scale=scale, separate=True)


def test_a_buffer_that_a_model_assigns_is_kept():
    class Centred(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("mean", torch.zeros(3))

        def forward(self, x):
            self.mean = 0.9 * self.mean + 0.1 * x.mean(0)
            return self.layer(x - self.mean)

    torch.manual_seed(0)
    models = [Centred(), Centred()]
    alone = copy.deepcopy(models[1])
    tower, ensemble = (
        gdtuo.Tower(alone.parameters(), gdtuo.SGD(0.1)),
        gdtuo.Ensemble(models, "SGD(0.1)"),
    )
    for _ in range(5):
        for optimizer, model in ((tower, alone), (ensemble, ensemble)):
            optimizer.zero_grad()
            model(torch.ones(4, 3)).square().sum().backward()
            optimizer.step()
    torch.testing.assert_close(ensemble.member(1).state_dict(), alone.state_dict())
    assert alone.mean[0] > 0.4
