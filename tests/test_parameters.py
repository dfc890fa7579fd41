"""Parameters: frozen, absent, laid out or cast otherwise; and what a tower of them shows."""

import copy
import math

import pytest
import torch
from torch import nn

import gdtuo
from tests.differences import check
from tests.problem import SGD_SGD, make_model, make_tower, parameters_of, same, train
from tests.rules_table import ROWS, stacked


def test_it_is_a_torch_optimizer():
    model, tower = make_tower()
    assert isinstance(tower, torch.optim.Optimizer)
    leaves = list(model.parameters())
    train(model, tower, 3)
    for p, q in zip(model.parameters(), leaves, strict=True):
        assert p is q
        assert isinstance(p, nn.Parameter)
        assert p.is_leaf
        assert p.requires_grad


class Reference:
    """SGD with momentum under SGD, in plain numbers: two parameters, one tower."""

    def __init__(self, w, lr, mu, kappa):
        self.w, self.x, self.kappa = list(w), [lr, mu], kappa
        self.buffer = [0.0] * len(w)
        self.kept = [None] * len(w)  # (buffer before, gradient) of the last update

    def step(self, gradients):
        v = [0.0, 0.0]
        for kept, g in zip(self.kept, gradients, strict=True):
            if kept is not None and g is not None:
                b, previous = kept
                # w = ... - lr (mu b + previous)
                v[0] -= g * (self.x[1] * b + previous)
                v[1] -= g * self.x[0] * b
        self.x = [x - self.kappa * v_i for x, v_i in zip(self.x, v, strict=True)]
        self.kept = [
            None if g is None else (b, g) for b, g in zip(self.buffer, gradients, strict=True)
        ]
        for i, g in enumerate(gradients):
            if g is not None:
                self.buffer[i] = self.x[1] * self.buffer[i] + g
                self.w[i] -= self.x[0] * self.buffer[i]


@pytest.mark.parametrize(
    "absent",
    [
        [],
        [(2, 0)],
        [(2, 0), (3, 0)],
        [(0, 1), (3, 0), (5, 1)],
        [(1, 0), (1, 1)],  # nothing has a gradient: nothing happens, nothing is forgotten
        [(2, 0), (3, 0), (3, 1), (4, 1)],
    ],
)
def test_a_parameter_without_gradient_against_plain_numbers(absent):
    """It is left alone and its kept update dropped; the others go on."""
    torch.manual_seed(3)
    start, kappa = [1.0, -2.0], 0.01
    w = [nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in start]
    rule = gdtuo.SGD(0.1, momentum=0.5, optimizer=gdtuo.SGD(kappa))
    tower, reference = gdtuo.Tower(w, rule), Reference(start, 0.1, 0.5, kappa)
    for i in range(8):
        drawn = torch.randn(2, dtype=torch.float64).tolist()
        gradients = [None if (i, k) in absent else g for k, g in enumerate(drawn)]
        for p, g in zip(w, gradients, strict=True):
            p.grad = None if g is None else torch.tensor(g, dtype=torch.float64)
        tower.step()
        if any(g is not None for g in gradients):
            reference.step(gradients)
        assert [p.item() for p in w] == pytest.approx(reference.w, rel=1e-13)
        assert list(tower.hyperparameters()[0].values()) == pytest.approx(reference.x, rel=1e-13)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_hypergradients_with_a_layer_that_comes_late_and_one_that_goes(row):
    def take(model, tower, steps, start=0):
        losses = []
        for i in range(start, start + steps):
            model[0].requires_grad_(i >= 3)
            model[2].bias.requires_grad_(i != 5)
            losses += train(model, tower, 1, start=i)
        return losses

    above = gdtuo.SGD(1e-4, momentum=0.5, optimizer=gdtuo.SGD(1e-5))
    # Measured at the step in which the layer comes, at that after the bias was left out, and later.
    for steps in (3, 6, 8):
        model, tower = make_tower(stacked(row.pronounced, above))
        check(model, tower, steps=steps, take=take)
    assert [tower.state[p]["step"] for p in model.parameters()] == [6, 6, 9, 8]


