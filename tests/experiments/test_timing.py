"""Measurements of tiny made-up workloads; no test looks at an absolute time."""

import dataclasses
import itertools
import json
import warnings
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from experiments import ExperimentError, cli, store
from experiments.studies import figure4f
from experiments.timing import measure as measuring
from experiments.timing.measure import interleaved, measure, state_bytes, total_bytes
from experiments.timing.measurement import Measurement, interval, latest, load
from experiments.timing.session import session, status, table
from experiments.timing.study import TimingStudy, TimingTier
from experiments.timing.workload import FUSED, PLAIN, Contender, Trainer, Workload, contenders


def make_batch(inputs):
    return torch.rand(16, inputs), torch.randint(4, (16,))


TINY = Workload(
    "tiny",
    "a tiny model",
    partial(nn.Linear, 8, 4),
    partial(make_batch, 8),
    bottom="SGD(0.1)",
    above="SGD(1e-6)",
    plain=partial(torch.optim.SGD, lr=0.1),
)
STUDY = TimingStudy(
    "figure0",
    "Figure 0",
    {"quick": TimingTier({"tiny": (0, 1), "second": (0, 2)}, 3, 1e-5, 1, "quick")},
    {"tiny": TINY, "second": dataclasses.replace(TINY, name="second")},
)


class Clock:
    """A clock that steps alone move, and the steps that were taken."""

    def __init__(self, **costs):
        self.now, self.taken = 0.0, []
        self.steps = {name: partial(self._step, name, cost) for name, cost in costs.items()}

    def _step(self, name, cost):
        self.taken.append(name)
        self.now += cost

    def __call__(self):
        return self.now


@pytest.fixture
def here(monkeypatch):
    """Memory is measured in this process: a fresh one takes seconds to start."""
    monkeypatch.setattr(measuring, "peak_of_process", measuring.peak_bytes)


def test_contenders_take_turns_in_an_order_drawn_each_round():
    clock = Clock(a=1, b=2, c=3)
    seconds = interleaved(clock.steps, rounds=20, count=2, synchronize=int, clock=clock)
    blocks = [clock.taken[i : i + 3] for i in range(0, len(clock.taken), 3)]
    assert all(len(set(block)) == 1 for block in blocks)  # an untimed step and two timed ones
    orders = [tuple(block[0] for block in blocks[i : i + 3]) for i in range(0, 60, 3)]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)
    assert len(set(orders)) > 3
    assert seconds == {"a": [1.0] * 20, "b": [2.0] * 20, "c": [3.0] * 20}


def test_the_device_has_done_its_work_before_the_clock_is_read():
    clock = Clock(a=0)
    pending = []

    def step():
        pending.append(1)

    def synchronize():
        clock.now += len(pending)
        pending.clear()

    seconds = interleaved({"a": step}, 2, count=4, synchronize=synchronize, clock=clock)
    assert seconds["a"] == [1.0, 1.0]


@pytest.mark.usefixtures("here")
def test_a_slower_contender_comes_out_slower():
    slow = dataclasses.replace(TINY, plain=Slow)
    timings = measure(
        slow, [Contender(0), Contender(None)], rounds=15, block_seconds=1e-4, threads=1
    )
    assert Measurement.of(timings).ratio(PLAIN, "height 0").median > 1.5


class Slow(torch.optim.SGD):
    def step(self):
        for _ in range(200):
            super().step()


@pytest.mark.usefixtures("here")
def test_what_a_record_says():
    timings = measure(
        TINY,
        contenders((0, 2), compiled=False),
        rounds=3,
        block_seconds=1e-4,
        processes=2,
        source={"commit": "c", "clean": True},
    )
    assert [t.contender for t in timings] == ["height 0", "height 2", PLAIN, FUSED]
    assert [t.rule for t in timings[:2]] == ["SGD(0.1)", "SGD(0.1) / SGD(1e-06) / SGD(1e-06)"]
    assert {len(t.seconds) for t in timings} == {3}
    assert len({t.steps for t in timings}) == 1
    assert {t.parameter_bytes for t in timings} == {4 * (8 * 4 + 4)}
    kept = [t.state_bytes for t in timings]
    assert kept[1] >= timings[1].parameter_bytes > kept[0]  # the last gradient
    assert all(len(t.peak_bytes) == 2 and t.peak > 10 for t in timings)  # torch alone takes that
    for timing in timings:
        assert timing.provenance == timings[0].provenance
        assert {"commit", "clean", "torch", "device", "threads", "processor"} <= set(
            timing.provenance
        )


