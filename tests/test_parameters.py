"""Groups, frozen and absent parameters, gradients as they come, and what a user may do to them."""

import copy

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import Safeguards
from tests.differences import check
from tests.problem import halves, loss_at, make_model, numbers, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous, stacked

SGD_SGD = gdtuo.SGD(0.05, momentum=0.5, optimizer=gdtuo.SGD(0.01))


def make(rule=SGD_SGD):
    model = make_model()
    return model, gdtuo.Tower(model.parameters(), rule)


def test_it_is_a_torch_optimizer():
    model, tower = make()
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
        model, tower = make(stacked(row.pronounced, above))
        check(model, tower, steps=steps, take=take)
    assert [tower.state[p]["step"] for p in model.parameters()] == [6, 6, 9, 8]


def test_a_step_without_any_gradient_does_nothing():
    model, tower = make()
    train(model, tower, 3)
    other, other_tower = copy.deepcopy((model, tower))
    state = copy.deepcopy(tower.state_dict())
    tower.zero_grad()
    for _ in range(2):
        tower.step()
    assert str(tower.state_dict()) == str(state)
    assert train(model, tower, 3) == train(other, other_tower, 3)


def test_a_group_without_any_gradient_does_nothing_while_another_steps():
    model = make_model()
    groups = [{"params": model[0].parameters()}, {"params": model[2].parameters()}]
    tower = gdtuo.Tower(groups, SGD_SGD)
    train(model, tower, 4)
    before, frozen = tower.hyperparameters(0), parameters_of(model[0])
    moving = tower.hyperparameters(1)
    model[0].requires_grad_(False)
    train(model, tower, 2)
    assert tower.hyperparameters(0) == before
    assert same(parameters_of(model[0]), frozen)
    assert tower.hyperparameters(1) != moving
    model[0].requires_grad_(True)
    train(model, tower, 1)  # its kept update was dropped: there is no hypergradient yet
    assert tower.hyperparameters(0)[0] == before[0]
    train(model, tower, 1)
    assert tower.hyperparameters(0)[0] != before[0]


@pytest.mark.parametrize("options", [{}, {"compile": "eager"}, {"safeguards": Safeguards(guard=9)}])
def test_a_group_without_any_gradient_has_no_hypergradient(options):
    model = make_model()
    rule = gdtuo.SGD(0.1, optimizer=gdtuo.SGD(1e-3, optimizer=gdtuo.SGD(1e-5)))
    tower = gdtuo.Tower(halves(model), rule, **options)
    train(model, tower, 5)
    assert min(map(abs, numbers(tower.hypergradients(0)))) > 0
    model[0].requires_grad_(False)
    for _ in range(4):
        train(model, tower, 1)
        assert numbers(tower.hypergradients(0)) == [0.0, 0.0]
        assert min(map(abs, numbers(tower.hypergradients(1)))) > 0


def test_frozen_parameters_stay_and_have_no_state():
    model = make_model()
    model[0].requires_grad_(False)
    tower = gdtuo.Tower(model.parameters(), gdtuo.Adam(optimizer=gdtuo.SGD(1e-5)))
    start = parameters_of(model[0])
    train(model, tower, 4)
    assert same(parameters_of(model[0]), start)
    assert not any(p in tower.state for p in model[0].parameters())


def test_groups_learn_apart_each_from_its_own_values():
    model, alone = make_model(), make_model()
    groups = [
        {"params": list(model[0].parameters()), "lr": 0.02},
        {"params": list(model[2].parameters()), "momentum": 0.25, "name": "head"},
    ]
    tower = gdtuo.Tower(groups, SGD_SGD)
    assert tower.hyperparameters(0)[0] == {"lr": 0.02, "momentum": 0.5}
    assert tower.hyperparameters(1)[0] == {"lr": 0.05, "momentum": 0.25}
    assert tower.hyperparameters(-1) == tower.hyperparameters(1)
    # The same as a tower for each.
    first = gdtuo.SGD(0.02, momentum=0.5, optimizer=gdtuo.SGD(0.01))
    second = gdtuo.SGD(0.05, momentum=0.25, optimizer=gdtuo.SGD(0.01))
    towers = [
        gdtuo.Tower(alone[0].parameters(), first),
        gdtuo.Tower(alone[2].parameters(), second),
    ]
    train(model, tower, 6)
    for i in range(6):
        alone.zero_grad()
        loss_at(alone, i).backward()
        for each in towers:
            each.step()
    assert same(parameters_of(model), parameters_of(alone))
    assert tower.hyperparameters(0) == towers[0].hyperparameters()
    assert tower.hyperparameters(1) == towers[1].hyperparameters()
    assert tower.param_groups[1]["name"] == "head"


