"""A scheduler means a factor on the learned step size, and the hypergradient accounts for it."""

import copy
import math

import pytest
import torch
from torch.optim import lr_scheduler, swa_utils

import gdtuo
from tests.differences import check
from tests.problem import loss_at, make_model, parameters_of, same, train
from tests.rules_table import BY_RULE, ROWS, stacked
from tests.test_state import through_a_file

# Up to some version torch's own SequentialLR calls what is deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:The epoch parameter in")

#: For every class, by its name; all of them move the step size within a few steps.
SCHEDULERS = {
    "LambdaLR": lambda opt: lr_scheduler.LambdaLR(opt, lambda i: 0.5 + 0.1 * i),
    "MultiplicativeLR": lambda opt: lr_scheduler.MultiplicativeLR(
        opt, lambda i: 0.8 + 0.1 * (i % 3)
    ),
    "StepLR": lambda opt: lr_scheduler.StepLR(opt, step_size=3, gamma=0.5),
    "MultiStepLR": lambda opt: lr_scheduler.MultiStepLR(opt, [2, 5], gamma=0.5),
    "ConstantLR": lambda opt: lr_scheduler.ConstantLR(opt, factor=0.3, total_iters=4),
    "LinearLR": lambda opt: lr_scheduler.LinearLR(opt, start_factor=0.1, total_iters=8),
    "ExponentialLR": lambda opt: lr_scheduler.ExponentialLR(opt, 0.9),
    "PolynomialLR": lambda opt: lr_scheduler.PolynomialLR(opt, total_iters=20, power=2.0),
    "CosineAnnealingLR": lambda opt: lr_scheduler.CosineAnnealingLR(opt, T_max=20),
    "CosineAnnealingWarmRestarts": lambda opt: lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=4),
    "CyclicLR": lambda opt: lr_scheduler.CyclicLR(
        opt, 0.01, 0.1, step_size_up=3, cycle_momentum=False
    ),
    "OneCycleLR": lambda opt: lr_scheduler.OneCycleLR(
        opt, max_lr=0.1, total_steps=20, cycle_momentum=False
    ),
    "ReduceLROnPlateau": lambda opt: lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=0),
    "ChainedScheduler": lambda opt: lr_scheduler.ChainedScheduler(
        [lr_scheduler.LinearLR(opt, 0.1, total_iters=4), lr_scheduler.ExponentialLR(opt, 0.9)]
    ),
    "SequentialLR": lambda opt: lr_scheduler.SequentialLR(
        opt,
        [lr_scheduler.LinearLR(opt, 0.1, total_iters=4), lr_scheduler.ExponentialLR(opt, 0.9)],
        milestones=[4],
    ),
    "SWALR": lambda opt: swa_utils.SWALR(opt, swa_lr=0.01, anneal_epochs=5),
    "LambdaLR from 0": lambda opt: lr_scheduler.LambdaLR(opt, lambda i: min(1.0, i / 3)),
}
FOR_EVERY_RULE = ["LambdaLR", "LambdaLR from 0", "CosineAnnealingLR", "StepLR", "SequentialLR"]
CLOSED_FORM = [
    name for name in SCHEDULERS if hasattr(getattr(lr_scheduler, name, None), "_get_closed_form_lr")
]
LEARNING = gdtuo.SGD(0.05, momentum=0.5, optimizer=gdtuo.SGD(1e-4, optimizer=gdtuo.SGD(1e-5)))


class Scheduled:
    """`train` with a scheduler that steps after the optimizer, for one run."""

    def __init__(self, name):
        self.make, self.scheduler, self.nominal = SCHEDULERS[name], None, []

    def __call__(self, model, optimizer, steps, start=0):
        if self.scheduler is None:
            self.scheduler = self.make(optimizer)
        losses = []
        for i in range(start, start + steps):
            self.nominal.append(optimizer.param_groups[0]["lr"])
            losses += train(model, optimizer, 1, start=i)
            if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
                self.scheduler.step(losses[-1])
            else:
                self.scheduler.step()
        return losses


def test_every_scheduler_of_torch_has_a_row():
    base = {"LRScheduler", "_LRScheduler"}
    kinds = [kind for kind in vars(lr_scheduler).values() if isinstance(kind, type)]
    wanted = {
        kind.__name__
        for kind in (*kinds, lr_scheduler.ReduceLROnPlateau, swa_utils.SWALR)
        if issubclass(kind, lr_scheduler.LRScheduler)
    }
    assert wanted - base <= set(SCHEDULERS)


