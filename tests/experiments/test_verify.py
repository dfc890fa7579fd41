import dataclasses
import json
import os
import sys

import pytest

from experiments import ExperimentError, data, store
from experiments.comparison import cut, difference, tolerated
from experiments.executors import processes
from experiments.provenance import environment
from experiments.studies import find
from experiments.sweep import sweep
from experiments.verify import SECONDS, _choose, beginning, verify

STUDY = find("table1")


def error(record, value):
    return dataclasses.replace(record, final=record.final | {"test_error": value})


@pytest.fixture
def seeds(run, make_record):
    errors = {0: 5.0, 1: 5.4, 2: 4.6}
    return [
        error(make_record(dataclasses.replace(run, seed=seed)), value)
        for seed, value in errors.items()
    ]


def elsewhere(record):
    return dataclasses.replace(record, provenance=record.provenance | {"processor": "q"})


def test_on_the_same_machine_everything_is_equal_to_the_bit(seeds):
    assert difference(seeds[0], seeds[0], seeds) is None
    assert (
        difference(error(seeds[0], 5.0 + 1e-12), seeds[0], seeds) == "not equal to the bit: final"
    )


def test_on_a_gpu_nothing_is_equal_to_the_bit(seeds):
    """It adds in whatever order."""
    ours, recorded = on_a_gpu(error(seeds[0], 5.1)), on_a_gpu(seeds[0])
    assert difference(ours, recorded, seeds) is None
    assert "but the seeds allow" in difference(error(ours, 9.9), recorded, seeds)


@pytest.mark.parametrize(("mixed", "allowed"), [(["processor"], True), (["commit"], False)])
def test_a_run_that_went_on_on_another_machine_is_not_equal_to_the_bit(seeds, mixed, allowed):
    recorded = dataclasses.replace(seeds[0], provenance=seeds[0].provenance | {"mixed": mixed})
    found = difference(error(seeds[0], 5.0 + 1e-12), recorded, seeds)
    assert (found is None) == allowed


def test_elsewhere_the_spread_of_the_seeds_allows_for_some(seeds):
    assert difference(elsewhere(error(seeds[0], 5.5)), seeds[0], seeds) is None
    wrong = elsewhere(error(seeds[0], 9.9))
    assert difference(wrong, seeds[0], seeds) == "test_error 9.9, but the seeds allow 5 ± 4.6"
    loss = seeds[0].final["train_loss"]
    other = elsewhere(
        dataclasses.replace(seeds[0], final=seeds[0].final | {"train_loss": 2 * loss})
    )
    assert difference(other, seeds[0], seeds).startswith(
        f"train_loss {2 * loss:.3g}, but the seeds"
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "diverged", "final": None}, "diverged"),
        ({"run": None}, "another run"),
        ({"provenance": "data"}, "the data are not"),
    ],
)
def test_elsewhere_what_must_agree_is_named(seeds, change, message):
    found = elsewhere(seeds[0])
    if "provenance" in change:
        change = {"provenance": found.provenance | {"data": "e"}}
    assert message in difference(dataclasses.replace(found, **change), seeds[0], seeds)


def test_a_sample_is_the_seeds_and_has_a_rerun(make_record):
    cells = STUDY.select("smoke")
    records = {cell.run.key: make_record(cell.run) for cell in cells}
    chosen = _choose(cells, records, sample=4, seed=0)
    assert chosen == _choose(cells, records, sample=4, seed=0)
    assert chosen != _choose(cells, records, sample=4, seed=1)
    assert len({cell.run for cell in chosen}) == 4
    assert chosen[0].run.parent
    assert any(cell.run.parent is None for cell in chosen)


def test_a_comparison_of_nothing_is_an_error(executor, tmp_path):
    with pytest.raises(ExperimentError, match="nothing was compared"):
        verify([STUDY], executor, results=tmp_path)
    with pytest.raises(ExperimentError, match="nothing was compared"):
        verify([STUDY], executor, tier="smoke", results=tmp_path)


