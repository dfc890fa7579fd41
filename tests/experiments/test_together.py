"""Runs that are trained as one ensemble leave the records that they would leave alone."""

import dataclasses
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments import execution
from experiments.execution import execute, execute_all
from experiments.run import Run, rerun
from experiments.store import read
from experiments.sweep import sweep
from experiments.tasks.mlp import Mlp
from experiments.train import Together, Training, last

# A handful of epochs: float32 rounding has not grown further by then.
CLOSE = {"rel": 1e-4, "abs": 1e-6}


def with_rule(tower, seed, epochs=3):
    return Run("mlp", "digits", tower, seed=seed, epochs=epochs)


def flat(record):
    """All figures of a record's curves but the metric, which is a count."""
    levels = [values for level in record.curves["hyperparameters"] for values in level.values()]
    return [x for values in (record.curves["train_loss"], *levels) for x in values]


def assert_alike(member, alone):
    assert (member.run, member.status, member.message) == (alone.run, alone.status, alone.message)
    assert (member.started, member.steps) == (alone.started, alone.steps)
    assert flat(member) == pytest.approx(flat(alone), **CLOSE)
    one_image = 100 / 500
    assert member.curves["test_error"] == pytest.approx(
        alone.curves["test_error"], abs=1.01 * one_image
    )
    assert member.lr_last_epoch == pytest.approx(alone.lr_last_epoch, **CLOSE)
    assert (member.final is None) == (alone.final is None)
    assert member.provenance["data"] == alone.provenance["data"]


@pytest.mark.parametrize(
    "towers",
    [
        ("SGD(0.1)", "SGD"),
        ("SGD(0.1) / SGD(0.1)", "SGD / SGD(0.001)", "SGD(1e-8) / SGD / SGD(0.1)"),
        ("Adam / SGD(1e-5)", "Adam(1e-4) / SGD(1e-4)"),
    ],
)
def test_a_member_is_as_it_would_be_alone(towers, tmp_path):
    """Of several structures: those that can't share an ensemble do not."""
    runs = [with_rule(tower, seed) for seed in range(2) for tower in towers]
    with ThreadPoolExecutor(1) as executor:
        records = sweep(runs, tmp_path / "records.jsonl", executor, members=16)
    for run in runs:
        record = records[run.key]
        assert_alike(record, execute(run))
        assert record.provenance["ensemble"] == (2 if run.tower.count("/") == 2 else 4)
        assert record.final == last(record.curves)
    assert "ensemble" not in execute(runs[0]).provenance


def test_reruns_start_from_what_each_learned(tmp_path):
    firsts = [with_rule(tower, 0) for tower in ("SGD / SGD", "SGD(0.1) / SGD(0.001)")]
    runs = [*firsts, *map(rerun, firsts)]
    with ThreadPoolExecutor(1) as executor:
        records = sweep(runs, tmp_path / "records.jsonl", executor, members=16)
    for run in firsts:
        record = records[rerun(run).key]
        assert record.provenance["ensemble"] == 2
        assert_alike(record, execute(rerun(run), records[run.key]))


def test_a_member_that_diverges_ends_where_it_would_alone_and_the_others_go_on():
    # 1e39 is infinite in float32; what is smaller the squashed outputs bear.
    towers = ("SGD(0.1) / SGD(0.01)", "SGD(1e39) / SGD(0.01)", "SGD(0.1) / SGD(0.1)")
    runs = [with_rule(tower, seed) for seed, tower in enumerate(towers)]
    records = execute_all(runs, [None] * 3)
    assert [record.status for record in records] == ["ok", "diverged", "ok"]
    assert "no longer finite in epoch 1" in records[1].message
    assert len(records[1].curves["train_loss"]) == 1
    assert records[1].final is None
    for i in (0, 2):
        assert_alike(records[i], execute(runs[i]))
    alone = execute(runs[1])
    assert (records[1].message, records[1].steps) == (alone.message, alone.steps)


