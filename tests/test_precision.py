"""Dtype, device and shape are kept; half precision has its state and arithmetic in float32."""

import io
import math

import pytest
import torch
from torch import Tensor, nn

import gdtuo
from tests.problem import PER, make_model, same, train
from tests.rules_table import ROWS, homogeneous, stacked, without_decay

HALF = [torch.bfloat16, torch.float16]
DTYPES = [torch.float64, torch.float32, *HALF]
DEVICES = ["cpu"] + ["cuda"] * torch.cuda.is_available()


@pytest.mark.parametrize("height", [0, 2])
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_dtype_device_and_shape_are_kept(row, dtype, device, height):
    shapes = [(3, 4), (5,), (), (2, 1, 3), (0, 4)]
    params = [nn.Parameter(torch.randn(s).to(device, dtype)) for s in shapes]
    before = [p.detach().clone() for p in params]
    tower = gdtuo.Tower(params, homogeneous(row.pronounced, height))
    for _ in range(4):
        tower.zero_grad()
        (0.1 * sum(p.double().square().sum() for p in params)).backward()
        tower.step()
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    for p, shape, start in zip(params, shapes, before, strict=True):
        assert (p.dtype, p.device.type, tuple(p.shape), p.is_leaf) == (dtype, device, shape, True)
        assert not p.equal(start) or p.numel() == 0
        state = dict(tower.state[p])
        if height > 0:
            assert state.pop("previous_gradient").dtype == dtype
        if height > 0 and "w" in row.pronounced.inputs:
            assert state.pop("previous_parameter").dtype == dtype
        assert state.pop("step") == 4
        assert state.pop("is_kept") == (height > 0)
        at_start = row.pronounced.init(start)
        assert state.keys() == at_start.keys()
        for key, value in state.items():
            assert (value.dtype, value.device.type) == (wide, device)
            assert value.shape == at_start[key].shape
    group = {k: v for k, v in tower.param_groups[0].items() if k.startswith("level")}
    tensors = [value for value in group.values() if isinstance(value, Tensor)]
    assert {(x.dtype, x.device.type) for x in tensors} == {(wide, device)}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_half_precision_learns_what_float32_learns(row, dtype):
    """The same gradients, rounded once: then only the parameters differ (and what decays them)."""
    torch.manual_seed(0)
    start = torch.randn(50).to(dtype)
    low, high = nn.Parameter(start.clone()), nn.Parameter(start.float())
    rule = homogeneous(without_decay(row.pronounced), 2)
    towers = [gdtuo.Tower([p], rule) for p in (low, high)]
    for _ in range(6):
        g = (0.1 * torch.randn(50)).to(dtype)
        low.grad, high.grad = g, g.float()
        for tower in towers:
            tower.step()
    assert towers[0].hyperparameters() == towers[1].hyperparameters()
    for key, value in towers[1].state[high].items():
        if isinstance(value, Tensor):
            assert towers[0].state[low][key].float().equal(value)
    assert not low.float().equal(high)
    assert low.float().allclose(high, atol=0.1)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_loading_does_not_round_the_state_of_half_precision(dtype):
    model = make_model(dtype)
    tower = gdtuo.Tower(model.parameters(), gdtuo.Adam(0.02, optimizer=gdtuo.SGD(1e-4)))
    train(model, tower, 5, dtype=dtype)
    buffer = io.BytesIO()
    torch.save(tower.state_dict(), buffer)
    buffer.seek(0)
    other = gdtuo.Tower(make_model(dtype).parameters(), tower.rule)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    rounded = 0
    for a, b in zip(tower.state.values(), other.state.values(), strict=True):
        assert a.keys() == b.keys()
        tensors = [k for k in a if isinstance(a[k], Tensor)]
        assert same([a[k] for k in tensors], [b[k] for k in tensors])
        rounded += not a["exp_avg_sq"].to(dtype).float().equal(a["exp_avg_sq"])
    assert rounded  # the state does have digits that the parameters' dtype has not


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_group_of_mixed_dtypes(row, first):
    """In any order, and to the bit after a break."""
    mixture = [torch.float32, torch.float64, torch.bfloat16]
    mixture = mixture[first:] + mixture[:first]

    def make():
        torch.manual_seed(0)
        params = [nn.Parameter(torch.randn(4).to(dtype)) for dtype in mixture]
        return params, gdtuo.Tower(params, homogeneous(row.pronounced, 2))

    def go(params, tower, steps):
        for _ in range(steps):
            tower.zero_grad()
            (0.1 * sum(p.double().square().sum() for p in params)).backward()
            tower.step()

    params, tower = make()
    go(params, tower, 4)
    again, other = make()
    other.load_state_dict(tower.state_dict())
    with torch.no_grad():
        for p, q in zip(again, params, strict=True):
            p.copy_(q)
    go(params, tower, 4)
    go(again, other, 4)
    assert [p.dtype for p in params] == mixture
    assert all(p.isfinite().all() for p in params)
    assert same(params, again)
    assert tower.hyperparameters() == other.hyperparameters()


