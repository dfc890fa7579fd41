"""A state that is another's, or has an entry of another kind, is refused and changes nothing."""

import copy
import itertools

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import SGD, Adam, Ensemble, GdtuoError, History, Safeguards, Tower
from tests.problem import LOG_SGD, make_model, make_tower, train
from tests.refusals import ADAM, GUARD, check_refusal, parameters, stepped

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


def loaded(tower, state):
    tower.load_state_dict(state)


def edited(**changes):
    state = Tower(parameters(), ADAM).state_dict()
    state["param_groups"][0] |= changes
    return state


def without_number(*keys, **options):
    """The state of a tower without some of what its groups have."""
    state = Tower(parameters(), ADAM, **options).state_dict()
    groups = [{k: v for k, v in group.items() if k not in keys} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def without_key(*keys, **options):
    state = Tower(parameters(), ADAM, **options).state_dict()
    state["state"][0] = {k: v for k, v in state["state"][0].items() if keys and k not in keys}
    return state


def last_frozen():
    *rest, last = parameters()
    return [*rest, last.requires_grad_(False)]


def with_last_of_another_shape():
    state = Tower(parameters(), ADAM).state_dict()
    state["state"][3] = state["state"][3] | {"exp_avg": torch.ones(1)}
    return state


def of_steps_without_parameters():
    stepped(tower := Tower(parameters(), ADAM))
    return {**tower.state_dict(), "state": {}}


REFUSED = {
    "the state of another tower": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower(parameters(), Adam(optimizer=Adam())).state_dict(),
        ),
        r"(?s)state is that of another tower.*saved: Adam.*/ Adam.*here:.*/ SGD.*Build the tower",
    ),
    "the state of what learns other names": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower(parameters(), Adam(optimizer=SGD(), learn=["lr"])).state_dict(),
        ),
        r"(?s)state is that of another tower.*saved: Adam\^\{lr\}.*here:.*\^\{lr,beta1,beta2\}",
    ),
    "the state of other constants": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower(parameters(), Adam(eps=1e-4, optimizer=SGD())).state_dict(),
        ),
        r"(?s)state is that of another tower.*saved: .*eps=0\.0001.*here:.*eps=1e-08",
    ),
    "the state of another optimizer": (
        lambda: loaded(Tower(parameters(), ADAM), torch.optim.Adam(parameters()).state_dict()),
        r"not the state of a gdtuo\.Tower\. Load it where it was saved",
    ),
    "the state of other groups": (
        lambda: loaded(
            Tower(parameters(), ADAM),
            Tower([{"params": parameters()[:1]}, {"params": parameters()[1:]}], ADAM).state_dict(),
        ),
        r"state has groups of \[1, 3\] parameters, this tower of \[4\]\. Build the tower",
    ),
    "something else": (
        lambda: loaded(Tower(parameters(), ADAM), {"model": {}}),
        r"The state is a dictionary of 'model'\. Give what `state_dict\(\)` returned",
    ),
    "a newer format": (
        lambda: loaded(Tower(parameters(), ADAM), edited(format=99)),
        r"state has format 99; this version of gdtuo reads up to \d+\. Upgrade gdtuo",
    ),
    "a state of nothing": (
        lambda: loaded(Tower(parameters(), ADAM), {"param_groups": []}),
        r"The state is a dictionary of 'param_groups'\. Give what `state_dict\(\)` returned",
    ),
    "a state without a count": (
        lambda: loaded(Tower(parameters(), ADAM), without_number("previous_lr_factor", "steps")),
        r"The state has no previous_lr_factor, steps in a group\. Give all of what",
    ),
    "a state without some of the rule's": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("exp_avg")),
        r"The state has no exp_avg for a parameter of shape",
    ),
    "a state without the last update's gradient": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("previous_gradient")),
        r"The state has no previous_gradient for a parameter of shape",
    ),
    "a state without a parameter's count": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("step")),
        r"The state has no step for a parameter of shape",
    ),
    "a state that doesn't say whether an update is kept": (
        lambda: loaded(Tower(parameters(), ADAM), without_key("is_kept")),
        r"The state has no is_kept for a parameter of shape",
    ),
    "a state without a schedule's lr": (
        lambda: loaded(Tower(parameters(), ADAM), without_number("lr")),
        r"The state has no lr in a group\. Give all of what",
    ),
    "a state that has nothing of a parameter but its place": (
        lambda: loaded(Tower(parameters(), ADAM), without_key()),
        r"The state has no exp_avg, .*, is_kept for a parameter of shape",
    ),
    "a state of another shape for what is frozen": (
        lambda: loaded(Tower(last_frozen(), ADAM), with_last_of_another_shape()),
        r"The state has a exp_avg of shape \[1\] for a parameter of shape \[3\]",
    ),
    "a state of steps that has no parameters": (
        lambda: loaded(Tower(parameters(), ADAM), of_steps_without_parameters()),
        r"The state is of a tower that has taken steps, and has nothing of any parameter\. Give",
    ),
    "a guard's state without a parameter's flag": (
        lambda: loaded(Tower(parameters(), ADAM, **GUARD), without_key("is_valid", **GUARD)),
        r"The state has no is_valid for a parameter of shape",
    ),
    "a guard's state without a parameter's count": (
        lambda: loaded(Tower(parameters(), ADAM, **GUARD), without_key("skipped", **GUARD)),
        r"The state has no skipped for a parameter of shape",
    ),
    "a guard's state without a level's flag": (
        lambda: loaded(
            Tower(parameters(), ADAM, **GUARD), without_number("level1.is_valid", **GUARD)
        ),
        r"The state has no level1\.is_valid in a group",
    ),
    "a guard's state without its counts": (
        lambda: loaded(
            Tower(parameters(), ADAM, **GUARD),
            without_number("guard.tries", "guard.causes", **GUARD),
        ),
        r"The state has no guard\.causes, guard\.tries in a group",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    check_refusal(*REFUSED[name])


def test_a_refused_state_leaves_the_tower_as_it_was():
    models = make_model(), make_model()
    tower, untouched = (Tower(model.parameters(), ADAM) for model in models)
    for steps in (3, 3):
        assert train(models[0], tower, steps) == train(models[1], untouched, steps)
        for state in (
            Tower(parameters(), Adam(optimizer=Adam())).state_dict(),
            edited(format=99),
            without_key("step"),
            without_number("lr"),
        ):
            with pytest.raises(GdtuoError):
                tower.load_state_dict(state)
