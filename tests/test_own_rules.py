"""A rule of the user's own: one that reads ``w``, one that reads ``t``, one that isn't elementwise,
one with coordinates of its own. They meet the contract that the table's rules meet."""

import copy
import io
import math

import pytest
import torch
from torch import nn

import gdtuo
from tests.differences import check
from tests.problem import make_model, parameters_of, same, train
from tests.rules_table import stacked

LOG = gdtuo.Coordinates("log", math.log, torch.exp)


class Decayed(gdtuo.Rule):
    lr: float = gdtuo.hyperparameter(default=0.05)
    weight_decay: float = gdtuo.hyperparameter(
        default=0.1, domain=gdtuo.non_negative, learned="when named"
    )
    elementwise = True

    def update(self, g, state, h, w):
        return h.lr * (g + h.weight_decay * w), state


class Normalized(gdtuo.Rule):
    """Each tensor's step has one norm."""

    lr: float = gdtuo.hyperparameter(default=0.05, domain=gdtuo.non_negative, coordinates=LOG)
    shift: float = gdtuo.hyperparameter(default=0.5)

    def update(self, g, state, h):
        return h.lr * g / (g.norm() + h.shift * h.shift), state


class Slowing(gdtuo.Rule):
    """Asks for everything, in another order than is usual, and has a state."""

    lr: float = gdtuo.hyperparameter(default=0.05)
    power: float = gdtuo.hyperparameter(default=0.5)
    elementwise = True

    def init(self, w):
        return {"start": w.clone(), "norm": torch.zeros_like(w)}

    def update(self, g, state, h, w, t):
        norm = 0.5 * state["norm"] + g.abs()
        step = h.lr * t**-h.power * (g + 0.1 * (w - state["start"])) / (1 + norm)
        return step, {"start": state["start"], "norm": norm}


class Shrunk(gdtuo.Adam):
    """Another update than its parent's, whose way to tell a step from the state isn't its own."""

    def update(self, g, state, h, t):
        step, state = super().update(g, state, h, t)
        return step / (1 + g.abs()), state


RULES = [Decayed(), Decayed(0.02, weight_decay=0.5), Normalized(), Slowing(0.1), Shrunk()]
UPPER = [rule for rule in RULES if rule.elementwise]


def _towers():
    for rule in RULES:
        yield stacked(rule, gdtuo.SGD(1e-3, optimizer=gdtuo.SGD(1e-4)))
        yield stacked(rule, gdtuo.Adam(1e-3, optimizer=gdtuo.SGD(1e-4)), rule.hyperparameters)
        yield stacked(rule, gdtuo.SGD(1e-3), ("lr",))
    for rule in UPPER:
        yield gdtuo.SGD(0.05, momentum=0.5, optimizer=stacked(rule, gdtuo.SGD(1e-3)))
        yield stacked(rule, stacked(rule, stacked(rule, None), rule.hyperparameters))


TOWERS = list(_towers())


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_hypergradients(rule):
    model = make_model()
    check(model, gdtuo.Tower(model.parameters(), rule))


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_resume_and_copy(rule):
    model, again = make_model(), make_model()
    tower = gdtuo.Tower(model.parameters(), rule)
    train(model, tower, 4)
    again.load_state_dict(model.state_dict())
    buffer = io.BytesIO()
    torch.save(tower.state_dict(), buffer)
    buffer.seek(0)
    other = gdtuo.Tower(again.parameters(), rule)
    other.load_state_dict(torch.load(buffer, weights_only=True))
    copied, copied_tower = copy.deepcopy((model, tower))
    losses = train(model, tower, 4, start=4)
    assert train(again, other, 4, start=4) == losses
    assert train(copied, copied_tower, 4, start=4) == losses
    assert same(parameters_of(again), parameters_of(model))


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_text(rule):
    assert gdtuo.parse(str(rule)) == rule


def test_weight_decay_is_torch_s():
    ours, theirs = make_model(), make_model()
    train(ours, gdtuo.Tower(ours.parameters(), Decayed(0.1, weight_decay=0.3)), 10)
    train(theirs, torch.optim.SGD(theirs.parameters(), lr=0.1, weight_decay=0.3), 10)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_what_is_learned_when_named():
    above = gdtuo.SGD(1e-3)
    assert Decayed(optimizer=above).learned == ("lr",)
    assert Decayed(optimizer=above, learn=["weight_decay"]).learned == ("weight_decay",)
    by_name = gdtuo.SGD(lr={"weight_decay": 1e-3})
    assert Decayed(optimizer=by_name).learned == ("weight_decay",)
    assert gdtuo.SGD(optimizer=above).learned == ("lr",)
    assert gdtuo.SGD(momentum=0.1, optimizer=above).learned == ("lr", "momentum")
    assert gdtuo.SGD(optimizer=above, learn=["momentum"]).learned == ("momentum",)


