import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from experiments import ExperimentError, data, sweep, tasks
from experiments.batches import batches
from experiments.run import Run, rerun
from experiments.store import read
from experiments.tasks import Task


@pytest.fixture
def runs(run):
    """Three runs and a rerun of each."""
    firsts = [dataclasses.replace(run, seed=seed) for seed in range(3)]
    return [*firsts, *map(rerun, firsts)]


@pytest.fixture
def trained(monkeypatch, make_record):
    """What was trained, in order; records are made up, of the status under a seed in `statuses`."""

    class Trained(list):
        statuses: ClassVar[dict[int, str]] = {}
        batches: ClassVar[list[list[Run]]] = []

        def execute_all(self, runs, parents, *_):
            self.extend(runs)
            self.batches.append(runs)
            assert [parent and parent.key for parent in parents] == [run.parent for run in runs]
            found = [make_record(run, status=self.statuses.get(run.seed, "ok")) for run in runs]
            of = {"data": data.load("digits").fingerprint}
            return [dataclasses.replace(r, provenance=r.provenance | of) for r in found]

    trained = Trained()
    trained.batches.clear()
    monkeypatch.setattr(sweep, "execute_all", trained.execute_all)
    return trained


def train(runs, path, **options):
    with ThreadPoolExecutor(1) as executor:
        return sweep.sweep(runs, path, executor, **options)


def test_a_rerun_comes_after_its_parent_in_any_order(runs, path, trained):
    train(runs[::-1], path)
    assert sorted(map(repr, trained)) == sorted(map(repr, runs))
    assert all(trained.index(run) < trained.index(rerun(run)) for run in runs[:3])
    assert read(path).keys() == {run.key for run in runs}


def test_what_has_a_result_is_not_trained_again(runs, path, trained):
    train(runs[:3], path)
    train(runs, path)
    train(runs, path)
    assert len(trained) == len(runs)


def test_diverged_is_kept_and_failed_is_retried(runs, path, trained):
    trained.statuses = {1: "diverged", 2: "failed"}
    train(runs[:3], path)
    trained.statuses = {}
    train(runs[:3], path)
    assert [run.seed for run in trained] == [0, 1, 2, 2]
    assert [read(path)[run.key].status for run in runs[:3]] == ["ok", "diverged", "ok"]


def test_an_interrupt_keeps_what_is_done(runs, path, trained):
    def interrupt(record):
        if len(read(path)) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(runs[:3], path, report=interrupt)
    done = read(path).keys()
    trained.clear()
    train(runs, path)
    assert {run.key for run in trained} == {run.key for run in runs} - done
    assert len(read(path)) == len(runs)


def test_a_torn_line_is_mended_and_said(runs, path, trained, capsys):
    train(runs[:2], path)
    path.write_bytes(path.read_bytes()[:-10])
    train(runs[:2], path)
    assert "a torn last line" in capsys.readouterr().out
    assert len(read(path)) == 2


def test_data_that_are_not_to_be_had_stop_a_sweep_before_it_starts(run, path, trained):
    with pytest.raises(ExperimentError, match="no data set 'nowhere'"):
        train([dataclasses.replace(run, data="nowhere")], path)
    assert not trained
    assert read(path) == {}


def test_without_a_compiler_what_is_compiled_stops_a_sweep_before_it_starts(
    path, run, trained, without_compiler
):
    compiled = Run("convnet", "digits", "SGD", 0, 1, options={"compile": True})
    with pytest.raises(ExperimentError, match=r"a compiler for cpu.*\(none found\)\. Install one"):
        train([run, compiled], path)
    assert not trained
    train([run], path)
    assert len(trained) == 1


def test_batches_are_of_one_kind_and_about_equal(run):
    seeds = [dataclasses.replace(run, seed=seed) for seed in range(5)]
    assert list(map(len, batches(seeds, 16))) == [5]
    assert list(map(len, batches(seeds, 4))) == [2, 3]
    assert list(map(len, batches(seeds, 1))) == [1] * 5
    others = [
        dataclasses.replace(run, tower=tower)
        for tower in (
            "SGD(0.5) / SGD",  # values alone: with the first ones
            "SGD / SGD / SGD",
            "SGD(momentum=0.9) / SGD",
            "SGD(coordinates={lr: log}) / SGD",
            "Adam / SGD",
            "Adam^lr / SGD",
            "Adam(eps=1e-4) / SGD",
            "Muon / SGD",
        )
    ]
    longer = dataclasses.replace(run, epochs=2)
    found = batches([*seeds, *others, longer, rerun(run), rerun(others[1])], 16)
    assert found[0] == [*seeds, others[0]]
    # The reruns are of plain SGD both, whatever they learned.
    assert list(map(len, found)) == [6, 1, 1, 1, 1, 1, 1, 1, 1, 2]


def test_what_cannot_be_stacked_is_alone(run, monkeypatch):
    class Other(Task):
        version = 1
        metric = "m"

    monkeypatch.setitem(tasks.TASKS, "other", Other)
    runs = [dataclasses.replace(run, task="other", seed=seed) for seed in range(3)]
    assert list(map(len, batches(runs, 16))) == [1, 1, 1]


def test_reruns_wait_for_all_their_parents(runs, path, trained):
    train(runs[::-1], path, members=2)
    sizes = [(len(batch), batch[0].parent is None) for batch in trained.batches]
    assert sorted(sizes) == [(1, False), (1, True), (2, False), (2, True)]
    assert all(trained.index(run) < trained.index(rerun(run)) for run in runs[:3])


def test_an_interrupt_between_batches_keeps_whole_batches(runs, path, trained):
    def interrupt(record):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(runs[:3], path, members=2, report=interrupt)
    done = read(path)
    assert done.keys() == {run.key for run in trained.batches[0]}
    trained.clear()
    assert train(runs, path, members=2).keys() == {run.key for run in runs}
    assert {run.key for run in trained}.isdisjoint(done)
