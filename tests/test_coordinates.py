"""Coordinates and bounds: what a step of the level above does to a hyperparameter."""

from __future__ import annotations

import math

import pytest
import torch

import gdtuo
from gdtuo.hyperparameters import COORDINATES
from tests.problem import make_model, make_tower, train

VALUES = {"raw": -0.3, "square_root": 0.3, "logistic": 0.9, "log": 1e-5, "logit": 0.9}


@pytest.mark.parametrize("name", COORDINATES)
def test_decode_inverts_encode(name):
    coordinates, value = COORDINATES[name], VALUES[name]
    x = torch.tensor(coordinates.encode(value), dtype=torch.float64, requires_grad=True)
    decoded = coordinates.decode(x)
    assert decoded.item() == pytest.approx(value, rel=1e-12)
    (slope,) = torch.autograd.grad(decoded, x)
    assert slope > 0 or name == "raw"  # increasing, so that bounds keep their order


def one_step(tower, g=1.0):
    """Two equal gradients: the second step is the first to learn."""
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = gdtuo.Tower([w], gdtuo.parse(tower))
    for _ in range(2):
        w.grad = torch.full_like(w, g)
        optimizer.step()
    return optimizer.hyperparameters()[0]


def test_a_step_in_log_coordinates_is_relative():
    # w = -lr, so dL/dlr = -1, and in log coordinates it is lr times that.
    for lr in (1e-6, 1e-2, 1.0):
        learned = one_step(f"SGD({lr}, coordinates={{lr: log}}) / SGD(0.1)")["lr"]
        assert learned == pytest.approx(lr * math.exp(0.1 * lr), rel=1e-12)
    assert one_step("SGD(0.5) / SGD(0.1)")["lr"] == pytest.approx(0.6, rel=1e-12)


def test_in_log_coordinates_a_step_size_stays_positive():
    model = make_model()
    rule = gdtuo.parse("SGD(0.1, coordinates={lr: log}) / SGD(30)")
    optimizer = gdtuo.Tower(model.parameters(), rule)
    raw = gdtuo.Tower(make_model().parameters(), gdtuo.parse("SGD(0.1) / SGD(30)"))
    lowest = []
    for i in range(20):
        train(model, optimizer, 1, start=i)
        lowest.append(optimizer.hyperparameters()[0]["lr"])
    assert all(lr > 0 for lr in lowest)
    other = make_model()
    raw = gdtuo.Tower(other.parameters(), gdtuo.parse("SGD(0.1) / SGD(30)"))
    values = []
    for i in range(20):
        train(other, raw, 1, start=i)
        values.append(raw.hyperparameters()[0]["lr"])
    assert min(values) < 0  # what the logarithm prevents


@pytest.mark.parametrize("coordinates", ["raw", "log", "square_root"])
def test_bounds_hold(coordinates):
    low, high = 0.05, 0.2
    text = f"SGD(0.1, coordinates={{lr: {coordinates}}}, bounds={{lr: [{low}, {high}]}}) / SGD(10)"
    assert one_step(text, g=3.0)["lr"] == pytest.approx(high)
    w = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = gdtuo.Tower([w], gdtuo.parse(text))
    for g in (3.0, -3.0):  # the second says that the first step was wrong
        w.grad = torch.full_like(w, g)
        optimizer.step()
    assert optimizer.hyperparameters()[0]["lr"] == pytest.approx(low)


def test_bounds_of_a_step_size_for_each():
    rule = gdtuo.parse(
        "Adam(0.01) / SGD({lr: 1e-3, beta1: 1e-3}, bounds={lr: [1e-4, 2e-3]}) / SGD(10)"
    )
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), rule)
    train(model, optimizer, 10)
    values = optimizer.hyperparameters()[1]["lr"].values()
    assert all(1e-4 <= value <= 2e-3 for value in values)
    assert 1e-4 in values or any(value == pytest.approx(2e-3) for value in values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Adam(coordinates={lr: ln})", "Expected one of raw, square_root"),
        ("Adam(coordinates={alpha: log})", "coordinates names 'alpha'"),
        ("SGD(-0.1, coordinates={lr: log})", "has no log coordinate"),
        ("SGD(0.1, bounds={lr: [0.2, 0.1]})", "Expected .lowest, highest."),
        ("SGD(0.1, bounds={lr: [0.2, 0.3]})", "starts outside its bounds"),
        ("SGD(0.1, coordinates={lr: log}, bounds={lr: [0, 1]})", "each a finite number above 0"),
    ],
)
def test_errors(text, message):
    with pytest.raises(gdtuo.GdtuoError, match=message):
        gdtuo.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "Adam(coordinates={lr: log}) / SGD(0.1)",
        "SGD(0.1, momentum=0.9, bounds={lr: [1e-06, 1.0]}) / SGD",
        "SGD(0.1, momentum=0.9, coordinates={lr: log, momentum: raw}) / Adam",
    ],
)
def test_text_round_trip(text):
    assert str(gdtuo.parse(text)) == text
    assert eval(repr(gdtuo.parse(text)), vars(gdtuo).copy()) == gdtuo.parse(text)


def test_an_upper_bound_that_is_1_in_float32():
    rule = gdtuo.Adam(learn=["beta2"], bounds={"beta2": (0.5, 0.99999999)}, optimizer=gdtuo.SGD())
    gdtuo.Tower([torch.zeros(3, dtype=torch.float64, requires_grad=True)], rule)
    with pytest.raises(gdtuo.GdtuoError, match=r"beta2=0\.99999999 is 1 in torch\.float32"):
        gdtuo.Tower([torch.zeros(3, requires_grad=True)], rule)


def test_what_is_frozen_outside_its_bounds_stays_there():
    upper = gdtuo.SGD(1e-3)
    _, saved = make_tower(gdtuo.SGD(0.5, momentum=0.5, optimizer=upper))
    bounded = gdtuo.SGD(0.05, momentum=0.5, bounds={"lr": (0.01, 0.1)}, optimizer=upper)
    model, tower = make_tower(bounded)
    tower.load_state_dict(saved.state_dict())
    tower.freeze("lr")
    train(model, tower, 2)
    assert tower.hyperparameters()[0]["lr"] == 0.5
    tower.unfreeze("lr")
    train(model, tower, 1)
    assert tower.hyperparameters()[0]["lr"] == pytest.approx(0.1)
