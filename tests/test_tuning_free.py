"""The start and the stride, each by itself; and the default that they and the trace make."""

from __future__ import annotations

import copy
import dataclasses
import gc
import math

import pytest
import torch
from torch import nn

import gdtuo
from gdtuo import Safeguards
from gdtuo.strides import PATIENCE
from gdtuo.tuning_free import RULE, START, STRIDE
from tests.problem import LOG, LOG_SGD, halves, loss_at, make_model, parameters_of, same, train


def length(before, after):
    """Of the step of all parameters, relative to their norm."""
    step = math.hypot(*((b - a).norm() for a, b in zip(before, after, strict=True)))
    number = sum(p.numel() for p in before)
    return step / max(math.hypot(*(p.norm() for p in before)), 0.01 * number**0.5)


def one_step(model, tower, i=0):
    before = parameters_of(model)
    train(model, tower, 1, start=i)
    return length(before, parameters_of(model))


def lr_of(tower):
    return tower.hyperparameters()[0]["lr"]


@pytest.mark.parametrize("per", ["tower", "group", "tensor"])
@pytest.mark.parametrize("lr", [1e-30, 1e-6, 1e4, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_first_step_is_brought_into_range(lr, per, dtype):
    model, low, high = make_model(dtype), 1e-3, 1e-2
    rule = gdtuo.Adam(lr, optimizer=gdtuo.SGD(0.0), **LOG)
    safe = Safeguards(start=(low, high))
    tower = gdtuo.Tower(halves(model), rule, per=per, safeguards=safe)
    before = parameters_of(model)
    train(model, tower, 1, dtype=dtype)
    after = parameters_of(model)
    parts = {"tower": [slice(0, 4)], "group": [slice(0, 2), slice(2, 4)]}
    for part in parts.get(per, [slice(i, i + 1) for i in range(4)]):
        found = length(before[part], after[part])
        assert found == pytest.approx(low if lr < 1 else high, rel=1e-4)


@pytest.mark.parametrize("elements", [1, 400])
def test_of_parameters_at_0_a_hundredth_an_element_is_taken(elements):
    w = nn.Parameter(torch.zeros(elements, dtype=torch.float64))
    rule = gdtuo.SGD(1e4, optimizer=gdtuo.SGD(0.0), **LOG)
    tower = gdtuo.Tower([w], rule, safeguards=Safeguards(start=(1e-3, 1e-2)))
    w.sum().backward()
    tower.step()
    torch.testing.assert_close(w.detach(), torch.full_like(w, -1e-2 * 0.01))


def test_the_start_stays_in_bounds():
    model = make_model()
    rule = gdtuo.SGD(1e4, bounds={"lr": (10.0, 1e5)}, optimizer=gdtuo.SGD(0.0), **LOG)
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=Safeguards(start=(1e-3, 1e-2)))
    train(model, tower, 1)
    assert lr_of(tower) == pytest.approx(10.0)


def test_a_first_guess_in_range_is_taken():
    model, other = make_model(), make_model()
    towers = [
        gdtuo.Tower(each.parameters(), LOG_SGD, safeguards=Safeguards(start=start))
        for each, start in ((model, None), (other, (1e-9, 1e9)))
    ]
    assert train(model, towers[0], 5) == train(other, towers[1], 5)
    assert same(parameters_of(model), parameters_of(other))


def test_the_start_is_the_first_step_s_alone():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), LOG_SGD, safeguards=Safeguards(start=(1e-3, 1e-3)))
    train(model, tower, 1)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(100)
    assert one_step(model, tower, 1) != pytest.approx(1e-3, rel=0.5)


def test_a_schedule_has_no_part_in_the_start():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), LOG_SGD, safeguards=Safeguards(start=(1e-3, 1e-3)))
    tower.param_groups[0]["lr"] *= 0.01  # a warm-up
    assert one_step(model, tower) == pytest.approx(1e-5, rel=1e-9)


def test_what_is_frozen_or_without_a_gradient_does_not_start():
    model = make_model()
    tower = gdtuo.Tower(halves(model), LOG_SGD, safeguards=Safeguards(start=(1e-3, 1e-3)))
    tower.freeze(group=0)
    before = parameters_of(model)
    loss_at(model, 0).backward()
    for p in model[2].parameters():
        p.grad.zero_()
    tower.step()
    assert lr_of(tower) == pytest.approx(0.05)
    assert tower.hyperparameters(1)[0]["lr"] == pytest.approx(0.05)
    assert length(before, parameters_of(model)) > 0


