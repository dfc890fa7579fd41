"""A state of which one entry is of another kind is refused as it is loaded, and changes nothing."""

import copy
import itertools

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import Adam, Ensemble, GdtuoError, History, Safeguards, Tower
from tests.problem import LOG_SGD, make_model, make_tower, train

STRANGE = [None, "x", [], {}, torch.ones(7), torch.ones((), dtype=torch.complex64)]


def towers(guard):
    rule = Adam(optimizer=LOG_SGD, learn=("lr",), coordinates={"lr": "log"})
    safe = Safeguards(guard=guard, start=(1e-3, 1e-2))
    for options in ({"safeguards": safe}, {"safeguards": safe, "per": "tensor"}):
        model = make_model()
        tower = Tower(model.parameters(), rule, **options)
        train(model, tower, 2)
        yield tower


def paths(state):
    """The places of all that a tower keeps, but ``lr``, which is a schedule's, and names."""
    own = [key for key in state["param_groups"][0] if key != "lr"]
    yield from [("param_groups",), ("state",), ("param_groups", 0), ("state", 0)]
    yield from (("param_groups", 0, key) for key in own)
    yield from (("state", 0, key) for key in state["state"][0])


def put(state, path, value):
    at = state
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value


def flat(value):
    """Nested values, those of tensors in the place of these, to be compared."""
    if isinstance(value, dict):
        return {key: flat(each) for key, each in value.items()}
    if isinstance(value, list):
        return [flat(each) for each in value]
    return (value.dtype, value.tolist()) if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize("saved_guard", [0, 3])
@pytest.mark.parametrize("guard", [0, 3])
def test_every_entry_of_another_kind_is_refused(guard, saved_guard):
    for tower, saved in zip(towers(guard), towers(saved_guard), strict=True):
        good, before = saved.state_dict(), flat(tower.state_dict())
        for path, strange in itertools.product(paths(good), STRANGE):
            state = copy.deepcopy(good)
            put(state, path, strange)
            with pytest.raises(GdtuoError):
                tower.load_state_dict(state)
        assert flat(tower.state_dict()) == before
        tower.load_state_dict(good)


def test_what_is_wrong_is_named():
    _, tower = make_tower()
    state = copy.deepcopy(tower.state_dict())
    state["state"][0]["momentum_buffer"] = None
    with pytest.raises(GdtuoError, match=r"has a momentum_buffer of None for .* shape \[8, 6\]"):
        tower.load_state_dict(state)
    state["state"][0]["momentum_buffer"] = torch.zeros(2)
    with pytest.raises(GdtuoError, match=r"a momentum_buffer of shape \[2\] for .*8, 6"):
        tower.load_state_dict(state)


def test_a_history_s():
    model, tower = make_tower()
    history = History(tower)
    train(model, tower, 2)
    good = history.state_dict()
    own = [("step",), ("groups",), ("groups", 0), ("format",)]
    for path in (*own, *(("groups", 0, key) for key in good["groups"][0])):
        for strange in STRANGE:
            if path == ("groups",) and strange == []:  # nothing was recorded yet
                continue
            state = copy.deepcopy(good)
            put(state, path, strange)
            with pytest.raises(GdtuoError):
                history.load_state_dict(state)
    assert len(history.to_frame().step.unique()) == 2


def test_an_ensemble_s():
    ensemble = Ensemble([nn.Linear(2, 1) for _ in range(2)], "SGD / SGD")
    good = ensemble.state_dict()
    for key, strange in itertools.product(good, (None, 5, "x", {"weight": 5})):
        with pytest.raises(GdtuoError):
            ensemble.load_state_dict({**good, key: strange})
    ensemble.load_state_dict(good)


def test_a_schedule_s_factor_goes_with_and_without_a_guard():
    """It is a number without one, a tensor with one."""
    for guards in itertools.permutations((0, 3)):
        models = [make_model() for _ in guards]
        towers = [
            gdtuo.Tower(model.parameters(), LOG_SGD, safeguards=Safeguards(guard=guard))
            for model, guard in zip(models, guards, strict=True)
        ]
        towers[0].param_groups[0]["lr"] = torch.tensor(0.025)
        train(models[0], towers[0], 2)
        towers[1].load_state_dict(towers[0].state_dict())
        models[1].load_state_dict(models[0].state_dict())
        assert train(models[0], towers[0], 3) == train(models[1], towers[1], 3)