def test_memory_is_that_of_a_process_of_its_own():
    ballast = torch.ones(150_000_000)
    own = measuring.peak_bytes(TINY, Contender(0), 1)
    peak = measuring.peak_of_process(TINY, Contender(0), 1)
    assert peak < own - ballast.nbytes / 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_memory_is_what_a_contender_takes_beside_all_others():
    ballast = torch.ones(50_000_000, device="cuda")
    timings = measure(
        TINY, contenders((0, 2), compiled=False), rounds=2, block_seconds=1e-4, device="cuda"
    )
    peaks = [timing.peak_bytes for timing in timings]
    assert all(len(each) == 1 and 0 < each[0] < ballast.nbytes / 2 for each in peaks)
    assert peaks[1] > peaks[0]  # the last gradient


def test_a_gpu_is_asked_for_what_is_taken_beside_what_was_taken_before(monkeypatch):
    counter = SimpleNamespace(now=100, most=900)
    monkeypatch.setattr(
        torch.cuda, "reset_peak_memory_stats", lambda device: setattr(counter, "most", counter.now)
    )
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: counter.now)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: counter.most)
    with measuring.taken("cuda:0") as found:
        counter.most = 140
    with measuring.taken("cuda:0") as nothing:
        pass
    assert (found, nothing) == ([40], [0])


def test_bytes_of_views_count_once():
    x = torch.zeros(10)
    assert total_bytes({"a": [x, x[2:], (torch.zeros(1, dtype=torch.float64),)], "b": 3}) == 48


@pytest.mark.parametrize(("height", "copies"), [(None, 2), (0, 2), (1, 3)])
def test_state_of_adam(height, copies):
    """Two moments, and under a level above the last gradient."""
    model, batch = partial(nn.Linear, 64, 4), partial(make_batch, 64)
    adam = Workload("adam", "", model, batch, "Adam(0.1)", "SGD(1e-6)", torch.optim.Adam)
    trainer = Trainer(adam, Contender(height), "cpu")
    trainer.step()
    weights = total_bytes(list(trainer.model.parameters()))
    assert 0 <= state_bytes(trainer) - copies * weights < 0.6 * weights


def test_a_tower_that_cannot_be_compiled_is_an_error():
    with pytest.raises(ExperimentError, match="--no-compile"), measuring.compiled_or_refused():
        warnings.warn("gdtuo: steps can't be compiled here. Why.", RuntimeWarning, stacklevel=1)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_no_gpu_is_named():
    with pytest.raises(ExperimentError, match="can't use the device 'cuda' here"):
        measure(TINY, [Contender(0)], rounds=1, block_seconds=0, device="cuda")


@pytest.mark.usefixtures("here")
def test_an_interrupt_loses_the_workload_in_flight(tmp_path):
    path = STUDY.path("quick", tmp_path)

    def interrupt(measurement):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session(STUDY, "quick", path, compiled=False, report=interrupt)
    assert [m.workload for m in load(path)] == ["tiny"]
    assert list(status(STUDY, "quick", path))[1] == "second  to measure"

    session(STUDY, "quick", path, compiled=False, only="second")
    assert [m.workload for m in load(path)] == ["tiny", "second"]
    assert "cpu: 4 contenders, 3 rounds" in list(status(STUDY, "quick", path))[1]
    with pytest.raises(ExperimentError, match="no workload matches 'x'; there are tiny, second"):
        session(STUDY, "quick", path, only="x")


def test_the_latest_whole_measurement_of_each_device_counts(tmp_path, make_measurement):
    made = [
        make_measurement("tiny", finished="2030", scale=2),
        make_measurement("tiny", finished="2029", scale=1),
        make_measurement("tiny", finished="2028", scale=3, device="H100"),
        make_measurement("tiny", finished="2031", scale=4),
    ]
    with store.Writer(tmp_path / "records.jsonl") as writer:
        for measurement in made[:3]:
            writer.append(*measurement.timings.values())
        writer.append(*list(made[3].timings.values())[:-1])  # its writer was stopped
    found = latest(load(tmp_path / "records.jsonl"))
    assert found == {("cpu", "tiny"): made[0], ("H100", "tiny"): made[2]}


