"""States and models that move between devices and precisions."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

import gdtuo
from tests.models_table import TOWERS
from tests.problem import make_model, train
from tests.rules_table import ROWS, stacked
from tests.test_state import leaves

every_tower = pytest.mark.parametrize("rule", TOWERS.values(), ids=TOWERS)
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def on(device, rule, **options):
    model = make_model().to(device)
    return model, gdtuo.Tower(model.parameters(), rule, **options)


def train_on(device, model, tower, steps, start=0):
    """`train` with a model on another device than the batches."""
    return train(lambda x: model(x.to(device)).cpu(), tower, steps, start)


def restored(model, tower, device, **options):
    """What was saved, through a file, on a model on ``device``."""
    buffer = io.BytesIO()
    torch.save([model.state_dict(), tower.state_dict()], buffer)
    buffer.seek(0)
    again, other = on(device, tower.rule, **options)
    saved = torch.load(buffer, weights_only=True)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    return again, other


def tensors(tower):
    return [x for x in leaves(tower.state_dict()) if isinstance(x, Tensor)]


@cuda
@pytest.mark.parametrize("per", ["group", "element"])
@pytest.mark.parametrize("path", [("cpu", "cuda"), ("cuda", "cpu")], ids=" to ".join)
@every_tower
def test_a_state_goes_where_the_model_is(rule, path, per):
    start, end = path
    model, tower = on(start, rule, per=per)
    train_on(start, model, tower, 4)
    again, other = restored(model, tower, end, per=per)
    losses = train_on(start, model, tower, 4, start=4)
    assert train_on(end, again, other, 4, start=4) == pytest.approx(losses, rel=1e-9)
    numbers = [x for x in tensors(other) if x.is_floating_point()]
    assert {x.device.type for x in numbers} == {end}


@cuda
@every_tower
def test_there_and_back_changes_no_bit_of_the_state(rule):
    model, tower = on("cpu", rule)
    train(model, tower, 4)
    there = restored(model, tower, "cuda")
    again, other = restored(*there, "cpu")
    for a, b in zip(tensors(tower), tensors(other), strict=True):
        assert a.equal(b)
    assert train(model, tower, 4, start=4) == train(again, other, 4, start=4)


@cuda
@every_tower
def test_a_model_moved_after_its_tower_was_made(rule):
    (model, tower), (expected, expected_tower) = on("cpu", rule), on("cpu", rule)
    train(model, tower, 3)
    model.cuda()
    losses = train_on("cuda", model, tower, 4, start=3)
    assert train(expected, expected_tower, 7)[3:] == pytest.approx(losses, rel=1e-9)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_float64_state_in_a_float32_model(row):
    """It goes on as the wider one does, to float32's digits."""
    rule = stacked(row.pronounced, gdtuo.SGD(1e-3, momentum=0.5, optimizer=gdtuo.SGD(1e-5)))
    model, narrow = make_model(), make_model(torch.float32)
    tower, other = (gdtuo.Tower(each.parameters(), rule) for each in (model, narrow))
    train(model, tower, 5)
    fresh = make_model(torch.float32)
    without = gdtuo.Tower(fresh.parameters(), rule)
    for each in (narrow, fresh):
        each.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(tower.state_dict()))
    expected = pytest.approx(train(model, tower, 5, start=5), rel=1e-4)
    assert train(narrow, other, 5, start=5, dtype=torch.float32) == expected
    assert train(fresh, without, 5, start=5, dtype=torch.float32) != expected
    assert {x.dtype for x in tensors(other)} == {torch.float32, torch.uint8}
    for level, wider in zip(other.hyperparameters(), tower.hyperparameters(), strict=True):
        assert level == pytest.approx(wider, rel=1e-4)


@pytest.mark.parametrize("first", [torch.float64, torch.float32], ids=str)
def test_groups_that_share_a_tower_share_the_widest_precision(first):
    """The narrower group has no gradient here, so that its place is all it brings."""
    model, alone = make_model(), make_model()
    rule = TOWERS["Adam"]
    beside = nn.Parameter(torch.zeros(3, dtype=torch.float32))
    groups = [{"params": list(model.parameters())}, {"params": [beside]}]
    tower = gdtuo.Tower(groups[:: 1 if first == torch.float64 else -1], rule, per="tower")
    losses = train(model, tower, 6)
    expected = train(alone, gdtuo.Tower(alone.parameters(), rule, per="tower"), 6)
    assert losses == pytest.approx(expected, rel=1e-13)
