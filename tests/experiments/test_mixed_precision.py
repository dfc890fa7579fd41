"""Not every processor computes every layer in bfloat16: what is done where one can't."""

import dataclasses
import threading

import pytest
import torch
from torch import nn

from experiments import ExperimentError, executors, store
from experiments import sweep as sweeps
from experiments.run import Run
from experiments.studies import find
from experiments.study import Cell, Study, Tier
from experiments.sweep import sweep
from experiments.verify import verify

MIXED = {"autocast": "bfloat16"}
LSTM = Run("char_rnn", "sonnets", "SGD", 0, 1, options=MIXED)
CONVOLUTIONS = Run("convnet", "digits", "SGD", 0, 1, options={**MIXED, "epoch_steps": 2})


@pytest.fixture
def without_lstm(monkeypatch):
    """A torch that fails as it does on a processor without AVX-512: at an LSTM in bfloat16."""
    forward = nn.LSTM.forward

    def checked(*args):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("no primitive for the LSTM. Run workload with ONEDNN_VERBOSE=all")
        return forward(*args)

    monkeypatch.setattr(nn.LSTM, "forward", checked)


def test_what_can_not_be_computed_stops_a_sweep_before_it_starts(path, executor, without_lstm):
    message = r"can't compute LSTM in bfloat16 on cpu here \(no primitive for the LSTM\)\. Train it"
    with pytest.raises(ExperimentError, match=message):
        sweep([CONVOLUTIONS, LSTM], path, executor)
    assert store.read(path) == {}
    full = dataclasses.replace(LSTM, options={"epoch_steps": 2, "hidden": 8})
    records = sweep([CONVOLUTIONS, full], path, executor)
    assert [record.status for record in records.values()] == ["ok", "ok"]


def test_a_precision_that_there_is_not_stops_a_sweep_before_it_starts(path, executor):
    with pytest.raises(ExperimentError, match="'float16'; expected 'none' or 'bfloat16'"):
        sweep([dataclasses.replace(LSTM, options={"autocast": "float16"})], path, executor)
    assert store.read(path) == {}


def test_each_kind_of_layer_is_tried_once_and_where_runs_are_trained(
    path, run, executor, monkeypatch, make_record
):
    events = []

    def require(*need):
        assert threading.current_thread() is not threading.main_thread()
        events.append(need)

    def train(runs, *_):
        events.append("trained")
        return list(map(make_record, runs))

    monkeypatch.setattr(executors, "require_mixed_precision", require)
    monkeypatch.setattr(sweeps, "execute_all", train)
    gru = dataclasses.replace(LSTM, options={**MIXED, "cell": "gru"})
    other = dataclasses.replace(LSTM, options={**MIXED, "hidden": 8}, seed=1)
    sweep([run, LSTM, other, CONVOLUTIONS, gru], path, executor)
    tried = [(layer, "bfloat16", "cpu") for layer in (nn.LSTM, nn.Linear, nn.GRU)]
    assert events == [*tried, *["trained"] * 5]
    sweep([run, LSTM], path, executor)  # they have their records
    assert len(events) == 8


def recorded(study, tier, make_record, results):
    with store.Writer(study.path(tier, results)) as writer:
        writer.append(make_record(study.select(tier)[0].run))


def test_a_tier_that_can_not_be_computed_is_not_verified(
    executor, make_record, tmp_path, capsys, monkeypatch, without_lstm
):
    """Its data, which may be slow to fetch, are not asked for."""
    monkeypatch.setenv("GDTUO_DATA", str(tmp_path))  # where there are none
    studies = [find("figure3"), find("figure4d")]
    for study in studies:
        recorded(study, "small", make_record, tmp_path)
    with pytest.raises(ExperimentError, match="every tier with records was left out"):
        verify(studies, executor, tier="small", results=tmp_path)
    first, second = capsys.readouterr().out.splitlines()
    start = "figure3, tier small, is left out, for want of LSTM in bfloat16: torch "
    assert first.startswith(start)
    assert "(no primitive for the LSTM). Train it elsewhere" in first
    assert second == "figure4d, tier small, is left out, for want of LSTM in bfloat16 too"
    [run, *_] = [cell.run for cell in studies[0].select("smoke", seeds=1)]
    sweep([run], studies[0].path("smoke", tmp_path), executor)
    assert verify(studies[:1], executor, results=tmp_path)
    out = capsys.readouterr().out
    assert start in out
    assert "1 run again of figure3, tier smoke, on sonnets" in out


def test_of_several_tasks_those_that_can_be_computed_are_verified(
    executor, make_record, tmp_path, capsys, run, without_lstm
):
    cells = [Cell("c", CONVOLUTIONS), Cell("l", LSTM), Cell("m", run)]
    study = Study("some", "Some", {"smoke": Tier("digits", 1, "")}, lambda tier: cells)
    path = study.path("smoke", tmp_path)
    sweep([CONVOLUTIONS, run], path, executor)
    assert verify([study], executor, results=tmp_path)
    assert "left out" not in capsys.readouterr().out  # there is no record of an LSTM
    with store.Writer(path) as writer:
        writer.append(make_record(LSTM))
    assert verify([study], executor, results=tmp_path)
    first, *rest = capsys.readouterr().out.splitlines()
    want = "is left out where it trains char_rnn, for want of LSTM in bfloat16: torch "
    assert first.startswith(f"some, tier smoke, {want}")
    assert rest[0] == "Training 2 runs again of some, tier smoke, on digits."
    assert rest[-1] == "All 2 agree."
