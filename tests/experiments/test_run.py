import dataclasses
import math
import os

import pytest
import torch

import gdtuo
from experiments import ExperimentError
from experiments.execution import execute
from experiments.run import Run, rerun
from experiments.tasks.mlp import Mlp


def test_keys_are_for_good(run):
    assert run.key == "29ab1ed03880b63f"


def test_a_key_depends_on_every_field_and_on_no_spelling(run):
    changes = {"data": "mnist", "tower": "SGD", "seed": 1, "epochs": 2, "parent": "p"}
    keys = {dataclasses.replace(run, **{name: value}).key for name, value in changes.items()}
    assert len(keys | {run.key}) == 1 + len(changes)
    assert dataclasses.replace(run, tower="SGD(lr=0.01)/SGD(1e-2)").key == run.key


def test_a_version_of_the_task_has_its_own_keys(run, monkeypatch):
    before = run.key
    monkeypatch.setattr(Mlp, "version", Mlp.version + 1)
    assert dataclasses.replace(run).key != before  # what has been asked once is kept


def test_errors_come_at_once():
    with pytest.raises(gdtuo.GdtuoError):
        Run("mlp", "digits", "SGD // SGD", seed=0, epochs=1)
    with pytest.raises(ExperimentError, match="epochs is 0"):
        Run("mlp", "digits", "SGD", seed=0, epochs=0)
    with pytest.raises(ExperimentError, match="no task 'mpl'; known: mlp"):
        _ = Run("mpl", "digits", "SGD", seed=0, epochs=1).key


def test_seeds_are_paired(run):
    """Weights and batches are the seed's, whatever the optimizer and the global generator do."""
    tasks = []
    for disturbance in range(2):
        torch.manual_seed(disturbance)
        task = Mlp("digits", seed=3, device="cpu")
        start = [parameter.clone() for parameter in task.model.parameters()]
        task.begin()
        losses = [task.loss(step).item() for step in range(task.steps)]
        tasks.append((start, losses))
    assert all(map(torch.equal, tasks[0][0], tasks[1][0]))
    assert tasks[0][1] == tasks[1][1]
    other = Mlp("digits", seed=4, device="cpu")
    assert not torch.equal(next(other.model.parameters()), tasks[0][0][0])


def test_the_last_partial_batch_is_kept():
    task = Mlp("digits", 0, "cpu")
    assert task.steps == 6  # 1297 images by 256
    task.begin()
    assert [len(task.batch(step)) for step in range(6)] == [256] * 5 + [17]


def test_a_record_has_every_epoch_and_the_last_one_step_by_step(run):
    record = execute(dataclasses.replace(run, epochs=2), source={"commit": "c", "clean": True})
    assert record.status == "ok"
    assert record.message == ""
    assert len(record.curves["train_loss"]) == len(record.curves["test_error"]) == 2
    below, above = record.curves["hyperparameters"]
    assert below["lr"][-1] == record.final["hyperparameters"][0]["lr"] != pytest.approx(0.01)
    assert above["lr"] == pytest.approx([0.01, 0.01])
    assert len(record.lr_last_epoch) == 6
    assert record.steps == 12
    assert record.lr_last_epoch[-1] == pytest.approx(below["lr"][-1], rel=1e-5)
    assert record.provenance["commit"] == "c"
    assert record.provenance["threads"] == 1


def test_a_run_repeats_to_the_bit(run):
    first, second = execute(run), execute(run)
    assert (first.curves, first.lr_last_epoch) == (second.curves, second.lr_last_epoch)


def test_a_rerun_starts_from_what_was_learned(run):
    parent = execute(run)
    child = rerun(run)
    assert child.tower == "SGD"
    assert child.parent == parent.key
    record = execute(child, parent)
    learned = parent.final["hyperparameters"][0]["lr"]
    assert gdtuo.parse(record.started) == gdtuo.SGD(learned)
    assert record.curves["hyperparameters"] == [{"lr": [learned], "momentum": [0.0]}]
    assert record.lr_last_epoch == []


def test_a_run_that_diverges_is_a_result(run, monkeypatch):
    loss = Mlp.loss_of
    monkeypatch.setattr(Mlp, "loss_of", lambda self, indices: loss(self, indices) / 0)
    record = execute(dataclasses.replace(run, epochs=5))
    assert record.status == "diverged"
    assert "no longer finite in epoch 1" in record.message
    assert record.final is None
    assert len(record.curves["train_loss"]) == 1
    child = execute(rerun(run), dataclasses.replace(record, key=run.key))
    assert child.status == "diverged"
    assert "diverged, so it has learned no" in child.message


