"""What every tower promises: rules x heights x granularities, in float32 and float64."""

from __future__ import annotations

import io
import math

import pytest
import torch

import gdtuo
from gdtuo import Safeguards
from tests.problem import PER, halves, make_model, numbers, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous


def through_a_file(model, tower):
    buffer = io.BytesIO()
    torch.save([model.state_dict(), tower.state_dict()], buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


def read(tower):
    return numbers([tower.hyperparameters(i) for i in range(len(tower.param_groups))])


CASES = [
    pytest.param(homogeneous(row.pronounced, height), id=f"{row.name} {height}")
    for row in ROWS
    for height in (range(4) if row.rule.elementwise else range(1))
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("rule", CASES)
def test_it_learns_stays_finite_and_resumes_to_the_bit(rule, per, dtype):
    def make():
        model = make_model(dtype)
        return model, gdtuo.Tower(halves(model), rule, per=per, safeguards=Safeguards(guard=50))

    model, tower = make()
    start = read(tower)
    train(model, tower, 4, dtype=dtype)
    again, other = make()
    weights, state = through_a_file(model, tower)
    again.load_state_dict(weights)
    other.load_state_dict(state)
    losses = train(model, tower, 4, start=4, dtype=dtype)
    assert train(again, other, 4, start=4, dtype=dtype) == losses
    assert same(parameters_of(model), parameters_of(again))
    end = read(tower)
    assert end == read(other)
    assert all(map(math.isfinite, losses + end))
    assert (end != start) == (rule.optimizer is not None)
    assert tower.skipped_steps == other.skipped_steps == 0


@pytest.mark.parametrize("per", ["tower", "tensor", "element"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_hypergradients_of_copies_add_up_to_that_of_one(row, per):
    """While all copies are alike, as they are when the first hypergradient is taken."""
    rule = homogeneous(row.pronounced, 1) if row.rule.elementwise else None
    rule = rule or gdtuo.parse(f"{row.pronounced} / SGD(1e-4)")

    def hypergradients(per):
        model = make_model()
        tower = gdtuo.Tower(list(model.parameters()), rule, per=per)
        train(model, tower, 2)
        found = tower.hypergradients()[0]
        return {name: sum(numbers([value])) for name, value in found.items()}

    assert hypergradients(per) == pytest.approx(hypergradients("group"), rel=1e-10)