def test_a_rule_that_is_not_elementwise_sees_each_tensor_apart():
    params = [nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(4))]
    tower = gdtuo.Tower(params, Normalized(0.5, shift=0.0))
    for p in params:
        p.grad = torch.arange(1.0, p.numel() + 1)
    tower.step()
    for p in params:
        assert p.norm().item() == pytest.approx(0.5)


def test_t_counts_the_updates_of_each_tensor():
    first, late = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    tower = gdtuo.Tower([first, late], Counting(1.0))
    for i in range(5):
        first.grad, late.grad = torch.ones(1), torch.ones(1) if i >= 3 else None
        tower.step()
    assert (first.item(), late.item()) == (-15.0, -3.0)


class Counting(gdtuo.Rule):
    lr: float = gdtuo.hyperparameter(default=1.0)

    def update(self, g, state, h, t):
        assert t.shape == ()
        return h.lr * g * t, state


class Velocity(gdtuo.Rule):
    """Its state depends on the step size: a schedule's factor matters to it too."""

    lr: float = gdtuo.hyperparameter(default=0.1)
    elementwise = True

    def init(self, w):
        return {"velocity": torch.zeros_like(w)}

    def update(self, g, state, h):
        velocity = 0.5 * state["velocity"] + h.lr * g
        return velocity, {"velocity": velocity}


def test_a_schedule_s_factor_is_in_the_state_of_a_parameter_that_was_left_out():
    p, other = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    tower = gdtuo.Tower([p, other], Velocity(optimizer=gdtuo.SGD(0.0)))
    velocity, position = 0.0, 0.0
    for factor, present in ((1.0, True), (0.5, True), (0.25, False), (0.125, True)):
        tower.param_groups[0]["lr"] = 0.1 * factor
        p.grad = torch.ones_like(p) if present else None
        other.grad = torch.ones_like(p)
        tower.step()
        if present:
            velocity = 0.5 * velocity + 0.1 * factor
            position -= velocity
        assert p.item() == pytest.approx(position, rel=1e-14)


def test_half_precision_reads_w_in_float32():
    class Reading(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=1.0)

        def update(self, g, state, h, w, t):
            assert g.dtype == w.dtype == t.dtype == h.lr.dtype == torch.float32
            return h.lr * 0.5 * w, state

    p = nn.Parameter(torch.full((4,), 3.0, dtype=torch.bfloat16))
    tower = gdtuo.Tower([p], Reading(optimizer=gdtuo.SGD(0.0)))
    for expected in (1.5, 0.75):
        p.grad = torch.ones_like(p)
        tower.step()
        assert p.equal(torch.full_like(p, expected))
    assert tower.state[p]["previous_parameter"].equal(torch.full_like(p, 1.5))


def test_an_update_that_does_not_use_what_it_is_to_learn():
    class Idle(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=1.0)
        unused: float = gdtuo.hyperparameter(default=1.0)
        elementwise = True

        def update(self, g, state, h):
            return h.lr * g, state

    idle = Idle(0.1, optimizer=gdtuo.SGD(0.1), learn=["unused"])
    with pytest.raises(gdtuo.GdtuoError, match=r"Idle has no derivative .* unused.*learn="):
        gdtuo.Tower(make_model().parameters(), idle)
    with pytest.raises(gdtuo.GdtuoError, match=r"Idle has no derivative .* unused.*learn="):
        gdtuo.Tower(make_model().parameters(), gdtuo.SGD(0.1, optimizer=idle))
    gdtuo.Tower(make_model().parameters(), Idle(0.1, optimizer=gdtuo.SGD(0.1)))


class OfMatrices(gdtuo.Rule):
    """Its step size is used by matrices alone."""

    lr: float = gdtuo.hyperparameter(default=0.1)

    def update(self, g, state, h):
        return (h.lr * g if g.dim() == 2 else g), state


def test_an_update_that_uses_what_it_is_to_learn_by_some_tensors_only():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), OfMatrices(optimizer=gdtuo.SGD(0.1)))
    train(model, tower, 1)
    with pytest.raises(gdtuo.GdtuoError, match=r"OfMatrices has no derivative .* lr"):
        train(model, tower, 1)