@pytest.mark.filterwarnings("ignore:gdtuo.*skipped:RuntimeWarning")
def test_a_first_step_that_is_skipped_is_not_the_first():
    model = make_model()
    safe = Safeguards(start=(1e-3, 1e-3), stride=0.02, guard=5)
    tower = gdtuo.Tower(model.parameters(), LOG_SGD, safeguards=safe)
    loss_at(model, 0).backward()
    model[0].weight.grad[0] = math.inf
    tower.step()
    assert tower.skipped_steps == 1
    assert one_step(model, tower, 1) == pytest.approx(1e-3, rel=1e-9)
    assert lr_of(tower) != pytest.approx(0.05)


@pytest.mark.filterwarnings("ignore:gdtuo.*skipped:RuntimeWarning")
@pytest.mark.parametrize(("skipped", "is_frozen"), [(PATIENCE + 1, False), (1, True)])
def test_steps_that_are_skipped_use_up_no_start(skipped, is_frozen):
    model = make_model()
    safe = Safeguards(start=(1e-3, 1e-3), guard=2 * PATIENCE)
    tower = gdtuo.Tower(model.parameters(), LOG_SGD, safeguards=safe)
    if is_frozen:
        tower.freeze()
    for p in model.parameters():
        p.grad = torch.full_like(p, math.nan)
    for _ in range(skipped):
        tower.step()
    assert tower.skipped_steps == skipped
    tower.unfreeze()
    assert one_step(model, tower) == pytest.approx(1e-3, rel=1e-9)


def test_what_was_frozen_in_its_first_step_does_not_start_later():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), LOG_SGD, safeguards=Safeguards(start=(1e-3, 1e-3)))
    tower.freeze()
    train(model, tower, 1)
    tower.unfreeze()
    train(model, tower, 1, start=1)
    assert lr_of(tower) == pytest.approx(0.05, rel=0.01)


@pytest.mark.filterwarnings("ignore:gdtuo.*skipped:RuntimeWarning")
def test_a_step_that_is_skipped_while_nothing_is_learned_brings_nothing_into_range():
    """The other group's gradient is at fault."""
    tensors = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    groups = [{"params": [p]} for p in tensors]
    safe = Safeguards(start=(1e-3, 1e-3), guard=5, delay=3)
    tower = gdtuo.Tower(groups, LOG_SGD, safeguards=safe)
    for p, size in zip(tensors, (1.0, math.nan), strict=True):
        p.grad = torch.full_like(p, size)
    tower.step()
    assert tower.skipped_steps == 1
    assert lr_of(tower) == pytest.approx(0.05)
    tensors[1].grad.fill_(1.0)
    tower.step()
    assert lr_of(tower) == pytest.approx(1e-3)


def two_tensors(per, **options):
    """A default tower of two tensors that go by a step size each, and a step of some of them."""
    tensors = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    groups = [{"params": [p]} for p in tensors] if per == "group" else tensors
    tower = gdtuo.default(groups, per=per, **options)

    def step(*scales):
        tower.zero_grad()
        for p, scale in zip(tensors, scales, strict=True):
            if scale is not None:
                p.grad = scale * p.detach()
        tower.step()

    return tensors, tower, step


@pytest.mark.parametrize("per", ["group", "tensor"])
@pytest.mark.parametrize("guard", [0, 5])
def test_parameters_without_a_gradient_in_some_steps(per, guard):
    safe = Safeguards(start=START, stride=0.02, guard=guard)
    tensors, tower, step = two_tensors(per, lr=1e4, safeguards=safe)
    for scales in ((1, None), (1, 1), (1, None), (None, 1), *[(1, None)] * 12, (1, 1), (1, 1)):
        before = [p.detach().clone() for p in tensors]
        step(*scales)
        assert tower.skipped_steps == 0
        for p, b, scale in zip(tensors, before, scales, strict=True):
            assert p.isfinite().all()
            assert torch.equal(p, b) == (scale is None)
            assert (p - b).norm() < 0.05 * b.norm()


@pytest.mark.parametrize("per", ["group", "tensor"])
def test_a_first_step_of_length_0_is_not_the_first(per):
    tensors, tower, step = two_tensors(per, lr=1e4)
    fresh = two_tensors(per, lr=1e4)[1].state_dict()
    step(0, 1)  # as of what is behind a layer that starts at 0
    assert torch.equal(tensors[0], torch.ones(3))
    state = copy.deepcopy(tower.state_dict())
    keys = [[each.keys() for each in every["param_groups"]] for every in (state, fresh)]
    assert keys[0] == keys[1]  # some checkpoints restore only what they find in place
    tower.load_state_dict(state)
    for _ in range(3):
        before = [p.detach().clone() for p in tensors]
        step(1, 1)
        for p, b in zip(tensors, before, strict=True):
            assert 0 < (p - b).norm() < 0.05 * b.norm()


