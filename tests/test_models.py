"""Training models of many kinds."""

import copy
import pickle

import pytest
import torch

import gdtuo
from tests.differences import check
from tests.models_table import MODELS, TOWERS, addresses, build, build_both
from tests.problem import loss_at, parameters_of, same, train
from tests.rules_table import BY_RULE, stacked

# None of these has an eps so small that rounding decides a step where a gradient ought to be 0.
ALIKE = [(row, row.alike[0]) for row in (BY_RULE[gdtuo.SGD], BY_RULE[gdtuo.Adam])]

every_model = pytest.mark.parametrize("name", MODELS)
every_tower = pytest.mark.parametrize("rule", TOWERS.values(), ids=TOWERS)


def what_it_is(model):
    """All of a model but the values in its tensors."""
    tensors = [*model.parameters(), *model.buffers()]
    modules = [(name, type(m), m.training) for name, m in model.named_modules()]
    return (
        addresses(model),
        [(type(t), t.dtype, t.shape, t.stride(), t.requires_grad) for t in tensors],
        [(t.is_leaf, t.grad_fn, t._backward_hooks, sorted(vars(t))) for t in tensors],
        modules,
        [
            (key, len(value) if key.endswith("_hooks") else None)
            for m in model.modules()
            for key, value in vars(m).items()
        ],
        list(model.state_dict()),
    )


@every_tower
@every_model
def test_a_run_changes_the_values_of_a_model_and_nothing_else(name, rule):
    model = build(name)
    before, start = what_it_is(model), parameters_of(model)
    tower = gdtuo.Tower(model.parameters(), rule)
    losses = train(model, tower, 40)
    assert what_it_is(model) == before
    assert len(tower.state) == len(start)
    assert not any(p.equal(w) for p, w in zip(model.parameters(), start, strict=True) if w.numel())
    assert sum(losses[-4:]) < sum(losses[:4])


@every_model
@pytest.mark.parametrize(("row", "rule"), ALIKE, ids=[row.name for row, _ in ALIKE])
def test_under_a_level_that_stands_still_a_model_trains_as_with_torch(row, rule, name):
    """Its buffers too: running statistics, counts."""
    ours, tower = build_both(name, stacked(rule, gdtuo.SGD(0.0)))
    theirs = build(name)
    losses = train(ours, tower, 15)
    expected = train(theirs, row.torch_optimizer(theirs.parameters(), rule), 15)
    assert losses == pytest.approx(expected, rel=1e-10)
    for key, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[key], value, rtol=1e-9, atol=1e-10)


@every_tower
@every_model
def test_hypergradients(name, rule):
    check(*build_both(name, rule), e=2e-4, away_from_zero=1e-9)


def pickled(x):
    return pickle.loads(pickle.dumps(x))


@pytest.mark.parametrize("copied", [copy.deepcopy, pickled])
@every_tower
@every_model
def test_a_copy_in_the_middle_goes_on_to_the_bit(name, rule, copied):
    if copied is pickled and name == "WeightNorm":
        pytest.skip("torch doesn't pickle parametrized modules")
    model, tower = build_both(name, rule)
    train(model, tower, 4)
    again, other = copied((model, tower))
    assert train(model, tower, 4, start=4) == train(again, other, 4, start=4)
    assert tower.hyperparameters() == other.hyperparameters()
    for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        assert same([a], [b])
        assert a.numel() == 0 or a.data_ptr() != b.data_ptr()


@every_tower
@every_model
def test_accumulating_in_buffers_that_stay_changes_no_bit(name, rule):
    runs = []
    for set_to_none in (True, False):
        model, tower = build_both(name, rule)
        losses = []
        for i in range(0, 12, 2):
            tower.zero_grad(set_to_none=set_to_none)
            for micro in (i, i + 1):
                loss = loss_at(model, micro) / 2
                loss.backward()
                losses.append(loss.item())
            tower.step()
        runs.append((losses, tower.hyperparameters()))
    assert runs[0] == runs[1]