def test_learned_values_that_are_no_optimizers_are_a_result(make_record):
    run = Run("mlp", "digits", "Adam / SGD(1e-5)", seed=0, epochs=1)
    final = {"hyperparameters": [{"lr": 0.001, "beta1": 1.0, "beta2": 0.999}]}
    record = execute(rerun(run), make_record(run, final=final))
    assert record.status == "diverged"
    assert "are no optimizer's" in record.message


def test_an_error_is_a_record_to_be_retried(run, make_record, monkeypatch):
    assert "whose record is missing" in execute(rerun(run)).message
    failed = make_record(run, status="failed", final=None, message="disk")
    assert execute(rerun(run), failed).status == "failed"

    def broken(self):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Mlp, "evaluate", broken)
    record = execute(run)
    assert record.status == "failed"
    assert record.message == "RuntimeError: no memory"


@pytest.mark.skipif("GDTUO_DATA" not in os.environ, reason="needs MNIST: set GDTUO_DATA")
def test_an_epoch_of_mnist_teaches():
    record = execute(Run("mlp", "mnist", "Adam / SGD(1e-5)", seed=0, epochs=1))
    assert record.steps == 235
    assert record.final["test_error"] < 8


def test_options_at_their_defaults_are_no_options(run):
    """One behaviour has one key, and runs of before there were options keep theirs."""
    assert run.key == "29ab1ed03880b63f"
    assert dataclasses.replace(run, options={"batch": 256}).key == run.key
    other = dataclasses.replace(run, options={"shuffled": False, "batch": 300})
    assert other.options == (("batch", 300), ("shuffled", False))
    assert other.key != run.key != dataclasses.replace(run, schedule=(1,)).key


def test_an_option_that_the_task_lacks(run):
    with pytest.raises(ExperimentError, match="Mlp has no option 'bach'; it has batch, shuffled"):
        dataclasses.replace(run, options={"bach": 300})
    with pytest.raises(ExperimentError, match=r"option batch of Mlp is '300'; expected .* 256"):
        dataclasses.replace(run, options={"batch": "300"})


def test_batches_in_the_order_of_the_data_set(run):
    task = Mlp("digits", 0, "cpu", batch=300, shuffled=False)
    task.begin()
    assert task.steps == 5
    assert task.batch(4).tolist() == list(range(1200, 1297))


def test_a_schedule_divides_the_step_size_by_ten(run):
    plain = dataclasses.replace(run, tower="SGD", epochs=3)
    dropped = execute(dataclasses.replace(plain, schedule=(1,))).curves["train_loss"]
    full = execute(plain).curves["train_loss"]
    assert dropped[0] == full[0]
    assert dropped[1] - dropped[2] < 0.5 * (full[1] - full[2])


def test_a_cosine_takes_the_step_size_to_0(run):
    """Over the whole length, step by step; a tower's learned step size is multiplied by it."""
    plain = dataclasses.replace(run, tower="SGD(0.1)", epochs=2)
    record = execute(dataclasses.replace(plain, schedule="cosine"))
    task = Mlp("digits", 0, "cpu")
    optimizer = torch.optim.SGD(task.model.parameters())
    means = []
    for epoch in range(2):
        losses = []
        task.begin()
        for step in range(task.steps):
            optimizer.zero_grad()
            loss = task.loss(step)
            loss.backward()
            turn = (epoch * task.steps + step) / (2 * task.steps)
            optimizer.param_groups[0]["lr"] = 0.1 * (1 + math.cos(math.pi * turn)) / 2
            optimizer.step()
            losses.append(loss.item())
        means.append(sum(losses) / len(losses))
    assert record.curves["train_loss"] == pytest.approx(means, rel=1e-5)


def test_a_schedule_that_nobody_knows(run):
    with pytest.raises(ExperimentError, match="schedule is 'linear'; expected epochs or 'cosine'"):
        dataclasses.replace(run, schedule="linear")
    assert dataclasses.replace(run, schedule="cosine").key == "c7eef666b782397d"


def test_a_task_goes_on_from_its_state():
    task, other = (Mlp("digits", seed, "cpu") for seed in (0, 1))
    task.begin()
    other.restore(task.state())
    assert task.batch(1).tolist() == other.batch(1).tolist()
    for each in (task, other):
        each.begin()
    assert task.batch(0).tolist() == other.batch(0).tolist()


def test_a_step_size_for_each_hyperparameter_is_recorded_by_name(run):
    tower = "SGD(0.1, momentum=0.9) / SGD({lr: 0.01, momentum: 0.001})"
    record = execute(dataclasses.replace(run, tower=tower))
    assert record.status == "ok", record.message
    assert record.final["hyperparameters"][1] == {
        "lr.lr": pytest.approx(0.01),
        "lr.momentum": pytest.approx(0.001),
        "momentum": 0.0,
    }