def test_an_ensemble_of_models_with_a_number_for_a_parameter():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            return self.scale * x

    safe = Safeguards(start=START, stride=0.02)
    ensemble = gdtuo.Ensemble([Scaled(), Scaled()], RULE, safeguards=safe)
    ensemble(torch.ones(())).sum().backward()
    ensemble.step()
    for i in range(2):
        model = ensemble.member(i)
        assert model.scale.item() == pytest.approx(1 - START[0], abs=1e-6)


def test_what_never_moves_is_waited_for_a_while_and_compiled_then(monkeypatch):
    monkeypatch.setattr(gdtuo.strides, "PATIENCE", 6)
    tensors, tower, step = two_tensors("tensor", compile="eager")
    for i in range(9):
        step(1, 0)
        assert (tower._compiled._bound is not None) == (i > 6)
    assert torch.equal(tensors[1], torch.ones(3))


@pytest.mark.parametrize("guard", [0, 5])
@pytest.mark.parametrize("delay", [0, 3])
def test_a_stride_brings_the_step_size_down_before_the_step(delay, guard):
    model = make_model()
    rule = dataclasses.replace(LOG_SGD, lr=5.0, optimizer=gdtuo.SGD(0.0))
    safe = Safeguards(stride=0.1, delay=delay, guard=guard)
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=safe)
    lr = 5.0
    for i in range(6):
        found, before, lr = one_step(model, tower, i), lr, lr_of(tower)
        assert lr <= before
        assert found == pytest.approx(0.1, rel=1e-9) if lr < before else found <= 0.1
    assert lr < 1.0


def test_a_stride_is_that_of_a_scheduled_step():
    lengths, rates = [], []
    for factor in (1.0, 0.5):
        model = make_model()
        tower = gdtuo.Tower(
            model.parameters(),
            dataclasses.replace(LOG_SGD, lr=5.0),
            safeguards=Safeguards(stride=0.1),
        )
        tower.param_groups[0]["lr"] *= factor
        lengths.append(one_step(model, tower))
        rates.append(lr_of(tower))
    assert lengths == pytest.approx([0.1, 0.1], rel=1e-9)
    assert rates[1] == pytest.approx(2 * rates[0], rel=1e-9)


@pytest.mark.filterwarnings("ignore:gdtuo.*skipped:RuntimeWarning")
def test_a_stride_leaves_alone_what_is_frozen_and_what_is_skipped():
    model = make_model()
    rule = dataclasses.replace(LOG_SGD, lr=5.0)
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=Safeguards(stride=0.1, guard=5))
    tower.freeze("lr")
    assert one_step(model, tower) > 0.1
    assert lr_of(tower) == pytest.approx(5.0, rel=1e-9)
    tower.unfreeze("lr")
    for p in model.parameters():
        p.grad = torch.full_like(p, math.nan)
    tower.step()
    assert lr_of(tower) == pytest.approx(5.0, rel=1e-9)
    assert tower.skipped_steps == 1


@pytest.mark.parametrize("per", ["group", "tensor"])
def test_a_sudden_gradient_makes_no_long_step_of_the_default(per):
    tensors, _, step = two_tensors(per)
    for i in range(30):
        before = [p.detach().clone() for p in tensors]
        step(*[1000.0 if i % 10 == 9 else 1.0] * 2)
        # Of the step, the average's part is not the step size's.
        assert length(before, [p.detach() for p in tensors]) < 2 * STRIDE


def test_short_strides_are_left_alone():
    model, other = make_model(), make_model()
    safe = gdtuo.Tower(other.parameters(), LOG_SGD, safeguards=Safeguards(stride=1e9))
    assert train(model, gdtuo.Tower(model.parameters(), LOG_SGD), 5) == train(other, safe, 5)
    assert same(parameters_of(model), parameters_of(other))


def test_a_state_that_was_saved_without_them_goes_on_with_them():
    model = make_model()
    rule = dataclasses.replace(LOG_SGD, lr=5.0)
    plain = gdtuo.Tower(model.parameters(), rule)
    train(model, plain, 3)
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=Safeguards(start=START, stride=0.02))
    tower.load_state_dict(plain.state_dict())
    assert lr_of(tower) == lr_of(plain)
    before = lr_of(tower)
    assert one_step(model, tower, 3) == pytest.approx(0.02, rel=1e-9)  # it has begun long ago
    assert lr_of(tower) < 0.9 * before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": (0.1, 0.01)}, "low <= high"),
        ({"start": (0.0, 0.01)}, "low <= high"),
        ({"start": 0.1}, "low <= high"),
        ({"stride": 0.0}, "stride=0.0"),
    ],
)
def test_errors_of_safeguards(options, message):
    with pytest.raises(gdtuo.GdtuoError, match=message):
        Safeguards(**options)