def test_a_step_without_any_gradient_does_nothing():
    model, tower = make_tower()
    train(model, tower, 3)
    other, other_tower = copy.deepcopy((model, tower))
    state = copy.deepcopy(tower.state_dict())
    tower.zero_grad()
    for _ in range(2):
        tower.step()
    assert str(tower.state_dict()) == str(state)
    assert train(model, tower, 3) == train(other, other_tower, 3)


def test_frozen_parameters_stay_and_have_no_state():
    model = make_model()
    model[0].requires_grad_(False)
    tower = gdtuo.Tower(model.parameters(), gdtuo.Adam(optimizer=gdtuo.SGD(1e-5)))
    start = parameters_of(model[0])
    train(model, tower, 4)
    assert same(parameters_of(model[0]), start)
    assert not any(p in tower.state for p in model[0].parameters())


def test_hooks_run():
    model, tower = make_tower()
    seen = []
    tower.register_step_pre_hook(lambda *_: seen.append("before"))
    tower.register_step_post_hook(lambda *_: seen.append("after"))
    train(model, tower, 2)
    assert seen == ["before", "after"] * 2


def test_hooks_on_loading_come_before_any_check():
    model, tower = make_tower()
    train(model, tower, 2)
    state = copy.deepcopy(tower.state_dict())
    _, other = make_tower()
    other.register_load_state_dict_pre_hook(lambda _, given: given["optimizer"])
    other.load_state_dict({"optimizer": state, "epoch": 1})
    assert other.hyperparameters() == tower.hyperparameters()


def test_a_tower_that_was_made_and_loaded_in_inference_mode():
    model, other = make_model(), make_model()
    with torch.inference_mode():
        tower = gdtuo.Tower(model.parameters(), SGD_SGD)
    expected = train(other, reference := gdtuo.Tower(other.parameters(), SGD_SGD), 4)
    assert train(model, tower, 4) == expected
    with torch.inference_mode():
        tower.load_state_dict(reference.state_dict())
    assert train(model, tower, 3, start=4) == train(other, reference, 3, start=4)


LAYOUTS = {
    "transposed": lambda: nn.Parameter(torch.randn(3, 4).double().t()),
    "channels last": lambda: nn.Parameter(
        torch.randn(2, 3, 4, 5).double().to(memory_format=torch.channels_last)
    ),
    "a slice": lambda: nn.Parameter(torch.randn(6, 6).double()[::2, 1:4]),
    "expanded gradient": lambda: nn.Parameter(torch.randn(3, 4).double()),
}


@pytest.mark.parametrize("company", [0, 1])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_layouts(row, layout, company):
    """Alone and together with another tensor, as if it were contiguous; strides are kept."""
    torch.manual_seed(0)
    odd = LAYOUTS[layout]()
    strides = odd.stride()
    plain = nn.Parameter(odd.detach().contiguous().clone(memory_format=torch.contiguous_format))
    runs = []
    for p in (odd, plain):
        beside = [nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(company)]
        rule = stacked(row.pronounced, gdtuo.SGD(1e-5, optimizer=gdtuo.SGD(1e-6)))
        tower = gdtuo.Tower([p, *beside], rule)
        for i in range(5):
            tower.zero_grad()
            sum((q.sin() * (i + 1)).mean() for q in (p, *beside)).backward()
            if layout == "expanded gradient":
                g = torch.full((), 0.1 * (i + 1), dtype=torch.float64)
                p.grad = g.expand(3, 4) if p is odd else g.expand(3, 4).clone()
            tower.step()
        runs.append(tower.hyperparameters())
    assert odd.stride() == strides
    torch.testing.assert_close(odd.detach(), plain.detach(), rtol=1e-12, atol=1e-12)
    for level, plain_level in zip(*runs, strict=True):
        assert level == pytest.approx(plain_level, rel=1e-12)


@pytest.mark.parametrize("shape", [(2, 2), (2, 3), (3, 2), (1, 4), (2, 1, 2)])
def test_cotangents_that_are_parts_of_one_buffer_in_another_order(shape):
    """Together they fill it, as what was joined does; but not in the order of the elements."""
    n, turned = math.prod(shape), tuple(range(len(shape)))[::-1]
    buffer = torch.arange(2.0 * n)
    parts = [part.view(shape[::-1]).permute(turned) for part in buffer.split(n)]
    learned = []
    for along in (parts, [part.contiguous().clone() for part in parts]):
        weights = [nn.Parameter(torch.zeros(shape)) for _ in parts]
        tower = gdtuo.Tower(weights, gdtuo.SGD(1.0, optimizer=gdtuo.SGD(1e-3)))
        for _ in range(2):
            for w in weights:
                w.grad = torch.arange(1.0 * n).reshape(shape)
            tower.step(cotangents=along)
        learned.append(tower.hyperparameters())
    assert learned[0] == learned[1]


