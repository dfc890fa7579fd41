"""Muon, which takes matrices only: the contract that the table's rules meet, on a model of them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

import gdtuo
from gdtuo import Muon
from tests import references
from tests.differences import check
from tests.problem import loss_at, make_model, parameters_of, same, train
from tests.rules_table import homogeneous, stacked
from tests.test_schedules import FOR_EVERY_RULE, Scheduled
from tests.test_state import other_values, resumed

PRONOUNCED = Muon(0.02, momentum=0.6, weight_decay=0.1)
ALIKE = [
    Muon(0.02),
    Muon(0.02, weight_decay=0.0),
    Muon(0.05, momentum=0.8, weight_decay=0.3, nesterov=False, ns_steps=3, eps=0.3),
]
ABOVE = gdtuo.SGD(1e-3, momentum=0.5, optimizer=gdtuo.SGD(1e-4))


def matrices(dtype=torch.float64) -> nn.Sequential:
    """Wide and tall: 4 x 6, 9 x 4 and 3 x 9."""
    torch.manual_seed(0)
    layers = [nn.Linear(i, o, bias=False) for i, o in ((6, 4), (4, 9), (9, 3))]
    return nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2]).to(dtype)


def close(a: nn.Module, b: nn.Module) -> None:
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [None, *FOR_EVERY_RULE])
@pytest.mark.parametrize("rule", ALIKE, ids=str)
def test_where_nothing_is_learned_it_is_the_reference(rule, name):
    take, take_theirs = (train if name is None else Scheduled(name) for _ in range(2))
    ours, theirs = matrices(), matrices()
    losses = take(ours, gdtuo.Tower(ours.parameters(), rule), 20)
    expected = take_theirs(theirs, references.Muon(theirs.parameters(), rule), 20)
    assert losses == pytest.approx(expected, rel=1e-12)
    assert losses[16] < losses[0]
    close(ours, theirs)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch hasn't got it")
@pytest.mark.parametrize("rule", ALIKE, ids=str)
def test_it_is_torch_s_but_for_bfloat16(rule, monkeypatch):
    def run(optimizer_of):
        model = matrices()
        return train(model, optimizer_of(model.parameters()), 20)

    names = ("lr", "momentum", "weight_decay", "nesterov", "eps")
    options = {name: getattr(rule, name) for name in names} | {"ns_steps": int(rule.ns_steps)}
    ours = run(lambda params: gdtuo.Tower(params, rule))
    rounded = run(lambda params: torch.optim.Muon(params, **options))
    monkeypatch.setattr(Tensor, "bfloat16", Tensor.clone)
    assert ours == pytest.approx(run(lambda params: torch.optim.Muon(params, **options)), rel=1e-12)
    assert ours == pytest.approx(rounded, rel=1e-2)
    assert ours != pytest.approx(rounded, rel=1e-6)


def test_matrices_that_come_late_and_now_and_then():
    models = [matrices(), matrices()]
    rule = ALIKE[0]
    optimizers = [
        gdtuo.Tower(models[0].parameters(), rule),
        references.Muon(models[1].parameters(), rule),
    ]
    for model, optimizer in zip(models, optimizers, strict=True):
        for i in range(12):
            model[0].requires_grad_(i >= 3)
            model[2].requires_grad_(i not in (5, 6))
            train(model, optimizer, 1, start=i)
    close(*models)


@pytest.mark.parametrize("rule", [PRONOUNCED, ALIKE[2]], ids=str)
@pytest.mark.parametrize("height", [1, 2, 3])
@pytest.mark.parametrize("learn", [None, ("lr", "momentum", "weight_decay")])
def test_hypergradients(rule, height, learn):
    model = matrices()
    above = homogeneous(gdtuo.SGD(1e-3, momentum=0.4), height - 1)
    derivatives = check(model, gdtuo.Tower(model.parameters(), stacked(rule, above, learn)))
    assert len(derivatives[0]) == (2 if learn is None else 3)


@pytest.mark.parametrize("name", FOR_EVERY_RULE[:3])
def test_hypergradients_under_a_schedule(name):
    model = matrices()
    tower = gdtuo.Tower(model.parameters(), stacked(PRONOUNCED, ABOVE, PRONOUNCED.learnable))
    check(model, tower, take=Scheduled(name))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("height", range(4))
def test_resume_to_the_bit(height, dtype):
    rule = stacked(PRONOUNCED, homogeneous(gdtuo.SGD(1e-4), height - 1) if height else None)
    resumed(rule, make=matrices, dtype=dtype, restart=other_values(rule))


@pytest.mark.parametrize("per", ["tower", "group", "tensor", "element"])
def test_a_copy_goes_on_to_the_bit(per):
    model = matrices()
    tower = gdtuo.Tower(model.parameters(), stacked(PRONOUNCED, ABOVE), per=per)
    train(model, tower, 4)
    other, other_tower = copy.deepcopy((model, tower))
    assert train(model, tower, 4) == train(other, other_tower, 4)
    assert same(parameters_of(model), parameters_of(other))


def test_an_upper_level_of_step_size_0_changes_no_bit():
    alone, learning = matrices(), matrices()
    losses = train(alone, gdtuo.Tower(alone.parameters(), PRONOUNCED), 10)
    rule = stacked(PRONOUNCED, gdtuo.SGD(0.0, optimizer=gdtuo.SGD(0.0)), PRONOUNCED.learnable)
    tower = gdtuo.Tower(learning.parameters(), rule)
    assert train(learning, tower, 10) == losses
    moving = matrices()
    rule = stacked(PRONOUNCED, ABOVE, PRONOUNCED.learnable)
    assert train(moving, gdtuo.Tower(moving.parameters(), rule), 10) != losses


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_and_shape_are_kept(dtype):
    params = [nn.Parameter(torch.randn(s).to(dtype)) for s in ((3, 4), (5, 2), (1, 1), (0, 4))]
    params.append(nn.Parameter(torch.randn(4, 3).to(dtype).t()))
    tower = gdtuo.Tower([*params, nn.Parameter(torch.randn(4, 0))], stacked(PRONOUNCED, ABOVE))
    for _ in range(4):
        tower.zero_grad()
        (0.1 * sum(p.double().square().sum() for p in tower.param_groups[0]["params"])).backward()
        tower.step()
    for p in params:
        assert p.dtype == dtype
        assert p.isfinite().all()
        state = tower.state[p]
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        assert state["momentum_buffer"].dtype == wide
        assert state["momentum_buffer"].shape == state["previous_parameter"].shape == p.shape
        assert state["previous_gradient"].dtype == state["previous_parameter"].dtype == dtype
    assert params[-1].stride() == (1, 3)


def test_half_precision_learns_what_float32_learns():
    """The same gradients, rounded once, and no decay, which would be of rounded parameters."""
    start = torch.randn(6, 4).bfloat16()
    low, high = nn.Parameter(start.clone()), nn.Parameter(start.float())
    rule = stacked(Muon(0.02, weight_decay=0.0), ABOVE)
    towers = [gdtuo.Tower([p], rule) for p in (low, high)]
    for _ in range(5):
        g = torch.randn(6, 4).bfloat16()
        low.grad, high.grad = g, g.float()
        for tower in towers:
            tower.step()
    assert towers[0].hyperparameters() == towers[1].hyperparameters()
    assert towers[0].hyperparameters()[0]["lr"] != 0.02


@pytest.mark.parametrize("eps", [1e-7, 0.0])
def test_a_matrix_that_is_never_used_makes_no_nan(eps):
    used, unused = (nn.Parameter(torch.ones(2, 3)) for _ in range(2))
    rule = stacked(Muon(0.02, weight_decay=0.0, eps=eps), gdtuo.SGD(1e-6))
    tower = gdtuo.Tower([used, unused], rule)
    for _ in range(5):
        tower.zero_grad()
        (used.square().sum() + 0 * unused.sum()).backward()
        tower.step()
    assert unused.equal(torch.ones(2, 3))
    assert used.isfinite().all()
    assert all(abs(value) < 10 for value in tower.hyperparameters()[0].values())


@pytest.mark.parametrize("height", range(3))
def test_a_step_asks_the_device_for_nothing(height):
    with FakeTensorMode():
        model = nn.Sequential(nn.Linear(6, 8, bias=False), nn.Linear(8, 3, bias=False))
        above = homogeneous(gdtuo.Adam(), height - 1) if height else None
        tower = gdtuo.Tower(model.parameters(), stacked(PRONOUNCED, above))
        for _ in range(4):
            tower.zero_grad()
            model(torch.ones(4, 6)).sum().backward()
            tower.step()
        assert tower.state[model[0].weight]["step"] == 4


def by_shape(model):
    """Matrices, and the rest."""
    return [[p for p in model.parameters() if (p.dim() == 2) == wanted] for wanted in (True, False)]


def test_beside_a_group_with_a_rule_of_its_own():
    ours, theirs = make_model(), make_model()
    first, rest = by_shape(ours)
    tower = gdtuo.Tower([{"params": first}, {"params": rest, "rule": gdtuo.AdamW(0.01)}], Muon())
    train(ours, tower, 10)
    first, rest = by_shape(theirs)
    optimizers = [references.Muon(first, Muon()), torch.optim.AdamW(rest, lr=0.01)]
    for i in range(10):
        theirs.zero_grad()
        loss_at(theirs, i).backward()
        for optimizer in optimizers:
            optimizer.step()
    close(ours, theirs)


def test_both_groups_learn():
    model = make_model()
    first, rest = by_shape(model)
    own = gdtuo.AdamW(0.01, optimizer=ABOVE)
    groups = [{"params": first}, {"params": rest, "rule": own}]
    tower = gdtuo.Tower(groups, stacked(Muon(0.02), ABOVE))
    before = [tower.hyperparameters(i)[0] for i in range(2)]
    losses = train(model, tower, 20)
    assert losses[16] < losses[0]
    after = [tower.hyperparameters(i)[0] for i in range(2)]
    learned = [{k for k in old if old[k] != new[k]} for old, new in zip(before, after, strict=True)]
    assert learned == [{"lr", "momentum"}, {"lr", "beta1", "beta2"}]


@pytest.mark.parametrize(
    "text",
    [
        "Muon",
        "Muon(0.02, momentum=0.9, weight_decay=0.0, nesterov=False, ns_steps=3.0, eps=1e-06)",
        "Muon^{lr,weight_decay}(coordinates={lr: log}) / SGD({lr: 0.1, weight_decay: 0.01})",
    ],
)
def test_text(text):
    rule = gdtuo.parse(text)
    assert str(rule) == text
    assert eval(repr(rule), vars(gdtuo).copy()) == rule


@pytest.mark.parametrize(
    ("attempt", "message"),
    [
        (
            lambda: gdtuo.Tower(make_model().parameters(), Muon()),
            r"Muon: a parameter of shape \(8,\) is no matrix\. Give .* group .*gdtuo\.AdamW",
        ),
        (lambda: gdtuo.Tower([nn.Parameter(torch.ones(2, 3, 4))], Muon()), r"\(2, 3, 4\) is no"),
        (lambda: gdtuo.Tower([nn.Parameter(torch.ones(()))], Muon()), r"shape \(\) is no matrix"),
        (lambda: gdtuo.SGD(optimizer=Muon()), r"Muon can't be an upper level.*not elementwise"),
        (lambda: Muon(ns_steps=0), r"ns_steps=0\.0 is outside .* Give a whole number, 1 or more"),
        (lambda: Muon(ns_steps=2.5), r"ns_steps=2\.5 is outside .* Give a whole number, 1 or more"),
        (lambda: Muon(ns_steps=float("inf")), r"ns_steps=inf is outside its domain"),
        (lambda: Muon(nesterov=1), r"nesterov=1 is no switch\. Give True or False"),
        (lambda: Muon(weight_decay=-0.1), r"weight_decay=-0\.1 .* Give a finite number, 0 or more"),
        (lambda: Muon(momentum=1.0), r"momentum=1\.0 is outside its domain"),
        (lambda: Muon(0.1, 0.9, 0.1), r"Muon: .*positional"),
    ],
)
def test_refused(attempt, message):
    with pytest.raises(gdtuo.GdtuoError, match=message):
        attempt()


def test_a_refused_group_leaves_nothing_behind():
    weight, bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))
    tower = gdtuo.Tower([weight], Muon())
    with pytest.raises(gdtuo.GdtuoError, match="is no matrix"):
        tower.add_param_group({"params": [bias]})
    assert len(tower.param_groups) == 1
    assert set(tower.state) == {weight}
    tower.add_param_group({"params": [bias], "rule": gdtuo.AdamW()})
    weight.grad, bias.grad = torch.ones(2, 2), torch.ones(2)
    tower.step()
    assert not bias.equal(torch.ones(2))