@pytest.mark.parametrize(
    ("exact", "off", "agrees"),
    [(False, {0}, True), (False, {0, 1}, False), (True, {0}, False), (True, set(), True)],
)
def test_elsewhere_one_run_in_eight_may_differ(
    executor, tmp_path, capsys, monkeypatch, exact, off, agrees
):
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    cells = STUDY.select("smoke", "Adam", seeds=3)
    sweep([cell.run for cell in cells], STUDY.path("smoke", tmp_path), executor)
    monkeypatch.setattr("experiments.verify.same_bits", lambda found, recorded: exact)
    monkeypatch.setattr(
        "experiments.verify.difference", lambda found, *_: "off" if found.run.seed in off else None
    )
    assert verify([STUDY], executor, results=tmp_path) == agrees
    assert ("1 may differ" in capsys.readouterr().out) == (agrees and bool(off))
    assert [tolerated(count) for count in (1, 2, 3, 8, 9, 16)] == [0, 1, 1, 1, 2, 2]


def record_one(study, tier, make_record, results):
    with store.Writer(study.path(tier, results)) as writer:
        writer.append(make_record(study.select(tier)[0].run))


def test_a_tier_without_a_whole_seed_gives_way_to_a_shorter_one_that_has_some(
    executor, make_record, tmp_path, capsys, monkeypatch
):
    study = find("figure4a")
    for tier, seeds in (("smoke", 1), ("small", 1), ("paper", None)):
        runs = [cell.run for cell in study.select(tier, seeds=seeds)]
        with store.Writer(study.path(tier, tmp_path)) as writer:
            writer.append(*map(make_record, runs if seeds else runs[:3]))
    monkeypatch.setattr("experiments.verify._choose", lambda cells, *_: cells[:1])
    monkeypatch.setattr("experiments.verify.data.load", lambda name: None)
    monkeypatch.setattr("experiments.verify._check", lambda *_: (True, True))
    monkeypatch.setattr("experiments.verify._is_comparable", lambda *_: True)
    monkeypatch.setattr("experiments.verify.execute", lambda *_: None)
    assert verify([study], executor, results=tmp_path)
    assert "figure4a, tier small, on mnist" in capsys.readouterr().out
    assert verify([study], executor, results=tmp_path, tier="paper")
    assert "figure4a, tier paper, on mnist" in capsys.readouterr().out