def compared_with_torch_s(row, rule, name):
    ours, theirs = make_model(), make_model()
    take, take_theirs = Scheduled(name), Scheduled(name)
    losses = take(ours, gdtuo.Tower(ours.parameters(), rule), 15)
    expected = take_theirs(theirs, row.torch_optimizer(theirs.parameters(), rule), 15)
    assert losses == pytest.approx(expected, rel=1e-11)
    assert take.nominal == pytest.approx(take_theirs.nominal, rel=1e-11)
    assert len(set(take.nominal)) > 1


@pytest.mark.parametrize("name", FOR_EVERY_RULE)
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_where_nothing_is_learned_a_scheduler_does_what_it_does_to_torch_s(row, name):
    compared_with_torch_s(row, row.alike[0], name)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_where_nothing_is_learned_every_scheduler_does_what_it_does_to_torch_s(name):
    compared_with_torch_s(BY_RULE[gdtuo.SGD], gdtuo.SGD(0.05, momentum=0.9), name)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
@pytest.mark.parametrize("name", FOR_EVERY_RULE[:3])
def test_hypergradients_under_a_schedule(row, name):
    model, above = make_model(), gdtuo.SGD(1e-4, optimizer=gdtuo.SGD(1e-5))
    tower, take = gdtuo.Tower(model.parameters(), stacked(row.pronounced, above)), Scheduled(name)
    check(model, tower, take=take)
    assert len(set(take.nominal)) > 1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_hypergradients_under_every_schedule(name):
    model, take = make_model(), Scheduled(name)
    check(model, gdtuo.Tower(model.parameters(), LEARNING), take=take)
    assert len(set(take.nominal)) > 1


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_step_taken_is_the_learned_lr_times_nominal_over_initial(name):
    model, take = make_model(), Scheduled(name)
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.05, optimizer=gdtuo.SGD(0.01)))
    for i in range(8):
        before = parameters_of(model)
        take(model, tower, 1, start=i)
        lr = tower.hyperparameters()[0]["lr"] * take.nominal[-1] / 0.05
        for p, w in zip(model.parameters(), before, strict=True):
            torch.testing.assert_close(p.detach(), w - lr * p.grad, rtol=1e-13, atol=1e-14)
    assert tower.hyperparameters()[0]["lr"] != pytest.approx(0.05, rel=1e-4)


@pytest.mark.parametrize("name", CLOSED_FORM)
def test_the_closed_form_is_the_chained_one(name):
    chained, closed, take = make_model(), make_model(), Scheduled(name)
    losses = take(chained, gdtuo.Tower(chained.parameters(), LEARNING), 12)
    tower = gdtuo.Tower(closed.parameters(), LEARNING)
    scheduler, closed_losses, nominal = SCHEDULERS[name](tower), [], []
    for i in range(12):
        nominal.append(tower.param_groups[0]["lr"])
        closed_losses += train(closed, tower, 1, start=i)
        with pytest.warns(UserWarning, match="The epoch parameter"):
            scheduler.step(i + 1)
    assert nominal == pytest.approx(take.nominal, rel=1e-11)
    assert closed_losses == pytest.approx(losses, rel=1e-11)


def test_warm_restarts_in_the_middle_of_an_epoch():
    """Its `step` takes a fraction, as a documented use."""
    runs = []
    for make in (lambda ps: gdtuo.Tower(ps, gdtuo.SGD(0.1)), lambda ps: torch.optim.SGD(ps, 0.1)):
        model = make_model()
        optimizer = make(model.parameters())
        scheduler = lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
        runs.append([])
        for i in range(12):
            runs[-1] += train(model, optimizer, 1, start=i)
            scheduler.step(i / 4)
    assert runs[0] == pytest.approx(runs[1], rel=1e-11)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_resume_to_the_bit_in_the_middle_of_a_schedule(name):
    def start():
        model, take = make_model(), Scheduled(name)
        tower = gdtuo.Tower(model.parameters(), LEARNING)
        take.scheduler = take.make(tower)
        return model, tower, take

    model, tower, take = start()
    take(model, tower, 5)
    saved = through_a_file([model.state_dict(), tower.state_dict()])
    saved.append(copy.deepcopy(take.scheduler.state_dict()))  # some hold functions
    copied = copy.deepcopy((model, tower, take))
    losses = take(model, tower, 8, start=5)
    resumed = start()
    for each, state in zip((*resumed[:2], resumed[2].scheduler), saved, strict=True):
        each.load_state_dict(state)
    for again, other, take_again in (resumed, copied):
        assert take_again(again, other, 8, start=5) == losses
        assert take_again.nominal[-8:] == take.nominal[-8:]
        assert same(parameters_of(model), parameters_of(again))
        assert tower.hyperparameters() == other.hyperparameters()


