"""The guard: a poisoned step changes nothing, is counted and told of; clean data pass as ever."""

from __future__ import annotations

import copy
import itertools
import math
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import gdtuo
from gdtuo import Safeguards
from tests.problem import PER, halves, loss_at, make_model, parameters_of, same, train
from tests.rules_table import ROWS, homogeneous, stacked

GUARD = Safeguards(guard=50)
TOWERS = [
    homogeneous(row.pronounced, height if row.rule.elementwise else 0)
    for row, height in itertools.product(ROWS, (0, 2))
]
TALL = [homogeneous(row.pronounced, 2) for row in ROWS if row.rule.elementwise]
CLEAN, INF, NAN = 1.0, math.inf, math.nan


def whole(model):
    return list(model.parameters())


def take(model, tower, i, factor=CLEAN, absent=()):
    """Step ``i``, with the gradients of the last layer times ``factor``, some of them None."""
    tower.zero_grad()
    loss_at(model, i, next(model.parameters()).dtype).backward()
    parameters = list(model.parameters())
    for p in parameters[2:]:
        p.grad.mul_(factor)
    for k in absent:
        parameters[k].grad = None
    tower.step()


def run(rule, events, groups_of=whole, dtype=torch.float64, **options):
    """Take ``events``, each a factor and what is absent. A poisoned one repeats no batch."""
    model = make_model(dtype)
    tower = gdtuo.Tower(groups_of(model), rule, **{"safeguards": GUARD, **options})
    i = 0
    for factor, absent in events:
        take(model, tower, i, factor, absent)
        i += factor == CLEAN
    return model, tower


