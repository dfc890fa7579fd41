"""What a run trains with: its text, and a contract that every rival keeps."""

import dataclasses
import math

import pytest
import torch
from torch import nn

import gdtuo
from experiments import ExperimentError, optimizers, store
from experiments.batches import batches
from experiments.execution import execute
from experiments.optimizers import RIVALS, first_guess, parse
from experiments.run import Run, rerun
from experiments.sweep import sweep

# A setting for each with which it learns within a few epochs.
HASTY = {"DoG": "DoG(reps_rel=0.01)", "SGDHD": "SGDHD(lr=0.1)"}


@pytest.fixture(params=RIVALS)
def name(request):
    try:
        optimizers.require(request.param)
    except ExperimentError as error:
        pytest.skip(str(error))
    return request.param


def trained(text, epochs=6, **fields):
    run = Run("mlp", "digits", text, 0, epochs, options={"output_tanh": False}, **fields)
    return run, execute(run)


def test_a_rival_learns_and_says_its_step_size(name):
    run, record = trained(HASTY.get(name, name))
    assert record.status == "ok", record.message
    assert record.started == run.tower
    assert min(record.curves["train_loss"]) < 0.9 * record.curves["train_loss"][0]
    steps = record.curves["hyperparameters"][0]["lr"]
    assert len(steps) == 6
    assert all(math.isfinite(step) and step > 0 for step in steps)
    assert record.lr_last_epoch == []


def test_a_rival_that_averages_says_so(name):
    optimizer = optimizers.make(parse(name), [nn.Parameter(torch.zeros(1))])
    assert hasattr(optimizer, "eval") == hasattr(optimizer, "train") == RIVALS[name].averages


def test_a_rival_goes_on_to_the_bit(name, step_by_step, results):
    """In the middle of an epoch and at its end, under a schedule."""
    run, whole = trained(HASTY.get(name, name), epochs=3, schedule="cosine")
    (parts,), pauses = step_by_step([run])
    assert pauses == 17
    assert results(parts) == results(whole)


def test_a_rival_is_in_a_store_as_it_was(name, path, executor):
    run, record = trained(name, epochs=1)
    sweep([run], path, executor)
    found = store.read(path)[run.key]
    assert found.run == run
    assert found.curves == record.curves


def test_far_too_large_a_first_guess_is_no_error(name):
    _, record = trained(first_guess(name, 1e30), epochs=2)
    assert record.status in ("ok", "diverged"), record.message


@pytest.mark.parametrize("name", RIVALS)
def test_a_text_goes_there_and_back(name):
    rival = RIVALS[name]
    assert rival.guess in rival.settings
    assert str(parse(name)) == str(parse(f" {name}( ) ")) == name
    recommended = ", ".join(f"{n}={v}" for n, v in reversed(rival.settings.items()))
    assert str(parse(f"{name}({recommended})")) == name
    text = first_guess(name, 0.25)
    assert text == f"{name}({rival.guess}=0.25)"
    assert str(parse(text)) == text
    assert first_guess(text, rival.settings[rival.guess]) == name


def test_settings_have_one_order_and_one_spelling():
    text = "Prodigy(weight_decay=1, safeguard_warmup=True, d0=1e-4, lr=1.0)"
    assert str(parse(text)) == "Prodigy(d0=0.0001, weight_decay=1.0, safeguard_warmup=True)"
    assert first_guess("ScheduleFreeAdamW(warmup_steps=50)", 1) == (
        "ScheduleFreeAdamW(lr=1.0, warmup_steps=50)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Prodigi", "neither a tower nor a rival. The rivals are Prodigy, DAdaptAdam, "),
        ("Prodigy(d1=1.0)", "Prodigy has no setting 'd1'; it has lr, d0, d_coef"),
        ("Prodigy(d0='x')", "d0 of Prodigy is 'x'; expected something like 1e-06"),
        ("Prodigy(d0=True)", "d0 of Prodigy is True; expected"),
        ("Prodigy(d0=0)", "d0 of Prodigy is 0; expected"),
        ("Prodigy(lr=-1.0)", "lr of Prodigy is -1.0; expected"),
        ("Prodigy(lr=1e999)", "lr of Prodigy is inf; expected"),
        ("ScheduleFreeAdamW(warmup_steps=0.5)", "is 0.5; expected something like 0"),
        ("Prodigy(1e-4)", r"'Prodigy\(1e-4\)' is no rival; expected a text such as"),
        ("Prodigy(d0=f(1))", "is no rival; expected"),
        ("Prodigy / SGD", "is no rival; expected"),
        ("Prodigy(d0=1, d0=2)", "is no rival; expected"),
    ],
)
def test_a_text_that_is_wrong_says_how(text, message):
    with pytest.raises(ExperimentError, match=message):
        Run("mlp", "digits", text, 0, 1)


def test_towers_are_what_they_were():
    assert parse("Adam / SGD(1e-5)") == gdtuo.parse("Adam / SGD(1e-5)")
    assert first_guess("Adam / SGD(1e-5)", 0.1) == "Adam(0.1) / SGD(1e-05)"
    with pytest.raises(gdtuo.GdtuoError, match="Not a tower"):
        parse("SGD // SGD")


