"""Training steps as CUDA graphs."""

import itertools
import math
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from experiments import train
from experiments.captured import ORDINARY, Captured
from experiments.cli import main
from experiments.execution import Pause, execute_all
from experiments.run import Run, Unfinished
from experiments.studies.presets import kappa_lstm, kappa_resnet

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

RESNET = {"width": 4, "batch": 128}  # its last batch of an epoch is a smaller one
LSTM = {"batch": 8, "sequence": 16, "hidden": 16, "epoch_steps": 30}
RUNS = {
    "learned": Run(
        "resnet20", "digits", f"SGD(0.01, momentum=0.9) / {kappa_resnet(0.01, 0.9)}", 0, 4,
        options=RESNET,
    ),
    "schedule": Run(
        "resnet20", "digits", "SGD(0.01, momentum=0.9)", 0, 4, options=RESNET, schedule=(1, 2)
    ),
    "lstm": Run("char_rnn", "sonnets", f"Adam(0.002) / {kappa_lstm(2e-3)}", 0, 4, options=LSTM),
    "gru": Run("char_rnn", "sonnets", "Adam(0.002)", 0, 4, options={**LSTM, "cell": "gru"}),
    "mlp": Run("mlp", "digits", "Adam(0.002) / SGD(1e-5) / SGD(1e-6)", 0, 4, options={"batch": 50}),
}  # fmt: skip
every_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)


def same(a, b):
    """ResNet-20, in the lower precision of a GPU's convolutions, has drifted apart by the end."""
    rel = 0.05 if a.run.task == "resnet20" else 1e-3
    assert a.curves["train_loss"] == pytest.approx(b.curves["train_loss"], rel=rel)
    assert a.lr_last_epoch == pytest.approx(b.lr_last_epoch, rel=1e-3)


def trained(run, **options):
    (found,) = execute_all([run], [None], "cuda", **options)
    return found


@cuda
@every_run
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_captured_run_is_the_same_to_rounding(run):
    record, eager = trained(run, capture=True), trained(run)
    assert record.message == eager.message == ""
    assert record.provenance["captured"] is True
    assert "captured" not in eager.provenance
    assert record.steps == eager.steps
    same(record, eager)
    for ours, theirs in zip(
        record.curves["hyperparameters"], eager.curves["hyperparameters"], strict=True
    ):
        for name, values in ours.items():
            assert values == pytest.approx(theirs[name], rel=1e-3)


@cuda
@every_run
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_captured_run_goes_on_where_it_was(run, monkeypatch):
    whole = trained(run, capture=True)
    with monkeypatch.context() as clock:
        times = itertools.chain(itertools.repeat(0.0, 25), itertools.repeat(math.inf))
        clock.setattr(train, "time", SimpleNamespace(time=lambda: next(times)))
        part = trained(run, capture=True, pause=Pause(every=60))
    assert isinstance(part, Unfinished)
    rest = trained(run, capture=True, payload=part.payload)
    assert rest.steps == whole.steps
    same(rest, whole)


@pytest.fixture
def pretended(monkeypatch):
    """Graphs without a GPU: a replay computes the outputs anew from the inputs' places."""

    class Graph:
        def replay(self):
            taker.output.copy_(step(*taker.inputs))

    def step(x):
        calls.append(len(x))
        return 2 * x

    calls: list[int] = []
    nothing = SimpleNamespace(device="cpu", wait_stream=lambda other: None)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: nothing)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: nothing)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    taker = Captured(torch.device("cpu"))
    return taker, partial(taker, step), calls


def test_a_graph_is_of_the_shape_that_comes_most(pretended):
    """Nine of ten batches are of four examples; the ninth step, which might be captured, is not."""
    taker, take, _ = pretended
    for i in range(30):
        x = torch.full((1 if i % 10 == 8 else 4,), float(i))
        assert take(x).equal(2 * x)
        assert (taker.graph is not None) == (i > 9)
    assert taker.shapes == [(4,)]


def test_what_must_be_taken_in_the_ordinary_way_is(pretended):
    taker, take, calls = pretended
    for _ in range(ORDINARY + 4):
        take(torch.ones(2))
    graph, before = taker.graph, len(calls)
    graph.replay = None  # it would raise
    assert take(torch.ones(2), ordinary=True).equal(torch.full((2,), 2.0))
    assert take(torch.ones(3)).shape == (3,)
    assert len(calls) == before + 2
    assert taker.graph is graph


def test_what_has_no_cuda_graphs_is_told_so(tmp_path, capsys):
    given = ["--tier", "smoke", "--cuda-graphs", "--results", str(tmp_path)]
    assert main(["run", "figure3", *given]) == 1
    assert "--cuda-graphs with the device 'cpu', which has none" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