def test_a_group_added_later():
    model = make_model()
    tower = gdtuo.Tower(model[0].parameters(), SGD_SGD)
    start = parameters_of(model[2])
    train(model, tower, 2)
    assert same(parameters_of(model[2]), start)
    tower.add_param_group({"params": model[2].parameters(), "lr": 0.01})
    train(model, tower, 2)
    assert not same(parameters_of(model[2]), start)
    assert len(tower.param_groups) == 2
    assert tower.hyperparameters(1)[0]["lr"] != 0.01


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_how_gradients_are_cleared_and_stored_does_not_matter(row, count):
    """Buffers that are zeroed, or written over in place, are what DDP and others give."""
    losses, values = [], []
    for way in ("none", "zeroed", "one buffer"):
        model = make_model()
        params = list(model.parameters())[:count]
        tower = gdtuo.Tower(params, homogeneous(row.pronounced, 2))
        buffers = [torch.zeros_like(p) for p in params]
        for i in range(6):
            tower.zero_grad(set_to_none=way != "zeroed")
            loss = loss_at(model, i)
            loss.backward()
            if way == "one buffer":
                for p, buffer in zip(params, buffers, strict=True):
                    p.grad = buffer.copy_(p.grad)
            tower.step()
            losses.append(loss.item())
            for buffer in buffers:
                buffer.fill_(float("nan"))
        values.append(tower.hyperparameters())
    assert losses[:6] == losses[6:12] == losses[12:]
    assert values[0] == values[1] == values[2]


def test_a_gradient_is_left_as_it_was():
    model, tower = make()
    for i in range(3):
        tower.zero_grad()
        loss_at(model, i).backward()
        before = [p.grad.clone() for p in model.parameters()]
        tower.step()
        assert same([p.grad for p in model.parameters()], before)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_scaling_the_gradient_scales_the_hypergradient(row):
    """A gradient that is clipped is the cotangent as it stands."""

    def hypergradient(scale):
        model, tower = make(stacked(row.pronounced, gdtuo.SGD(1e-4, optimizer=gdtuo.SGD(1e-6))))
        train(model, tower, 4)
        tower.zero_grad()
        loss_at(model, 4).backward()
        for p in model.parameters():
            p.grad.mul_(scale)
        tower.step()
        return tower.param_groups[0]["level1.previous_gradient"]

    whole = hypergradient(1.0)
    assert whole.abs().min() > 1e-7
    assert hypergradient(0.5).equal(whole * 0.5)
    assert hypergradient(0.0).equal(whole * 0.0)


def test_clip_grad_norm_clips_the_hypergradient():
    model, tower = make(gdtuo.SGD(0.05, optimizer=gdtuo.SGD(0.01)))
    kept = []
    for i in range(2):
        tower.zero_grad()
        loss_at(model, i).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        assert norm > 0.05
        kept.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        tower.step()
    expected = 0.05 + 0.01 * (kept[0] @ kept[1]).item()
    assert tower.hyperparameters()[0]["lr"] == pytest.approx(expected, rel=1e-13)


def test_accumulated_gradients_are_one_gradient():
    model, tower = make()
    other, other_tower = make()
    for i in range(0, 6, 2):
        tower.zero_grad()
        loss_at(model, i).backward()
        loss_at(model, i + 1).backward()
        tower.step()
        other_tower.zero_grad()
        (loss_at(other, i) + loss_at(other, i + 1)).backward()
        other_tower.step()
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


def test_closure():
    (model, tower), (other, other_tower) = make(), make()
    calls = []
    for i in range(4):

        def closure(i=i):
            calls.append(i)
            tower.zero_grad()
            loss = loss_at(model, i)
            loss.backward()
            return loss

        loss = tower.step(closure)
        assert loss.item() == train(other, other_tower, 1, start=i)[0]
    assert calls == [0, 1, 2, 3]
    assert same(parameters_of(model), parameters_of(other))


