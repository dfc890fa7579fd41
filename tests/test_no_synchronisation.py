"""A step never asks the device for a number: fake tensors, which have none, raise where one does.

Built and run under `FakeTensorMode`, in which `float()`, `bool()` and `.item()` on a tensor raise.
"""

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import gdtuo
from tests.rules_table import HEIGHTS, ROWS, homogeneous, stacked


def run(rule, dtype=torch.float32, schedule=False, make=gdtuo.Tower):
    with FakeTensorMode():
        layers = nn.Linear(6, 8, dtype=dtype), nn.Tanh(), nn.Linear(8, 3, dtype=dtype)
        model = nn.Sequential(*layers)
        tower = make(model.parameters(), rule)
        factor = torch.optim.lr_scheduler.LambdaLR(tower, lambda i: 1 / (1 + i))
        for i in range(5):
            tower.zero_grad()
            model(torch.ones(4, 6, dtype=dtype)).sum().backward()
            if i == 2:
                model[0].weight.grad = None
            tower.step()
            if schedule:
                factor.step()
        return tower


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("height", HEIGHTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_rule_on_itself(row, height, dtype):
    if not row.rule.elementwise and height > 0:
        pytest.skip("not an upper level")
    tower = run(homogeneous(row.pronounced, height), dtype)
    assert tower.state[tower.param_groups[0]["params"][1]]["step"] == 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_under_a_schedule_and_with_step_sizes_by_name(row):
    by_name = gdtuo.SGD(lr=dict.fromkeys(row.pronounced.learnable, 1e-3), momentum=0.5)
    run(stacked(row.pronounced, stacked(by_name, gdtuo.Adam())), schedule=True)


def test_the_default(monkeypatch):
    """But for one flag, in the second step: whether all have moved in the first."""
    read = []
    monkeypatch.setattr(gdtuo.strides, "_have_all", lambda moved: read.append(moved) or True)
    tower = run(1e-3, schedule=True, make=gdtuo.default)
    assert tower.param_groups[0]["level0.begun"] == 1
    assert len(read) == 1


def test_reading_does_ask():
    """So that the tests above can fail."""
    tower = run(gdtuo.SGD(optimizer=gdtuo.SGD()))
    with pytest.raises(DataDependentOutputException):
        tower.hyperparameters()