def test_a_rival_is_trained_alone_and_starts_from_nobody():
    rivals = [Run("mlp", "digits", "AdamHD", seed, 1) for seed in range(2)]
    towers = [dataclasses.replace(run, tower="Adam^lr / SGD(1e-7)") for run in rivals]
    assert batches([*rivals, *towers]) == [rivals[:1], rivals[1:], towers]
    with pytest.raises(ExperimentError, match="AdamHD is no tower"):
        dataclasses.replace(rivals[0], parent=towers[0].key)
    with pytest.raises(gdtuo.GdtuoError, match="'AdamHD' is no rule"):
        rerun(rivals[0])


def test_a_rival_whose_package_is_not_there_names_the_extra(monkeypatch, path):
    """At once: nothing is trained."""
    missing = dataclasses.replace(RIVALS["Prodigy"], module="no_such_module")
    monkeypatch.setitem(RIVALS, "Prodigy", missing)
    with pytest.raises(ExperimentError, match=r"needs no_such_module.*'\.\[peers\]' in the clone"):
        sweep([Run("mlp", "digits", "Prodigy", 0, 1)], path, executor=None)


def test_hypergradient_descent_is_a_tower():
    for rival, tower in (
        ("AdamHD", "Adam^lr / SGD(1e-7)"),
        ("SGDHD", "SGD^lr(0.001) / SGD(0.001)"),
    ):
        assert trained(rival)[1].curves == trained(tower)[1].curves


def test_the_average_of_dog_is_its_authors():
    dog = pytest.importorskip("dog", reason="needs the extra [peers]")
    torch.manual_seed(0)
    model, inputs = nn.Linear(3, 2), torch.randn(8, 3)
    optimizer = optimizers.make(parse("DoG(reps_rel=0.1)"), model.parameters())
    averager = dog.PolynomialDecayAverager(model)
    for _ in range(5):
        optimizer.zero_grad()
        model(inputs).square().mean().backward()
        optimizer.step()
        averager.step()
    weights = model.weight.clone()
    with optimizers.evaluating(parse("DoG"), optimizer):
        torch.testing.assert_close(model.weight, averager.averaged_model.weight)
        assert not model.weight.equal(weights)
    assert model.weight.equal(weights)


def test_the_average_is_what_is_evaluated():
    pytest.importorskip("pytorch_optimizer", reason="needs the extra [peers]")
    optimizer = optimizers.make(
        parse("ScheduleFreeAdamW(lr=0.1)"), [p := nn.Parameter(torch.ones(1))]
    )
    for _ in range(3):
        p.grad = torch.ones(1)
        optimizer.step()
    before, z = p.item(), optimizer.state[p]["z"].item()
    with optimizers.evaluating(parse("ScheduleFreeAdamW"), optimizer):
        average = p.item()
    assert p.item() == pytest.approx(before)
    assert before == pytest.approx(0.1 * z + 0.9 * average)


@pytest.mark.parametrize("name", ["Prodigy", "DAdaptAdam"])
def test_a_step_size_is_the_distance_times_lr(name):
    pytest.importorskip("pytorch_optimizer", reason="needs the extra [peers]")
    rule = parse(first_guess(name, 1e-3))
    optimizer = optimizers.make(rule, [nn.Parameter(torch.ones(1))])
    optimizer.param_groups[0]["lr"] = 0.5
    assert optimizers.step_size(rule, optimizer) == pytest.approx(5e-4)


def test_a_warm_up_shows_in_the_step_size():
    pytest.importorskip("pytorch_optimizer", reason="needs the extra [peers]")
    rule = parse("ScheduleFreeAdamW(lr=0.1, warmup_steps=4)")
    optimizer = optimizers.make(rule, [p := nn.Parameter(torch.ones(1))])
    sizes = []
    for _ in range(5):
        p.grad = torch.ones(1)
        optimizer.step()
        sizes.append(optimizers.step_size(rule, optimizer))
    assert sizes == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])


def test_another_version_of_an_optimizer_is_another_run(monkeypatch):
    run = Run("mlp", "digits", "default(lr=0.5)", 0, 1)
    first = run.key
    newer = dataclasses.replace(RIVALS["default"], version=RIVALS["default"].version + 1)
    monkeypatch.setitem(RIVALS, "default", newer)
    assert dataclasses.replace(run).key != first  # what has been asked once is kept


def test_the_version_of_the_default_is_raised_when_it_changes():
    """What it is made of is no part of its runs' text, but for the version in their keys: when this
    fails, raise the version, train what is on record anew, and write down here what it is now."""
    tower = optimizers.make(parse("default"), [nn.Parameter(torch.ones(2))])
    what = [
        "ScheduleFreeAdam^lr(0.001, coordinates={lr: log}, trace=0.95) / Seek",
        gdtuo.ScheduleFreeAdam(0.003, beta1=0.9, beta2=0.999, power=4.0, eps=1e-8),
        gdtuo.Seek(0.02, beta1=0.9, beta2=0.99, push=0.4, max_push=0.9, boost=25.0, eps=1e-18),
        gdtuo.Safeguards(start=(0.003, 0.01), stride=0.02),
    ]
    now = [str(tower.rule), gdtuo.ScheduleFreeAdam(), gdtuo.Seek(), tower.safeguards]
    assert (now, RIVALS["default"].version) == (what, 3)