def test_hooks_run():
    model, tower = make()
    seen = []
    tower.register_step_pre_hook(lambda *_: seen.append("before"))
    tower.register_step_post_hook(lambda *_: seen.append("after"))
    train(model, tower, 2)
    assert seen == ["before", "after"] * 2


@pytest.mark.filterwarnings("ignore:optimizer contains a parameter group with duplicate")
def test_a_parameter_that_is_given_twice():
    p = nn.Parameter(torch.ones(3))
    with pytest.raises(gdtuo.GdtuoError, match="a parameter twice"):
        gdtuo.Tower([p, p], SGD_SGD)


class Picky(gdtuo.Rule):
    """w <- w - lr g, of vectors."""

    lr: float = gdtuo.hyperparameter(0.1)
    elementwise = True

    def init(self, w):
        if w.dim() != 1:
            raise RuntimeError("no vector")
        return {}

    def update(self, g, state, h):
        return h.lr * g, state


def test_nothing_of_a_group_stays_behind_that_its_rule_refuses():
    model, tower = make()
    for bad in (nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones((), dtype=torch.float64))):
        with pytest.raises(RuntimeError, match="no vector"):
            tower.add_param_group({"params": [bad], "rule": Picky()})
        assert bad not in tower.state
    other_model, other = make()
    assert train(model, tower, 3) == train(other_model, other, 3)
    assert len(tower.state_dict()["param_groups"]) == 1


def test_what_all_groups_share_stays_when_one_is_refused():
    """A group of another precision changes that of a tower that has not begun; if it is taken."""
    p = nn.Parameter(torch.ones(3))
    tower = gdtuo.Tower([p], Picky(optimizer=gdtuo.SGD(1e-3)), per="tower")
    before = str(tower.state_dict())
    bad = nn.Parameter(torch.ones((), dtype=torch.float64))
    with pytest.raises(RuntimeError, match="no vector"):
        tower.add_param_group({"params": [bad]})
    assert str(tower.state_dict()) == before
    tower.add_param_group({"params": [nn.Parameter(torch.ones(2, dtype=torch.float64))]})
    assert tower.param_groups[0]["level0.learned"].dtype == torch.float64


class Named(gdtuo.Rule):
    """w <- w - lr g / steps: a constant by the name of what a tower keeps in a group."""

    lr: float = gdtuo.hyperparameter(0.1)
    steps: float = gdtuo.constant(5.0)
    elementwise = True

    def update(self, g, state, h):
        return h.lr * g / self.steps, state


def test_a_rule_may_call_a_constant_what_it_likes():
    w = nn.Parameter(torch.ones(3))
    tower = gdtuo.Tower([w], Named(optimizer=gdtuo.SGD(1e-3)))
    w.grad = torch.ones(3)
    tower.step()
    assert w.tolist() == pytest.approx([0.98] * 3)


def test_hooks_on_loading_come_before_any_check():
    model, tower = make()
    train(model, tower, 2)
    state = copy.deepcopy(tower.state_dict())
    _, other = make()
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


@pytest.mark.skipif(
    not hasattr(torch.Tensor, "grad_dtype"), reason="a torch whose gradients have no own dtype"
)
def test_gradients_wider_than_their_parameters_resume_to_the_bit():
    def go(interrupted):
        w = nn.Parameter(torch.linspace(1, 2, 5, dtype=torch.bfloat16))
        w.grad_dtype = torch.float32
        rule = gdtuo.SGD(0.5, optimizer=gdtuo.SGD(1e-2))
        tower = gdtuo.Tower([w], rule)
        for i in range(6):
            if interrupted and i == 3:
                state = copy.deepcopy(tower.state_dict())
                tower = gdtuo.Tower([w], rule)
                tower.load_state_dict(state)
            w.grad = torch.linspace(0.1, 0.37, 5) * (1 + i / 7)
            tower.step()
        return tower.hyperparameters()

    assert go(True) == go(False)


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
    _, tower = make(rule)
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
    model, tower = make(gdtuo.parse(text))
    assert tower.hyperparameters()[1]["lr"] == {"lr": 0.001, "momentum": 0.0}
    train(model, tower, 4)
    learned = tower.hyperparameters()[2]["lr"]
    assert list(learned) == ["lr[lr]", "lr[momentum]"]
    assert learned["lr[momentum]"] == pytest.approx(0.01, abs=1e-8)
    assert abs(learned["lr[lr]"] - 0.01) > 1e-5


def test_repr():
    _, tower = make()
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