@pytest.mark.parametrize("rule", ["SGD(0.05, momentum=0.9) / SGD(1e-4)", "Adam / SGD(1e-5)"])
def test_a_momentum_is_learned_not_scheduled(rule):
    """torch refuses to cycle a momentum that is not in the parameter groups."""
    tower = gdtuo.Tower(make_model().parameters(), gdtuo.parse(rule))
    with pytest.raises(ValueError, match="must support momentum or beta1 with `cycle_momentum`"):
        lr_scheduler.CyclicLR(tower, 0.01, 0.1)
    with pytest.raises(ValueError, match="must support momentum or beta1 with `cycle_momentum`"):
        lr_scheduler.OneCycleLR(tower, max_lr=0.1, total_steps=20)
    assert not {"momentum", "betas"} & set(tower.param_groups[0])


def test_a_factor_of_0_takes_no_step_and_learns_nothing():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.1, optimizer=gdtuo.SGD(0.01)))
    start, before = parameters_of(model), tower.hyperparameters()
    tower.param_groups[0]["lr"] = 0.0
    train(model, tower, 3)
    assert same(parameters_of(model), start)
    assert tower.hyperparameters() == before
    tower.param_groups[0]["lr"] = 0.1
    train(model, tower, 3)
    assert not same(parameters_of(model), start)
    assert tower.hyperparameters() != before


@pytest.mark.parametrize("value", [math.nan, math.inf, torch.tensor(math.nan), torch.ones(2)])
def test_a_nominal_value_is_a_finite_number(value):
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.1, optimizer=gdtuo.SGD(0.01)))
    before = parameters_of(model)
    tower.param_groups[0]["lr"] = value
    with pytest.raises(gdtuo.GdtuoError, match="Give a finite number"):
        train(model, tower, 1)
    assert same(parameters_of(model), before)
    tower.param_groups[0]["lr"] = torch.tensor(0.05)  # one of one element will do
    train(model, tower, 1)
    assert not same(parameters_of(model), before)


def test_the_nominal_value_is_the_schedule_s_and_the_learned_one_is_read_apart():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.2, optimizer=gdtuo.SGD(0.01)))
    train(model, tower, 5)
    assert tower.param_groups[0]["lr"] == 0.2
    learned = tower.hyperparameters()[0]["lr"]
    assert learned != pytest.approx(0.2, rel=1e-6)
    tower.param_groups[0]["lr"] = 0.1
    assert tower.hyperparameters()[0]["lr"] == learned
    before = parameters_of(model)
    tower.zero_grad()
    loss_at(model, 5).backward()
    gradients = [p.grad.clone() for p in model.parameters()]
    tower.step()
    lr = tower.hyperparameters()[0]["lr"] * 0.5
    for p, w, g in zip(model.parameters(), before, gradients, strict=True):
        torch.testing.assert_close(p.detach(), w - lr * g, rtol=1e-14, atol=1e-14)


def test_a_schedule_on_a_step_size_that_started_at_0():
    model = make_model()
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.0, optimizer=gdtuo.SGD(0.01)))
    train(model, tower, 3)
    assert tower.hyperparameters()[0]["lr"] != 0
    before, values = parameters_of(model), tower.hyperparameters()
    tower.param_groups[0]["lr"] = 0.1
    with pytest.raises(gdtuo.GdtuoError, match=r"is 0.1.* started at 0.*Start with another lr"):
        train(model, tower, 1)
    assert same(parameters_of(model), before)
    assert tower.hyperparameters() == values


def test_each_group_has_its_own_factor():
    model, rule = make_model(), gdtuo.SGD(0.1)
    groups = [{"params": list(model[0].parameters())}, {"params": list(model[2].parameters())}]
    tower = gdtuo.Tower(groups, rule)
    scheduler = lr_scheduler.LambdaLR(tower, [lambda i: 1.0, lambda i: 0.0])
    last = parameters_of(model[2])
    first = parameters_of(model[0])
    train(model, tower, 2)
    scheduler.step()
    assert same(parameters_of(model[2]), last)
    assert not same(parameters_of(model[0]), first)