def test_what_can_not_be_trained_here_is_left_out(
    executor, make_record, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    other, lacking = find("figure3"), find("figure4e")
    record_one(lacking, "smoke", make_record, tmp_path)
    with pytest.raises(ExperimentError, match="every tier with records was left out"):
        verify([lacking], executor, results=tmp_path)
    out = capsys.readouterr().out
    assert "figure4e, tier smoke, is left out: the task resnet152 needs torchvision" in out
    runs = [cell.run for cell in other.select("smoke", seeds=1)][:1]
    sweep(runs, other.path("smoke", tmp_path), executor)
    assert verify([lacking, other], executor, results=tmp_path)
    assert "1 run again of figure3, tier smoke, on sonnets" in capsys.readouterr().out


def on_a_gpu(record):
    return dataclasses.replace(record, provenance=record.provenance | {"device": "NVIDIA X"})


def test_what_was_trained_on_a_gpu_is_not_trained_again_on_a_processor(
    executor, make_record, tmp_path, capsys
):
    """It might take hours there. A lower tier that was trained on a processor is taken."""
    study = find("figure3")
    with store.Writer(study.path("paper", tmp_path)) as writer:
        writer.append(*(on_a_gpu(make_record(cell.run)) for cell in study.select("paper")[:2]))
    with pytest.raises(ExperimentError, match="every tier with records was left out"):
        verify([study], executor, results=tmp_path)
    assert capsys.readouterr().out == (
        "figure3, tier paper, is left out: it was trained on NVIDIA X; python -m experiments "
        "verify figure3 --device cuda trains that again\n"
    )
    runs = [cell.run for cell in study.select("smoke")][:1]
    sweep(runs, study.path("smoke", tmp_path), executor)
    assert verify([study], executor, results=tmp_path)
    assert "1 run again of figure3, tier smoke, on sonnets" in capsys.readouterr().out


def test_of_a_tier_that_was_trained_in_part_on_a_gpu_the_rest_is(executor, tmp_path, capsys):
    study = find("figure3")
    path = study.path("smoke", tmp_path)
    first, second = (cell.run for cell in study.select("smoke")[:2])
    records = sweep([first, second], path, executor)
    path.unlink()
    with store.Writer(path) as writer:
        writer.append(records[first.key], on_a_gpu(records[second.key]))
    assert verify([study], executor, results=tmp_path)
    out = capsys.readouterr().out
    assert "figure3, tier smoke, is left out where it was trained on NVIDIA X; " in out
    assert "Training 1 run again" in out


def test_without_a_compiler_a_tier_that_is_compiled_is_left_out(
    executor, make_record, tmp_path, capsys, without_compiler
):
    study = find("figure2a")
    record_one(study, "small", make_record, tmp_path)
    with pytest.raises(ExperimentError, match="every tier with records was left out"):
        verify([study], executor, results=tmp_path)
    out = capsys.readouterr().out
    assert (
        "figure2a, tier small, is left out: what is to be trained needs a compiler for cpu" in out
    )


def test_runs_of_data_that_are_lacking_are_left_out(
    executor, make_record, tmp_path, capsys, monkeypatch
):
    """Beside the data of the tier itself, which have to be there."""
    study = find("heldout")
    runs = {cell.run.data: cell.run for cell in study.select("smoke")}
    lacking, here = runs["sonnets"], runs["digits"]
    sweep([here], study.path("smoke", tmp_path), executor)
    with store.Writer(study.path("smoke", tmp_path)) as writer:
        writer.append(make_record(lacking))
    load = data.load

    def without(name, *args):
        if name == lacking.data:
            raise ExperimentError("it is not there")
        return load(name, *args)

    monkeypatch.setattr(data, "load", without)
    assert verify([study], executor, results=tmp_path)
    out = capsys.readouterr().out
    assert "is left out where it is of sonnets, for want of sonnets: it is not there" in out
    assert "Training 1 run again of heldout, tier smoke, on digits." in out


def test_a_data_set_that_is_not_to_be_had_is_asked_for_once(
    executor, make_record, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    for study in (STUDY, find("figure4b")):
        record_one(study, "paper", make_record, tmp_path)
        [run] = [cell.run for cell in study.select("smoke")][:1]
        sweep([run], study.path("smoke", tmp_path), executor)
    load, asked = data.load, []

    def offline(name, *args):
        asked.append(name)
        if name == "mnist":
            raise ExperimentError("no mirror gave it")
        return load(name, *args)

    monkeypatch.setattr(data, "load", offline)
    assert verify([STUDY, find("figure4b")], executor, results=tmp_path)
    assert asked.count("mnist") == 1
    out = capsys.readouterr().out
    assert "table1, tier paper, is left out, for want of mnist: no mirror gave it" in out
    assert "figure4b, tier paper, is left out, for want of mnist too" in out
    assert out.count("no mirror") == 1


def test_a_record_that_was_tampered_with_is_caught(executor, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    path = STUDY.path("smoke", tmp_path)
    cells = STUDY.select("smoke", "Adam / SGD*", seeds=1)
    sweep([cell.run for cell in cells], path, executor)
    check = {"sample": 2, "results": tmp_path}
    assert verify([STUDY], executor, **check)
    assert "All 2 agree" in capsys.readouterr().out
    first, second = map(json.loads, path.read_text().splitlines())
    first["final"]["test_error"] += 0.2
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert not verify([STUDY], executor, **check)
    out = capsys.readouterr().out
    assert "Adam / SGD(1e-05), seed 0: not equal to the bit: final" in out
    assert "1 of 2 agree" in out


def test_a_worker_that_dies_is_an_error_in_words(tmp_path, monkeypatch):
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    cells = STUDY.select("smoke", "SGD", seeds=1)
    with processes(1) as executor:
        sweep([cell.run for cell in cells], STUDY.path("smoke", tmp_path), executor)
        monkeypatch.setattr("experiments.verify.execute", _die)
        with pytest.raises(ExperimentError, match="a worker process died"):
            verify([STUDY], executor, results=tmp_path)


def _die(run, parent, device):
    os._exit(1)


@pytest.fixture
def one_record(executor, tmp_path, monkeypatch):
    """A file with one record, of a run of 5 epochs, and its fields."""
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    path = STUDY.path("smoke", tmp_path)
    [cell] = STUDY.select("smoke", "Adam / SGD(1e-05)", seeds=1)
    sweep([cell.run], path, executor)
    assert cell.run.epochs == 5
    return path, json.loads(path.read_text())


def test_a_study_whose_first_epoch_is_long_is_left_out(one_record, executor, tmp_path, capsys):
    path, record = one_record
    path.write_text(json.dumps(record | {"seconds": 5 * 61.0}) + "\n")
    with pytest.raises(ExperimentError, match="nothing was compared"):
        verify([STUDY], executor, results=tmp_path, longest=60.0)
    assert "the first epoch of a run takes 61 seconds; python -m" in capsys.readouterr().out
    assert verify([STUDY], executor, results=tmp_path, longest=62.0)


def test_of_a_long_run_the_beginning_is_compared(one_record, executor, tmp_path, capsys):
    path, record = one_record

    def agrees(**change):
        path.write_text(json.dumps(record | {"seconds": 2.5 * SECONDS} | change) + "\n")
        return verify([STUDY], executor, sample=1, results=tmp_path)

    assert agrees()
    assert "seed 0, 2 of 5 epochs: equal to the bit" in capsys.readouterr().out
    late, early = (json.loads(json.dumps(record["curves"])) for _ in range(2))
    late["test_error"][2] += 0.2
    assert agrees(curves=late)
    early["hyperparameters"][0]["lr"][1] += 1e-9
    assert not agrees(curves=early)
    assert "not equal to the bit: curves" in capsys.readouterr().out
    # One that lost its way later had not done so by then.
    assert agrees(status="diverged", final=None, message="in epoch 4")


def test_the_beginning_of_a_run_that_diverged_before_is_the_whole(make_record, run):
    record = make_record(run)
    short = dataclasses.replace(record, status="diverged", final=None)
    assert cut(short, len(record.curves["train_loss"])).status == "diverged"
    assert cut(dataclasses.replace(short, curves={}), 3).final is None
    assert beginning(dataclasses.replace(short, curves={}, seconds=1e6)) == run


def test_a_run_under_a_cosine_has_no_beginning_of_another_length(make_record, run):
    curves = {"train_loss": [1.0] * 4}
    for schedule, epochs in (((), 1), ("cosine", 4)):
        long = dataclasses.replace(run, epochs=4, schedule=schedule)
        assert beginning(make_record(long, curves=curves, seconds=60.0)).epochs == epochs


def test_a_member_of_an_ensemble_is_compared_as_on_another_machine(seeds):
    member = dataclasses.replace(seeds[0], provenance=seeds[0].provenance | {"ensemble": 16})
    assert difference(error(seeds[0], 5.5), member, seeds) is None
    assert "the seeds allow" in difference(error(seeds[0], 9.9), member, seeds)
    lost = dataclasses.replace(seeds[0], status="diverged", final=None)
    assert "recorded ok" in difference(lost, member, seeds)


def test_what_only_its_own_seed_could_be_compared_with_is_not_chosen(
    executor, tmp_path, capsys, monkeypatch
):
    study = find("robustness")
    cell = study.select("smoke", "mlp, Prodigy*")[0]
    sweep([cell.run], study.path("smoke", tmp_path), executor)
    assert verify([study], executor, results=tmp_path)
    assert "equal to the bit" in capsys.readouterr().out
    here = environment("cpu")
    monkeypatch.setattr("experiments.verify.environment", lambda _: here | {"processor": "another"})
    with pytest.raises(ExperimentError, match="every tier with records was left out"):
        verify([study], executor, results=tmp_path)
    assert "its runs have one seed each, and were made on another kind" in capsys.readouterr().out