def test_records_that_do_not_fit_are_not_written_in_part(tmp_path, make_measurement):
    timings = list(make_measurement("tiny").timings.values())
    bad = dataclasses.replace(timings[-1], seconds=[float("nan")])
    with (
        store.Writer(tmp_path / "records.jsonl") as writer,
        pytest.raises(ValueError, match="JSON"),
    ):
        writer.append(*timings[:-1], bad)
    assert load(tmp_path / "records.jsonl") == []


def test_ratios_are_paired_by_round(make_measurement):
    """The machine is twice as slow in every other round; the ratio knows nothing of it."""
    measurement = make_measurement("tiny", moods=(1, 2) * 10, percent=(0, 10, 20, 30))
    over = measurement.over(2)
    assert (over.median, over.low, over.high) == pytest.approx((20, 20, 20))
    assert measurement.ratio("height 3", "height 0").median == pytest.approx(1.3)
    milliseconds, percent = measurement.slope((0, 1, 2, 3))
    assert (percent.low, percent.high) == pytest.approx((10, 10))
    assert milliseconds.low < milliseconds.high


def test_intervals():
    found = interval(np.arange(21.0))
    assert found.low < found.median == 10 < found.high
    assert interval([3.0]).text(1, " %") == "3.0 %"
    assert interval([3.0, 3.0]).text(1) == "3.0 [3.0, 3.0]"


def test_a_measurement_in_words(make_measurement):
    head, *lines = table(make_measurement("tiny", percent=(0, 10, 20, 30)))
    assert head == "tiny on cpu, threads 2: 20 rounds of 7 steps"
    (line,) = (line for line in lines if line.startswith("  height 3 "))
    assert " 95 MiB  state 0.00 MiB  1.300 [1.300, 1.300] of height 0" in line


@pytest.mark.parametrize(
    ("name", "parameters"), [("mlp", 101_770), ("resnet20", 269_722), ("lstm", 248_215)]
)
def test_the_networks_have_the_papers_sizes(name, parameters):
    """ResNet-20: the 0.27 million of He et al. 2016."""
    workload = figure4f.STUDY.workloads[name]
    trainer = Trainer(workload, Contender(0), "cpu")
    assert sum(p.numel() for p in trainer.model.parameters()) == parameters


def test_the_papers_study_is_whole():
    tier = figure4f.STUDY.tier("paper")
    assert tier.rounds >= 20
    assert set(tier.heights) == set(figure4f.STUDY.workloads)
    assert all({0, 1, 2, 3} <= set(heights) for heights in tier.heights.values())
    for workload, height in itertools.product(figure4f.STUDY.workloads.values(), (0, 3)):
        assert workload.rule(Contender(height)).count("/") == height


def test_the_command_line(tmp_path, monkeypatch, capsys, here):
    monkeypatch.setattr(cli, "TIMINGS", {STUDY.name: STUDY})
    monkeypatch.setattr("experiments.arguments.TIMINGS", {STUDY.name: STUDY})
    where = ["--tier", "quick", "--results", str(tmp_path)]
    command = ["time", STUDY.name, *where, "--threads", "1", "--no-compile", "--only", "tiny"]
    assert cli.main(command) == 0
    assert "tiny on cpu, threads 1: 3 rounds" in capsys.readouterr().out
    lines = (tmp_path / "figure0" / "quick.jsonl").read_text().splitlines()
    assert [json.loads(line)["contender"] for line in lines] == [
        "height 0", "height 1", PLAIN, FUSED
    ]  # fmt: skip
    assert cli.main(["status", "figure0", *where]) == 0
    assert capsys.readouterr().out.endswith("second  to measure\n")
    assert cli.main(["list", "--results", str(tmp_path)]) == 0
    assert "quick    1 of   2 workloads measured. quick" in capsys.readouterr().out


def test_training_what_is_measured_is_an_error(capsys):
    assert cli.main(["run", "figure4f"]) == 1
    assert "python -m experiments time" in capsys.readouterr().err


@pytest.mark.usefixtures("here")
def test_memory_is_measured_at_low_heights_only():
    timings = measure(TINY, [Contender(0), Contender(4)], rounds=1, block_seconds=0)
    assert [len(t.peak_bytes) for t in timings] == [1, 0]
    assert np.isnan(timings[1].peak)