def test_declarations_that_are_refused():
    with pytest.raises(gdtuo.GdtuoError, match=r"NoStepSize declares no lr\. Add: lr: float"):

        class NoStepSize(gdtuo.Rule):
            rate: float = gdtuo.hyperparameter(default=0.1)

    with pytest.raises(gdtuo.GdtuoError, match=r"ConstantStep declares no lr"):

        class ConstantStep(gdtuo.Rule):
            lr: float = gdtuo.constant(default=0.1)

    with pytest.raises(gdtuo.GdtuoError, match=r"Curious.update asks for \['loss'\].*Expected"):

        class Curious(gdtuo.Rule):
            lr: float = gdtuo.hyperparameter(default=0.1)

            def update(self, g, state, h, loss):
                return h.lr * g, state

    with pytest.raises(gdtuo.GdtuoError, match=r"Short.update asks for \['self', 'g', 'state'\]"):

        class Short(gdtuo.Rule):
            lr: float = gdtuo.hyperparameter(default=0.1)

            def update(self, g, state):
                return g, state

    with pytest.raises(gdtuo.GdtuoError, match=r"Normalized can't be an upper level.*elementwise"):
        gdtuo.SGD(optimizer=Normalized())


def test_fields_that_are_refused():
    with pytest.raises(gdtuo.GdtuoError, match=r"Bare: eps is declared as neither .* constant"):

        class Bare(gdtuo.SGD):
            eps: float = 1e-3

    with pytest.raises(gdtuo.GdtuoError, match=r"Taken: every rule has levels already"):

        class Taken(gdtuo.SGD):
            levels: float = gdtuo.constant(default=2.0)

    with pytest.raises(gdtuo.GdtuoError, match=r"Number: nan is a number. Choose another name"):

        class Number(gdtuo.SGD):
            nan: float = gdtuo.constant(default=2.0)

    with pytest.raises(gdtuo.GdtuoError, match=r"Rule: it has no update\. Give gdtuo\.SGD"):
        gdtuo.Rule()

    class Uncoded(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.1, coordinates=LOG_ABOVE_0)

    with pytest.raises(gdtuo.GdtuoError, match=r"Uncoded: lr=0\.0 has no log above 0 coordinate"):
        Uncoded(0.0)


LOG_ABOVE_0 = gdtuo.Coordinates("log above 0", math.log, torch.exp, gdtuo.positive)


def written_into(g, state, h):
    m = state["m"].mul_(0.9).add_(g)
    return h.lr * m, {"m": m}


UPDATES = {
    "a state that is written into": (written_into, "writes into m"),
    "a gradient that is written into": (
        lambda g, state, h: (g.mul_(h.lr), state),
        "writes into g",
    ),
    "a name that is lost": (lambda g, state, h: (h.lr * g, {}), "returns a state of nothing"),
    "a name that is new": (
        lambda g, state, h: (h.lr * g, state | {"v": g}),
        "returns a state of m, v.* Expected .* a new state of m",
    ),
    "a state of numbers": (lambda g, state, h: (h.lr * g, {"m": 0.9}), r"returns a state m=0\.9"),
    "no state": (lambda g, state, h: h.lr * g, r"returns a tensor of shape \[3\]\."),
    "a number": (lambda g, state, h: (h.lr * g.norm(), state), "returns a step .* shape .3."),
}


@pytest.mark.parametrize("name", UPDATES)
def test_an_update_is_tried_when_a_tower_is_made(name):
    function, message = UPDATES[name]

    class Faulty(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.1)
        elementwise = True

        def init(self, w):
            return {"m": torch.zeros_like(w)}

        def update(self, g, state, h):
            return function(g, state, h)

    for rule in (Faulty(), gdtuo.SGD(optimizer=Faulty())):
        with pytest.raises(gdtuo.GdtuoError, match=rf"(?s)Faulty\.update {message}"):
            gdtuo.Tower(make_model().parameters(), rule)


def test_a_rule_that_takes_no_matrices_is_an_error_in_words():
    class Channels(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.1)

        def update(self, g, state, h):
            return h.lr * g / g.square().sum(dim=(1, 2, 3), keepdim=True).sqrt(), state

    kernel = nn.Conv2d(3, 4, 3).weight
    message = (
        r"Channels is tried on a tensor of shape \[3, 2\] first, .*IndexError.* g\.flatten\(1\)"
    )
    with pytest.raises(gdtuo.GdtuoError, match=message):
        gdtuo.Tower([kernel], Channels())