def test_parameters_one_by_one_or_together_are_the_same():
    """One flat tensor or several: what is learned is the sum either way."""
    w = torch.linspace(-1, 1, 12, dtype=torch.float64)
    results = []
    for shapes in ([(12,)], [(3, 2), (6,)], [(1,)] * 12):
        sizes = [torch.Size(shape).numel() for shape in shapes]
        pieces = torch.split(w.clone(), sizes)
        params = [nn.Parameter(x.reshape(s)) for x, s in zip(pieces, shapes, strict=True)]
        tower = gdtuo.Tower(params, gdtuo.Adam(0.02, optimizer=gdtuo.Adam(1e-3)))
        for i in range(6):
            tower.zero_grad()
            sum((p * (i + 1)).cos().sum() for p in params).backward()
            tower.step()
        flat = torch.cat([p.detach().flatten() for p in params])
        results.append((flat, list(tower.hyperparameters()[0].values())))
    for flat, values in results[1:]:
        torch.testing.assert_close(flat, results[0][0], rtol=1e-12, atol=1e-12)
        assert values == pytest.approx(results[0][1], rel=1e-12)


def test_hyperparameters_are_plain_floats_in_their_own_units():
    rule = gdtuo.parse("RMSProp(0.04, gamma=0.75) / SGD({lr: 0.5, gamma: 0.25}) / Adam")
    _, tower = make_tower(rule)
    values = tower.hyperparameters()
    assert values == [
        {"lr": pytest.approx(0.04), "gamma": pytest.approx(0.75)},
        {"lr": {"lr": 0.5, "gamma": 0.25}, "momentum": 0.0},
        {
            "lr": pytest.approx(0.001),
            "beta1": pytest.approx(0.9),
            "beta2": pytest.approx(0.999),
        },
    ]
    numbers = [*values[0].values(), *values[1]["lr"].values(), *values[2].values()]
    assert {type(x) for x in numbers} == {float}


def test_step_sizes_by_name_above_step_sizes_by_name_are_told_apart():
    """That of lr moves; that of momentum, whose hypergradient is small at first, hardly does."""
    text = (
        "SGD(0.05, momentum=0.5) / SGD({lr: 0.001, momentum: 0.0}) / SGD({lr: 0.01}) / SGD(0.001)"
    )
    model, tower = make_tower(gdtuo.parse(text))
    assert tower.hyperparameters()[1]["lr"] == {"lr": 0.001, "momentum": 0.0}
    train(model, tower, 4)
    learned = tower.hyperparameters()[2]["lr"]
    assert list(learned) == ["lr[lr]", "lr[momentum]"]
    assert learned["lr[momentum]"] == pytest.approx(0.01, abs=1e-8)
    assert abs(learned["lr[lr]"] - 0.01) > 1e-5


def test_repr():
    _, tower = make_tower()
    assert repr(tower) == f"Tower({SGD_SGD}, parameters in each group: [4])"


@pytest.mark.parametrize("rule", ["SGD(0.1, momentum=0.9) / SGD(1e-3)", "Adam / Adam / SGD(1e-5)"])
def test_a_model_cast_after_its_tower_was_made(rule):
    """The state goes where the parameters go."""
    late, model = make_model(torch.float32), make_model(torch.float32).double()
    late_optimizer = gdtuo.Tower(late.parameters(), gdtuo.parse(rule))
    late.double()
    optimizer = gdtuo.Tower(model.parameters(), gdtuo.parse(rule))
    assert train(late, late_optimizer, 5) == pytest.approx(train(model, optimizer, 5), rel=1e-6)
    dtypes = {
        v.dtype for s in late_optimizer.state.values() for v in s.values() if torch.is_tensor(v)
    }
    assert dtypes == {torch.float64}
