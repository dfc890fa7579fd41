import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import ClassVar

import pytest

from experiments import ExperimentError, sweep
from experiments.run import rerun
from experiments.store import read


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

        def execute(self, run, parent, device, source):
            self.append(run)
            assert (parent.key if parent else None) == run.parent
            return make_record(run, status=self.statuses.get(run.seed, "ok"))

    trained = Trained()
    monkeypatch.setattr(sweep, "execute", trained.execute)
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
