"""What a rule may declare: hyperparameters that can be left out or are never learned, switches,
what its update reads, and a number in its state."""

import dataclasses

import pytest
import torch

import gdtuo
from tests.differences import check
from tests.problem import make_model, parameters_of, same, train
from tests.rules_table import homogeneous
from tests.test_contract import read, through_a_file


class Optional(gdtuo.Rule):
    """Of everything that may be left out: a hyperparameter, a constant, a switch; and ``w``, ``t``
    at some values only."""

    lr: float = gdtuo.hyperparameter(default=0.05)
    pull: float = gdtuo.hyperparameter(
        default=0.0, domain=gdtuo.non_negative, learned="when named", optional=True
    )
    never: float = gdtuo.hyperparameter(default=1.0, learned="never", why_never="it is for show")
    slowing: float = gdtuo.constant(default=0.0, optional=True)
    upwards: bool = gdtuo.constant(default=False, optional=True)
    always: bool = gdtuo.constant(default=True)
    elementwise = True

    @property
    def inputs(self):
        wanted = {"w": self.uses("pull"), "t": self.slowing != 0}
        return frozenset(name for name, wants in wanted.items() if wants)

    def update(self, g, state, h, t=None, w=None):
        assert ((w is not None), (t is not None)) == (hasattr(h, "pull"), self.slowing != 0)
        step = h.never * g if w is None else g + h.pull * w
        step = step if t is None else step / (1 + self.slowing * t)
        return h.lr * (-step if self.upwards else step), state


def trained_by(rule, steps=4):
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), rule)
    return train(model, tower, steps), model, tower


def test_what_is_optional_is_left_out_at_0():
    assert Optional().inputs == frozenset()
    assert Optional(pull=0.1).inputs == {"w"}
    assert Optional(slowing=0.1).inputs == {"t"}
    above = gdtuo.SGD(1e-3)
    assert Optional(optimizer=above).inputs == frozenset()
    assert Optional(optimizer=above, learn=["pull"]).inputs == {"w"}
    for rule, names in (
        (Optional(), {"lr", "never"}),
        (Optional(pull=0.1), {"lr", "never", "pull"}),
        (Optional(optimizer=above, learn=["lr", "pull"]), {"lr", "never", "pull"}),
    ):
        _, model, tower = trained_by(rule)
        assert set(tower.hyperparameters()[0]) == names
        kept = {key for p in model.parameters() for key in tower.state[p]}
        assert ("previous_parameter" in kept) == ("pull" in rule.learned)
    with pytest.raises(gdtuo.GdtuoError, match="positional"):
        Optional(0.1, 0.2, 0.3)
    assert Optional(0.1, 0.5) == Optional(lr=0.1, never=0.5)  # pull is given by name alone


def test_what_is_optional_can_be_learned_from_0():
    rule = Optional(optimizer=gdtuo.SGD(1e-2, momentum=0.5, optimizer=gdtuo.SGD(1e-4)))
    rule = dataclasses.replace(rule, learn=("lr", "pull"))
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), rule)
    check(model, tower)
    assert tower.hyperparameters()[0]["pull"] != 0
    above = dataclasses.replace(Optional(0.01, pull=0.1, slowing=0.3), optimizer=gdtuo.SGD(1e-3))
    above = dataclasses.replace(above, learn=("lr", "pull"))
    model = make_model()
    check(model, gdtuo.Tower(model.parameters(), gdtuo.SGD(0.05, momentum=0.5, optimizer=above)))


def test_switches_and_constants():
    losses, _, _ = trained_by(Optional())
    assert trained_by(Optional(upwards=True))[0][-1] > losses[-1]
    assert trained_by(Optional(slowing=0.5))[0] != losses
    _, _, tower = trained_by(Optional())
    state = tower.state_dict()
    for other in (Optional(slowing=0.5), Optional(upwards=True), Optional(always=False)):
        with pytest.raises(gdtuo.GdtuoError, match="state is that of another tower"):
            gdtuo.Tower(make_model().parameters(), other).load_state_dict(state)
    text = bytes(tower.param_groups[0]["tower"].tolist()).decode()
    assert text == "Optional^{}(always=True)"  # as if the others had never been declared
    text = "Optional(0.1, pull=0.5, slowing=0.1, upwards=True, always=False) / SGD"
    rule = Optional(0.1, pull=0.5, slowing=0.1, upwards=True, always=False, optimizer=gdtuo.SGD())
    assert (str(rule), gdtuo.parse(text)) == (text, rule)
    assert str(Optional(upwards=False)) == "Optional"
    with pytest.raises(gdtuo.GdtuoError, match=r"upwards=1 is no switch\. Give True or False"):
        Optional(upwards=1)


def test_what_is_never_learned_says_why():
    above = gdtuo.SGD(1e-3)
    assert Optional(optimizer=above).learned == ("lr",)
    message = "'never', which can't be learned: it is for show. Expected some of lr, pull"
    with pytest.raises(gdtuo.GdtuoError, match=f"Optional: learn names {message}"):
        Optional(optimizer=above, learn=["lr", "never"])
    with pytest.raises(
        gdtuo.GdtuoError, match=f"Optional: the lr of the rule above names {message}"
    ):
        Optional(optimizer=gdtuo.SGD(lr={"never": 0.1}))


class Warming(gdtuo.Rule):
    """A number that is a function of ``t`` alone: the sum of 1 / t."""

    lr: float = gdtuo.hyperparameter(default=0.02)
    elementwise = True

    def init(self, w):
        return {"sum": w.new_zeros(()), "m": torch.zeros_like(w)}

    def update(self, g, state, h, t):
        total, m = state["sum"] + 1 / t, 0.5 * state["m"] + g
        return h.lr * total * m, {"sum": total, "m": m}


@pytest.mark.parametrize("per", ["tower", "group", "tensor", "element"])
@pytest.mark.parametrize("height", range(3))
def test_a_scalar_in_the_state(height, per):
    """Of tensors that have taken different numbers of steps, too; and after a break."""

    def go(model, tower, steps, start=0):
        for i in range(start, start + steps):
            model[0].requires_grad_(i >= 2)
            train(model, tower, 1, start=i)

    rule = homogeneous(Warming(), height)
    model, again = make_model(), make_model()
    tower, other = (gdtuo.Tower(m.parameters(), rule, per=per) for m in (model, again))
    go(model, tower, 5)
    for p in model.parameters():
        t = tower.state[p]["step"] - (height > 0)  # the state is that before the last update
        expected = sum(1 / k for k in range(1, t + 1))
        assert tower.state[p]["sum"].item() == pytest.approx(expected, rel=1e-14)
        assert tower.state[p]["sum"].shape == ()
    weights, state = through_a_file(model, tower)
    again.load_state_dict(weights)
    other.load_state_dict(state)
    for each in ((model, tower), (again, other)):
        go(*each, 3, start=5)
    assert same(parameters_of(model), parameters_of(again))
    assert read(tower) == read(other)


@pytest.mark.parametrize("height", [1, 2, 3])
def test_hypergradients_with_a_scalar_in_the_state(height):
    model = make_model()
    check(model, gdtuo.Tower(model.parameters(), homogeneous(Warming(), height)))