@pytest.mark.parametrize(
    ("before", "after"), [(torch.float32, torch.float64), (torch.float64, torch.float32)]
)
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("rule", ["SGD(0.1, momentum=0.9) / SGD(1e-3)", "Adam / Adam / SGD(1e-5)"])
def test_one_parameter_cast_in_mid_training(rule, per, before, after):
    """What is kept of it goes with it, though another keeps the hyperparameters in float64."""

    def trained(cast):
        wide = nn.Parameter(torch.linspace(-1.0, 1.0, 8, dtype=torch.float64))
        other = nn.Parameter(wide.detach().neg().to(before))
        tower = gdtuo.Tower([wide, other], gdtuo.parse(rule), per=per)
        for i in range(8):
            if i == 4 and cast:
                other.data = other.data.to(after)
            tower.zero_grad()
            (0.1 * sum((p.double() - 1.0).square().sum() for p in (wide, other))).backward()
            tower.step()
        return wide, other, tower

    *found, tower = trained(cast=True)
    *expected, _ = trained(cast=False)
    for p, q in zip(found, expected, strict=True):
        torch.testing.assert_close(p.double(), q.double(), rtol=1e-5, atol=1e-6)
    kept = [x for x in tower.state[found[1]].values() if isinstance(x, Tensor)]
    assert {x.dtype for x in kept} == {after}


def test_a_wider_parameter_added_in_mid_training_widens_what_all_share():
    model = make_model(torch.float32)
    tower = gdtuo.Tower(model[0].parameters(), gdtuo.parse("Adam / SGD(1e-5)"), per="tower")
    train(model, tower, 2, dtype=torch.float32)
    tower.add_param_group({"params": [nn.Parameter(torch.ones(2, dtype=torch.float64))]})
    train(model, tower, 1, start=2, dtype=torch.float32)
    shared = [x for group in tower.param_groups for k, x in group.items() if k.startswith("level")]
    assert {x.dtype for x in shared if isinstance(x, Tensor)} == {torch.float64}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_default_dtype_plays_no_part(row):
    values = []
    for default in (torch.float32, torch.float64):
        torch.set_default_dtype(default)
        model = make_model()
        tower = gdtuo.Tower(model.parameters(), homogeneous(row.pronounced, 2))
        values.append((train(model, tower, 5), tower.hyperparameters()))
    assert values[0] == values[1]


@pytest.mark.parametrize("decay", [True, False])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_weight_that_is_never_used_makes_no_nan(row, decay):
    """Its second moment decays to 0, where the root has an infinite derivative."""
    used, unused = (nn.Parameter(torch.ones(2)) for _ in range(2))
    rule = row.pronounced if decay else without_decay(row.pronounced)
    rule = stacked(rule, gdtuo.SGD(1e-6))
    tower = gdtuo.Tower([used, unused], rule)
    for key, value in tower.state[unused].items():
        if isinstance(value, Tensor) and value.shape == unused.shape:
            tower.state[unused][key] = torch.zeros_like(value)
    for _ in range(5):
        tower.zero_grad()
        (used.square().sum() + 0 * unused.sum()).backward()
        tower.step()
    assert unused.equal(torch.ones(2)) == ("w" not in rule.inputs)
    assert unused.isfinite().all()
    assert used.isfinite().all()
    assert all(abs(value) < 10 for value in tower.hyperparameters()[0].values())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("above", [gdtuo.SGD(1e-6), gdtuo.SGD(1e-6, optimizer=gdtuo.SGD(1e-8))])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_dead_relus_make_no_nan(row, above, dtype):
    """Their weights' gradients are exactly 0, and so is a second moment that has decayed."""
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1)).to(dtype)
    nn.init.constant_(model[0].bias, -50.0)
    rule = stacked(row.pronounced, above)
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=gdtuo.Safeguards(guard=50))
    for state in tower.state.values():
        for key in row.rule().init(torch.ones(1)):
            state[key] = torch.zeros_like(state[key])
    for _ in range(6):
        tower.zero_grad()
        model(torch.rand(8, 4, dtype=dtype)).square().mean().backward()
        assert model[0].weight.grad.count_nonzero() == 0
        tower.step()
    assert tower.skipped_steps == 0
    assert all(p.isfinite().all() for p in model.parameters())
    assert all(
        math.isfinite(value) for level in tower.hyperparameters() for value in level.values()
    )