@pytest.mark.parametrize("options", [{"start": (1e-3, 1e-2)}, {"stride": 0.1}], ids=str)
def test_errors_of_towers(options):
    w, safe = [torch.nn.Parameter(torch.ones(3))], Safeguards(**options)
    for text in ("SGD", "SGD / SGD", "Adam(coordinates={lr: log}) / SGD"):
        with pytest.raises(gdtuo.GdtuoError, match="learned alone and in log coordinates"):
            gdtuo.Tower(w, gdtuo.parse(text), safeguards=safe)
    with pytest.raises(gdtuo.GdtuoError, match="per='element'"):
        gdtuo.Tower(w, LOG_SGD, per="element", safeguards=safe)


def regression(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(20, 50), nn.Tanh(), nn.Linear(50, 1))
    inputs = torch.randn(256, 20)
    return model, inputs, inputs[:, :1] * inputs[:, 1:2]


def final_loss(lr, scale=1.0, steps=300):
    model, inputs, targets = regression()
    optimizer = gdtuo.default(model.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = (model(inputs) - targets).square().mean()
        (scale * loss).backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("lr", [1e-8, 1e-3, 1e4])
def test_the_default_trains_from_any_first_guess(lr):
    model, inputs, targets = regression()
    first = (model(inputs) - targets).square().mean().item()
    assert final_loss(lr) < 0.05 * first


def test_the_default_does_not_know_the_scale_of_the_loss():
    small, large = (final_loss(1e-3, scale, steps=60) for scale in (1e-2, 1e4))
    assert small == pytest.approx(large, rel=0.05)


def test_the_default_is_what_it_says():
    safe = Safeguards(clip=1.0, stride=0.5)
    tower = gdtuo.default(make_model().parameters(), 0.5, per="tensor", safeguards=safe)
    assert isinstance(tower, gdtuo.Tower)
    assert tower.rule == dataclasses.replace(RULE, lr=0.5)
    assert tower.safeguards == Safeguards(clip=1.0, start=START, stride=STRIDE)
    assert tower.per == "tensor"
    with pytest.raises(gdtuo.GdtuoError, match=r"lr=0\.0 has no log coordinate"):
        gdtuo.default(make_model().parameters(), lr=0.0)


def test_the_numbers_of_the_default_are_those_that_results_are_of():
    """`results/robustness`, `peers`, `ingredients`, `heldout` and `cost`."""
    bottom, top = (
        {name: getattr(level, name) for name in level.specs}
        for level in gdtuo.default(make_model().parameters()).rule.levels
    )
    assert bottom == {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "power": 4.0, "eps": 1e-8}
    assert top == {
        "lr": 0.02, "beta1": 0.9, "beta2": 0.99, "push": 0.4, "max_push": 0.9, "boost": 25.0,
        "eps": 1e-18,
    }  # fmt: skip
    assert (RULE.trace, START, STRIDE) == (0.95, (0.003, 0.01), 0.02)
    assert gdtuo.ScheduleFreeAdam().lr == 0.003  # of the rule by itself


def test_the_default_is_of_its_own_rules():
    """A user's rule of the same name is what a text means, not what the default is made of."""

    class Seek(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.5)
        elementwise = True

        def update(self, g, state, h):
            return h.lr * g, state

    assert type(gdtuo.default(make_model().parameters()).rule.optimizer) is gdtuo.Seek
    del Seek  # or later texts in this process would mean it
    gc.collect()


def test_nothing_is_pushed_where_nothing_is_known():
    w = torch.nn.Parameter(torch.ones(4))
    tower = gdtuo.default([w], lr=0.01)
    for _ in range(50):
        w.grad = torch.zeros(4)
        tower.step()
    assert lr_of(tower) == pytest.approx(0.01)
    assert w.tolist() == [1.0] * 4


@pytest.mark.parametrize("per", ["tower", "group", "tensor"])
def test_the_default_resumes_to_the_bit(per):
    model = make_model()
    tower = gdtuo.default(halves(model), per=per)
    train(model, tower, 7)
    again = make_model()
    other = gdtuo.default(halves(again), lr=1e4, per=per)
    again.load_state_dict(model.state_dict())
    other.load_state_dict(tower.state_dict())
    assert train(model, tower, 9, start=7) == train(again, other, 9, start=7)
    assert same(parameters_of(model), parameters_of(again))


@pytest.mark.parametrize("lr", [1e18, 1e20, 1e37])
def test_a_stride_holds_where_the_square_of_a_step_is_beyond_float32(lr):
    """After so many gradients of 0 that the start is waited for no longer."""
    torch.manual_seed(0)
    w = torch.randn(5, requires_grad=True)
    tower = gdtuo.default([w], lr=lr)
    for k in range(PATIENCE + 10):
        w.grad = 2 * (w.detach() - 3) * (k > PATIENCE)
        tower.step()
    assert w.isfinite().all()
    assert w.norm() < 10
