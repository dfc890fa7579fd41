"""Each member of an ensemble goes the way it would go alone, to rounding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import Ensemble, Safeguards
from gdtuo.tuning_free import RULE
from tests.ensembles import (
    ELEMENTWISE,
    FACTORS,
    STEPS,
    Normalized,
    agree,
    alone,
    batch,
    compare,
    mlp,
    models,
    tall,
    train,
    varied,
)
from tests.problem import same
from tests.rules_table import HEIGHTS, stacked


@pytest.mark.parametrize("separate", [False, True], ids=["shared", "separate"])
@pytest.mark.parametrize("height", HEIGHTS)
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


# All at once; a delay, under which nothing else can be seen; and, slow, each by itself.
BY_MANNER = [
    pytest.param(each, id=name, marks=[] if name in ("all", "delay") else [pytest.mark.slow])
    for name, each in MANNERS.items()
]


@pytest.mark.parametrize("safeguards", BY_MANNER)
@pytest.mark.parametrize("row", ELEMENTWISE, ids=lambda row: row.name)
def test_with_safeguards(row, safeguards):
    # Only lr: Adam's first step is one of lr whatever the betas, and their hypergradient then a 0
    # whose sign is that of the rounding.
    above = gdtuo.parse("SGD(1e-4) / SGD(1e-6)")
    compare(stacked(row.pronounced, above, learn=("lr",)), safeguards=safeguards)


def test_strides_and_traces():
    rule = RULE
    compare(rule, safeguards=Safeguards(start=(1e-3, 1e-2), stride=0.005))
    compare(rule, separate=True, safeguards=Safeguards(stride=0.005))


def test_the_safeguards_above_are_felt():
    """So that the comparisons with them can fail."""
    rule, start = gdtuo.parse("SGD(0.05) / SGD(1e-4)"), mlp(0)
    free = list(alone(start, rule, 0, 10)[0].parameters())
    for name, safeguards in MANNERS.items():
        safe = list(alone(start, rule, 0, 10, safeguards=safeguards)[0].parameters())
        assert not same(free, safe), name


def warm_up(tower):
    return torch.optim.lr_scheduler.LambdaLR(tower, lambda i: min(1.0, (i + 1) / 10))


@pytest.mark.parametrize("height", HEIGHTS)
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

    lr: float = gdtuo.hyperparameter(default=0.05)
    decay: float = gdtuo.hyperparameter(default=0.1)
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