def read(tower):
    """All values, the guard's warning aside."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return [tower.hyperparameters(i) for i in range(len(tower.param_groups))]


def equal(a, b):
    if isinstance(a, Tensor):
        return a.equal(b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b


def check_alike(poisoned, clean, skipped, exactly=True):
    """That both are the same, to the bit or to rounding, and that the guard has counted."""
    (model, tower), (expected_model, expected_tower) = poisoned, clean
    if exactly:
        assert same(parameters_of(model), parameters_of(expected_model))
        assert equal(read(tower), read(expected_tower))
    # Where sums have another order, a tower of NAdam makes 1e-10 of it on some processors; an
    # update more or less would be a thousandth.
    for p, q in zip(parameters_of(model), parameters_of(expected_model), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)
    assert tower.skipped_steps == skipped
    assert expected_tower.skipped_steps == 0


def events(*factors):
    return [(factor, ()) for factor in factors]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_on_clean_data_it_does_nothing(rule, per, dtype):
    clean = events(*[CLEAN] * 8)
    free = run(rule, clean, halves, dtype, per=per, safeguards=Safeguards())
    check_alike(run(rule, clean, halves, dtype, per=per), free, 0)


@pytest.mark.parametrize("at", [0, 1, 4])
@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_a_poisoned_step_changes_nothing(rule, at):
    """Not even the count of updates, by which biases are corrected: the first one least of all."""
    clean = events(*[CLEAN] * 6)
    poisoned = clean[:at] + events(NAN, INF) + clean[at:]
    check_alike(run(rule, poisoned), run(rule, clean), 2)


@pytest.mark.parametrize("per", PER)
@pytest.mark.parametrize("rule", TALL, ids=str)
def test_poison_in_one_group_holds_back_the_other(rule, per):
    clean = events(*[CLEAN] * 5)
    poisoned = events(NAN) + clean[:2] + events(-INF) + clean[2:]
    check_alike(run(rule, poisoned, halves, per=per), run(rule, clean, halves, per=per), 2)


# What was left out in different steps no longer goes as one flat tensor: sums have another order.
@pytest.mark.parametrize("groups_of", [whole, halves])
@pytest.mark.parametrize("rule", TALL, ids=str)
def test_parameters_left_out_before_in_and_after_a_poisoned_step(rule, groups_of):
    start = [(CLEAN, ()), (CLEAN, (0,)), (CLEAN, ())]
    end = [(CLEAN, (1,)), (CLEAN, (1, 0)), (CLEAN, ()), (CLEAN, ())]
    poison = [(NAN, (0,)), (INF, (1,)), (NAN, ()), (NAN, (0, 1))]
    for k in range(4):
        poisoned = run(rule, start[:k] + poison + start[k:] + end, groups_of)
        check_alike(poisoned, run(rule, start + end, groups_of), 4, exactly=False)


def test_equal_counts_of_tries_are_not_equal_counts_of_updates():
    """Two tensors tried as often, of which one was in the poisoned step: their t differ."""
    rule = gdtuo.parse("Adam(0.02, beta1=0.6, beta2=0.8) / SGD(1e-4)")
    poisoned = [(CLEAN, ()), (NAN, (0,)), (CLEAN, (1,)), *events(*[CLEAN] * 4)]
    clean = [(CLEAN, ()), (CLEAN, (1,)), *events(*[CLEAN] * 4)]
    check_alike(run(rule, poisoned), run(rule, clean), 1, exactly=False)


def test_a_layer_left_out_for_longer_than_skips_may_last():
    rule = gdtuo.parse("Adam(0.02) / SGD(1e-4)")
    options = {"safeguards": Safeguards(guard=3)}
    clean = [*events(CLEAN, CLEAN), *[(CLEAN, (0, 1))] * 8, *events(CLEAN, CLEAN)]
    poisoned = [*clean[:4], (NAN, (0, 1)), *clean[4:]]
    with pytest.warns(RuntimeWarning, match="skipped"):
        found = run(rule, poisoned, **options)
    check_alike(found, run(rule, clean, safeguards=Safeguards()), 1, exactly=False)


def test_a_schedule_s_last_factor_is_that_of_the_last_step_taken():
    rule = gdtuo.parse("SGD(0.05, momentum=0.5) / SGD(0.01) / SGD(0.01)")

    def scheduled(factors):
        model = make_model()
        tower = gdtuo.Tower(model.parameters(), rule, safeguards=GUARD)
        i = 0
        for factor, of_lr in factors:
            tower.param_groups[0]["lr"] = 0.05 * of_lr
            take(model, tower, i, factor)
            i += factor == CLEAN
        return model, tower

    clean = [(CLEAN, 1.0), (CLEAN, 0.5), (CLEAN, 0.25), (CLEAN, 0.75)]
    poisoned = [(NAN, 3.0), *clean[:2], (NAN, 7.0), *clean[2:]]
    check_alike(scheduled(poisoned), scheduled(clean), 2)


@pytest.mark.parametrize("safeguards", [GUARD, Safeguards(guard=51), Safeguards()])
@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_resume_after_a_poisoned_step(rule, safeguards, tmp_path):
    """Without the guard too: what it keeps is then taken in, and what has taken as many steps goes
    as one tensor again, so that sums have another order."""
    model, tower = run(rule, [(NAN, ()), (CLEAN, ()), (CLEAN, (0,)), (INF, (2,)), (CLEAN, ())])
    torch.save([model.state_dict(), tower.state_dict()], tmp_path / "state.pt")
    again = make_model()
    other = gdtuo.Tower(again.parameters(), rule, safeguards=safeguards)
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    again.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for i in range(4, 8):
        take(model, tower, i)
        take(again, other, i)
    rtol, atol = (0.0, 0.0) if safeguards.guard else (1e-12, 1e-14)
    for p, q in zip(parameters_of(model), parameters_of(again), strict=True):
        torch.testing.assert_close(p, q, rtol=rtol, atol=atol)
    for level, level_of_other in zip(read(tower)[0], read(other)[0], strict=True):
        assert level == pytest.approx(level_of_other, rel=rtol, abs=atol)
    assert other.skipped_steps == (2 if safeguards.guard else 0)


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_a_state_without_a_guard_is_loaded_into_a_tower_with_one(rule):
    model, tower = run(rule, events(*[CLEAN] * 3), safeguards=Safeguards())
    again = copy.deepcopy(model)
    other = gdtuo.Tower(again.parameters(), rule, safeguards=GUARD)
    other.load_state_dict(tower.state_dict())
    for i in range(3, 7):
        take(model, tower, i)
        take(again, other, i)
        take(again, other, i, NAN)
    assert same(parameters_of(model), parameters_of(again))
    assert equal(read(tower), read(other))


def test_the_warning_names_the_loss_gradient_and_comes_once():
    _, tower = run(gdtuo.parse("SGD(0.1) / SGD(0.01)"), events(CLEAN, NAN, NAN, CLEAN))
    with pytest.warns(RuntimeWarning, match=r"2 steps were skipped .*the loss gradient \(2 times"):
        tower.hyperparameters()
    tower.hyperparameters()
    tower.hypergradients()
    assert tower.skipped_steps == 2


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("ask", [lambda t: t.step(), lambda t: t.hyperparameters()])
def test_the_warning_is_of_the_line_that_asked(ask, scheduled):
    """Whatever of torch lies between: a schedule wraps `step` once more."""
    w = nn.Parameter(torch.ones(1))
    tower = gdtuo.Tower([w], gdtuo.SGD(0.1), safeguards=Safeguards(guard=2))
    if scheduled:
        torch.optim.lr_scheduler.ConstantLR(tower, factor=1.0)
    for factor in (CLEAN, CLEAN, NAN):
        w.grad = torch.full_like(w, factor)
        tower.step()
    w.grad = torch.ones(1)
    with pytest.warns(RuntimeWarning, match="1 step was skipped") as caught:
        ask(tower)
    assert [(x.filename, x.lineno) for x in caught] == [(__file__, ask.__code__.co_firstlineno)]


def test_the_warning_names_the_level_and_the_hyperparameter():
    """The held-out gradients are poisoned, not those of the loss; and then a value overflows."""
    model = make_model()
    rule = gdtuo.parse("SGD(0.1, momentum=0.5) / SGD(0.01)")
    tower = gdtuo.Tower(model.parameters(), rule, safeguards=GUARD)
    train(model, tower, 2)
    before, values = parameters_of(model), tower.hyperparameters()
    tower.step(cotangents=[torch.full_like(p, math.nan) for p in model.parameters()])
    assert same(before, parameters_of(model))
    with pytest.warns(RuntimeWarning, match=r"level 0's lr \(once\), .*level 0's momentum"):
        assert tower.hyperparameters() == values


def test_a_level_further_up_is_named():
    rule = gdtuo.parse("SGD(0.1) / SGD(0.01, coordinates={lr: log}) / SGD(1e6)")
    _, tower = run(rule, events(*[CLEAN] * 10))
    with pytest.warns(RuntimeWarning, match=r"not finite: the hypergradient of level 1's lr \("):
        values = tower.hyperparameters()
    assert all(math.isfinite(level["lr"]) for level in values)


def test_a_beta_of_1_is_not_taken():
    """It is finite, but the step that it makes is not."""
    model = make_model(torch.float32)
    tower = gdtuo.Tower(model.parameters(), gdtuo.parse("Adam^{beta1} / SGD(1)"), safeguards=GUARD)
    train(model, tower, 2, dtype=torch.float32)
    before, values = parameters_of(model), read(tower)
    along = [p.grad.mul(1e9) for p in model.parameters()]
    loss_at(model, 2, torch.float32).backward()
    tower.step(cotangents=along)
    with pytest.warns(RuntimeWarning, match=r"not finite: the hypergradient of level 0's beta1 \("):
        assert tower.hyperparameters() == values[0]
    assert same(before, parameters_of(model))


def test_in_a_group_of_several():
    _, tower = run(gdtuo.parse("SGD(0.1) / SGD(0.01)"), events(CLEAN, NAN, CLEAN), halves)
    with pytest.warns(RuntimeWarning, match=r"loss gradient in group 1 \(once\)\."):
        tower.hyperparameters()


def test_a_gradient_whose_squares_overflow_is_not_taken():
    """Adam's second moment would be infinite for good, and its steps 0."""
    rule = gdtuo.parse("Adam(0.02) / SGD(1e-4)")
    clean = events(*[CLEAN] * 4)
    poisoned = run(rule, clean[:2] + events(1e30) + clean[2:], dtype=torch.float32)
    check_alike(poisoned, run(rule, clean, dtype=torch.float32), 1)