def test_when_all_have_diverged_there_is_nothing_to_go_on_with(monkeypatch):
    steps = []
    inputs = Together.inputs
    monkeypatch.setattr(
        Together, "inputs", lambda self, step: steps.append(step) or inputs(self, step)
    )
    runs = [with_rule("SGD(1e39) / SGD(0.01)", seed) for seed in range(2)]
    assert [r.status for r in execute_all(runs, [None] * 2)] == ["diverged"] * 2
    assert steps.count(0) == 1


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_step_size_that_is_lost_in_the_middle_of_an_epoch_is_recorded_up_to_there(
    epoch, monkeypatch
):
    """In the last epoch every step is looked at; before, every 64th and the epoch's end."""

    at = 6 * (epoch - 1) + 2  # an epoch has six steps

    def poisoned(self, indices):
        self.count = getattr(self, "count", -1) + 1
        # Member 1 alone is hit: its own random stream is what it is known by.
        bad = self.count == at and self.order.random.initial_seed() == 1
        return loss(self, indices) * (float("nan") if bad else 1)

    def poisoned_together(self, indices):
        self.count = getattr(self, "count", -1) + 1
        found = together(self, indices)
        return found * found.new_tensor([1.0, float("nan")]) if self.count == at else found

    loss, together = Mlp.loss_of, Together.losses
    monkeypatch.setattr(Mlp, "loss_of", poisoned)
    monkeypatch.setattr(Together, "losses", poisoned_together)
    runs = [with_rule("SGD(0.1) / SGD(0.01)", seed) for seed in range(2)]
    records = execute_all(runs, [None] * 2)
    alone = execute(runs[1])
    assert alone.status == "diverged"
    assert alone.steps == {1: 6, 3: 15}[epoch]
    assert records[1].message == alone.message
    assert len(records[1].lr_last_epoch) == len(alone.lr_last_epoch) == {1: 0, 3: 2}[epoch]
    assert_alike(records[0], execute(runs[0]))


def test_a_batch_that_raises_is_trained_one_by_one(monkeypatch):
    def broken(self, tasks, rules):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Together, "__init__", broken)
    evaluate = Mlp.evaluate

    def sometimes(self):
        if self.order.random.initial_seed() == 1:
            raise RuntimeError("its own fault")
        return evaluate(self)

    monkeypatch.setattr(Mlp, "evaluate", sometimes)
    runs = [with_rule("SGD / SGD", seed, epochs=1) for seed in range(3)]
    records = execute_all(runs, [None] * 3)
    assert [record.status for record in records] == ["ok", "failed", "ok"]
    assert records[1].message == "RuntimeError: its own fault"
    assert not any("ensemble" in record.provenance for record in records)


def test_an_ensemble_that_raises_is_gone_before_its_runs_are_trained_alone(monkeypatch):
    """It may have raised for want of memory."""
    made = []
    run = Training.run

    def broken(self, until):
        if len(self.outcomes) > 1:
            made.append(weakref.ref(self))
            raise MemoryError
        gc.collect()
        assert made[0]() is None
        return run(self, until)

    monkeypatch.setattr(Training, "run", broken)
    runs = [with_rule("SGD / SGD", seed, epochs=1) for seed in range(2)]
    assert [record.status for record in execute_all(runs, [None] * 2)] == ["ok", "ok"]
    assert made


def test_a_rerun_without_values_to_start_from_leaves_the_others_an_ensemble(make_record):
    firsts = [with_rule("SGD / SGD", seed, epochs=1) for seed in range(3)]
    parents = [make_record(run) for run in firsts]
    parents[1] = dataclasses.replace(parents[1], status="diverged", final=None)
    records = execute_all(list(map(rerun, firsts)), parents)
    assert [record.status for record in records] == ["ok", "diverged", "ok"]
    assert [record.provenance.get("ensemble") for record in records] == [2, None, 2]
    assert records[1].curves == {}


def test_a_sweep_goes_on_from_the_middle(tmp_path):
    """What was done stays; the rest is trained in batches of its own."""
    path = tmp_path / "records.jsonl"
    runs = [with_rule("SGD(0.1) / SGD(0.01)", seed, epochs=1) for seed in range(5)]

    def interrupt(record):
        raise KeyboardInterrupt

    with ThreadPoolExecutor(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            sweep(runs, path, executor, members=2, report=interrupt)
        done = read(path)
        assert 0 < len(done) < 5
        records = sweep(runs, path, executor, members=16)
    assert {key: records[key] for key in done} == done
    assert sorted(r.provenance.get("ensemble", 1) for r in records.values()).count(5 - len(done))
    for run in runs:
        assert_alike(records[run.key], execute(run))


def test_seconds_are_a_share(monkeypatch):
    runs = [with_rule("SGD", seed, epochs=1) for seed in range(4)]
    clock = iter([100.0, 108.0])
    monkeypatch.setattr(execution.time, "perf_counter", lambda: next(clock))
    assert [record.seconds for record in execute_all(runs, [None] * 4)] == [2.0] * 4
