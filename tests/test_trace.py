"""The trace: a hypergradient along the discounted steps of the past."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import gdtuo
from tests.problem import LOG, LOG_SGD, loss_at, make_model, parameters_of, train
from tests.rules_table import ROWS

TRACED = [
    dataclasses.replace(row.pronounced, optimizer=gdtuo.SGD(1e-3), trace=0.9, **LOG) for row in ROWS
]
ids = {"ids": lambda rule: type(rule).__name__}


# Of a schedule-free rule a step is more than its step size's share.
@pytest.mark.parametrize(
    "rule", [r for r in TRACED if not isinstance(r, gdtuo.ScheduleFreeAdam)], **ids
)
def test_a_trace_of_0_is_the_derivative(rule):
    (exact, estimated), towers = (make_model(), make_model()), []
    for model, trace in ((exact, None), (estimated, 0.0)):
        tower = gdtuo.Tower(model.parameters(), dataclasses.replace(rule, trace=trace))
        train(model, tower, 6)
        towers.append(tower)
    for p, q in zip(parameters_of(exact), parameters_of(estimated), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-12)
    expected, found = (tower.hypergradients()[0]["lr"] for tower in towers)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found != 0


@pytest.mark.parametrize("rule", TRACED, **ids)
def test_the_hypergradient_is_along_the_discounted_steps(rule):
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), rule)
    trace = [torch.zeros_like(p) for p in model.parameters()]
    for i in range(8):
        before = parameters_of(model)
        train(model, tower, 1, start=i)
        gradients = [p.grad for p in model.parameters()]
        expected = -sum((g * e).sum().item() for g, e in zip(gradients, trace, strict=True))
        assert tower.hypergradients()[0]["lr"] == pytest.approx(expected, rel=1e-9, abs=1e-15)
        for e, old, new in zip(trace, before, parameters_of(model), strict=True):
            e.mul_(0.9).add_(old - new)


def test_a_trace_is_the_derivative_of_steps_that_share_a_step_size():
    """While the gradients that they were made of stay: by finite differences, of 5 steps of SGD."""
    model, rule = make_model(), dataclasses.replace(LOG_SGD, optimizer=gdtuo.SGD(0.0))
    tower = gdtuo.Tower(model.parameters(), dataclasses.replace(rule, trace=1 - 1e-12))
    start, gradients = parameters_of(model), []
    for i in range(5):
        train(model, tower, 1, start=i)
        gradients.append([p.grad.clone() for p in model.parameters()])

    def loss(log_lr):
        other = make_model()
        with torch.no_grad():
            for p, w, *of_steps in zip(other.parameters(), start, *gradients, strict=True):
                p.copy_(w - math.exp(log_lr) * sum(of_steps))
        return loss_at(other, 5).item()

    train(model, tower, 1, start=5)
    x, h = math.log(0.05), 1e-5
    expected = (loss(x + h) - loss(x - h)) / (2 * h)
    assert tower.hypergradients()[0]["lr"] == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("trace", [-0.1, 1.0, math.nan, "0.9", True])
def test_a_trace_outside_its_domain(trace):
    with pytest.raises(gdtuo.GdtuoError, match=r"trace=.*Give a discount from 0 to 1"):
        dataclasses.replace(LOG_SGD, trace=trace)


@pytest.mark.parametrize(
    "text",
    [
        "SGD(0.1, trace=0.9)",
        "SGD(0.1, trace=0.9) / SGD",
        "Adam^{lr,beta1}(coordinates={lr: log}, trace=0.9) / SGD",
    ],
)
def test_a_trace_without_a_step_size_learned_in_log_coordinates(text):
    with pytest.raises(gdtuo.GdtuoError, match="learned alone and in log coordinates"):
        gdtuo.parse(text)


def test_a_trace_in_a_text():
    text = "SGD^lr(0.05, coordinates={lr: log}, trace=0.9) / SGD"
    assert str(gdtuo.parse(text)) == text
    assert gdtuo.parse(text) == dataclasses.replace(LOG_SGD, trace=0.9)


def test_a_traced_state_is_no_other_trace_s():
    towers = [
        gdtuo.Tower(make_model().parameters(), dataclasses.replace(LOG_SGD, trace=trace))
        for trace in (None, 0.9, 0.99)
    ]
    for i, tower in enumerate(towers):
        with pytest.raises(gdtuo.GdtuoError, match="that of another tower"):
            tower.load_state_dict(towers[i - 1].state_dict())


@pytest.mark.parametrize("trace", [None, 0.0, 0.9])
def test_a_step_size_that_comes_to_nothing_makes_no_nan(trace):
    w = torch.ones(3, requires_grad=True)
    options = {"learn": ["lr"], "coordinates": {"lr": "log"}, "trace": trace}
    tower = gdtuo.Tower([w], gdtuo.SGD(1e-3, **options, optimizer=gdtuo.SGD(1.0)))
    for k in range(8):
        w.grad = torch.full((3,), 1000.0 * (-1) ** k)
        tower.step()
    assert tower.hyperparameters()[0]["lr"] == 0.0
    assert w.isfinite().all()