def test_many_in_a_row_are_an_error():
    """At a reading; and in a step, of which one in so many looks at the counts, and warns too."""
    rule, options = gdtuo.parse("SGD(0.1) / SGD(0.01)"), {"safeguards": Safeguards(guard=4)}
    message = r"The last 4 steps were all skipped; .*the loss gradient.*Go back to a checkpoint"
    with pytest.raises(gdtuo.GdtuoError, match=message):
        run(rule, events(*[NAN] * 4), **options)
    with pytest.raises(gdtuo.GdtuoError, match=r"The last step was skipped; .*gradient \(once\)\."):
        run(rule, events(NAN), safeguards=Safeguards(guard=1))
    model = nn.Linear(1, 1)
    tower = gdtuo.Tower(model.parameters(), rule, **options)
    for i in range(7):
        model.weight.grad = torch.full((1, 1), NAN if i > 2 else 1.0)
        if i == 3:
            with pytest.warns(RuntimeWarning, match="1 step was skipped"):
                tower.step()
        else:
            tower.step()
    with pytest.raises(gdtuo.GdtuoError, match=message):
        tower.hyperparameters()


@pytest.mark.filterwarnings("ignore:gdtuo:RuntimeWarning")
def test_as_many_but_not_in_a_row_are_none():
    options = {"safeguards": Safeguards(guard=4)}
    _, tower = run(gdtuo.SGD(0.1), events(*[CLEAN, NAN, NAN, NAN] * 4), **options)
    assert tower.skipped_steps == 12


def test_it_saves_a_run_that_would_be_lost():
    rule = gdtuo.parse("Adam(0.02) / SGD(1e-4)")
    poisoned = events(*[CLEAN] * 10, NAN, *[CLEAN] * 10)
    lost, _ = run(rule, poisoned, safeguards=Safeguards())
    saved, _ = run(rule, poisoned)
    assert math.isnan(loss_at(lost, 0).item())
    assert loss_at(saved, 0).item() < 0.6 * loss_at(make_model(), 0).item()


@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_it_asks_the_device_for_nothing(rule):
    """Fake tensors raise at `float()`, `bool()` and `.item()`; steps divisible by the limit ask."""
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))
        tower = gdtuo.Tower(halves(model), stacked(rule, rule.optimizer), safeguards=GUARD)
        for i in range(5):
            tower.zero_grad()
            model(torch.ones(4, 6)).sum().backward()
            if i == 2:
                model[0].weight.grad = None
            tower.step()
            tower.param_groups[0]["lr"] *= 0.5
    assert tower.param_groups[0]["steps"] == 5
