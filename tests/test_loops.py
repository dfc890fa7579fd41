"""What a training loop may do to a model around its optimizer."""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.optim import swa_utils

import gdtuo
from tests.models_table import TOWERS, addresses, build, build_both
from tests.problem import loss_at, make_model, parameters_of, train

every_tower = pytest.mark.parametrize("rule", TOWERS.values(), ids=TOWERS)


@every_tower
def test_a_step_draws_no_random_number_and_leaves_grad_mode_as_it_was(rule):
    model = make_model()
    before = torch.get_rng_state()
    tower = gdtuo.Tower(model.parameters(), rule)
    for i in range(3):
        tower.zero_grad()
        loss_at(model, i).backward()
        with torch.set_grad_enabled(i != 1):
            tower.step()
            assert torch.is_grad_enabled() == (i != 1)
    assert torch.get_rng_state().equal(before)


@every_tower
def test_activation_checkpointing_changes_no_bit(rule):
    runs = []
    for again in (True, False):
        model, tower = build_both("Checkpointed", rule, again=again, dropout=0.2)
        torch.manual_seed(0)
        losses = train(model, tower, 10)
        runs.append((losses, tower.hyperparameters()))
    assert runs[0] == runs[1]


@pytest.fixture
def _compiling():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.usefixtures("_compiling")
@pytest.mark.parametrize("name", ["BatchNorm", "Transformer"])
@every_tower
def test_a_compiled_model_trains_as_the_model_itself(name, rule):
    """Its parameters are the model's own."""
    (eager, eager_tower), model = build_both(name, rule), build(name)
    before, compiled = addresses(model), torch.compile(model, backend="aot_eager")
    tower = gdtuo.Tower(compiled.parameters(), rule)
    assert train(compiled, tower, 8) == pytest.approx(train(eager, eager_tower, 8), rel=1e-10)
    assert addresses(model) == before
    for level, expected in zip(tower.hyperparameters(), eager_tower.hyperparameters(), strict=True):
        assert level == pytest.approx(expected, rel=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # the compiler looks at it
@pytest.mark.usefixtures("_compiling")
@every_tower
def test_a_step_within_a_compiled_function(rule):
    (model, tower), (eager, eager_tower) = build_both("Tied", rule), build_both("Tied", rule)

    @torch.compile(backend="aot_eager")
    def step():
        tower.step()
        return tower.param_groups[0]["lr"]

    losses = []
    for i in range(8):
        tower.zero_grad()
        loss = loss_at(model, i)
        loss.backward()
        step()
        losses.append(loss.item())
    assert losses == pytest.approx(train(eager, eager_tower, 8), rel=1e-10)


EMA = swa_utils.get_ema_multi_avg_fn(0.9)


@pytest.mark.parametrize("average", [None, EMA], ids=["SWA", "EMA"])
@every_tower
def test_an_averaged_model(rule, average):
    (model, tower), (alone, tower_alone) = build_both("Tied", rule), build_both("Tied", rule)
    averaged, by_hand = swa_utils.AveragedModel(model, multi_avg_fn=average), []
    losses = []
    for i in range(6):
        losses += train(model, tower, 1, start=i)
        averaged.update_parameters(model)
        w = torch.cat([p.flatten() for p in parameters_of(model)])
        if average is EMA and i > 0:
            w = 0.9 * by_hand[-1] + 0.1 * w
        by_hand.append(w)
    expected = by_hand[-1] if average is EMA else torch.stack(by_hand).mean(0)
    found = torch.cat([p.flatten() for p in parameters_of(averaged.module)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)
    assert losses == train(alone, tower_alone, 6)


@every_tower
def test_a_tied_weight_is_the_weight_that_is_used_twice(rule):
    """The same tensor given to both layers of a model that ties nothing."""
    tied, tower = build_both("Tied", rule)
    untied, given = build("Tied"), dict(build("Tied").named_parameters())
    untied.second.weight = nn.Parameter(torch.zeros(6, 6))
    other = gdtuo.Tower(given.values(), rule)

    def call(x):
        return functional_call(untied, given | {"second.weight": given["first.weight"]}, x)

    assert len(tower.state) == len(other.state) == 5
    assert train(tied, tower, 8) == train(call, other, 8)
    assert tower.hyperparameters() == other.hyperparameters()
    assert untied.second.weight.equal(torch.zeros(6, 6))


@every_tower
def test_gradients_of_torch_func(rule):
    (model, tower), (other, other_tower) = build_both("Lstm", rule), build_both("Lstm", rule)
    parameters = dict(other.named_parameters())

    def loss(values, step):
        return loss_at(lambda x: functional_call(other, values, x), step)

    for i in range(8):
        gradients = torch.func.grad(loss)({k: p.detach() for k, p in parameters.items()}, i)
        for key, p in parameters.items():
            p.grad = gradients[key]
        other_tower.step()
    train(model, tower, 8)
    for p, q in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-9, atol=1e-11)
    found, expected = (x.hyperparameters()[0] for x in (other_tower, tower))
    assert found == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("per", ["tower", "group", "tensor", "element"])
@every_tower
def test_a_parameter_without_elements_changes_no_bit(rule, per):
    runs = []
    for count in (0, 1):
        model = make_model()
        nothing = [nn.Parameter(torch.ones(0, 2, dtype=torch.float64)) for _ in range(count)]
        safeguards = gdtuo.Safeguards(clip=0.1, cap=0.05)
        tower = gdtuo.Tower([*model.parameters(), *nothing], rule, per=per, safeguards=safeguards)
        losses = []
        for i in range(6):
            tower.zero_grad()
            loss = loss_at(model, i) + sum(p.sum() for p in nothing)
            loss.backward()
            tower.step()
            losses.append(loss.item())
        runs.append(losses)
    assert runs[0] == runs[1]


def test_clip_grad_value_clips_the_hypergradient():
    model, tower = build_both("Scaled", gdtuo.SGD(0.05, optimizer=gdtuo.SGD(0.01)))
    kept = []
    for i in range(2):
        tower.zero_grad()
        loss_at(model, i).backward()
        assert max(p.grad.abs().max() for p in model.parameters() if p.numel()) > 0.02
        nn.utils.clip_grad_value_(model.parameters(), 0.02)
        kept.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
        tower.step()
    expected = 0.05 + 0.01 * (kept[0] @ kept[1]).item()
    assert tower.hyperparameters()[0]["lr"] == pytest.approx(expected, rel=1e-13)


def test_a_step_in_inference_mode_is_a_step():
    runs = []
    for mode in (torch.no_grad, torch.inference_mode):
        model, tower = build_both("Tied", TOWERS["SGD"])
        runs.append([])
        for i in range(4):
            tower.zero_grad()
            loss = loss_at(model, i)
            loss.backward()
            with mode():
                tower.step()
            runs[-1].append(loss.item())
    assert runs[0] == runs[1]


def test_a_lazy_model_is_refused_until_it_has_seen_a_batch():
    model = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.LazyLinear(3)).double()
    with pytest.raises(ValueError, match="Call `forward` with a dummy batch to initialize"):
        gdtuo.Tower(model.parameters(), TOWERS["Adam"])
    loss_at(model, 0)
    losses = train(model, gdtuo.Tower(model.parameters(), TOWERS["Adam"]), 12)
    assert sum(losses[-4:]) < sum(losses[:4])
