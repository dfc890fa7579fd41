"""The examples run, and show what they say."""

import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"


def test_weight_decay_grows_on_held_out_gradients_alone(capsys):
    pytest.importorskip("sklearn", reason="the example trains on scikit-learn's digits")
    example = runpy.run_path(str(EXAMPLES / "held_out_weight_decay.py"))
    results = example["main"](["--steps", "300", "--seeds", "1"])
    constant, training, held_out = (results[way, 0] for way in example["WAYS"])
    start = example["START"]
    assert constant["weight decay"] == pytest.approx(start)
    assert training["weight decay"] < 0
    assert held_out["weight decay"] > 10 * start
    assert held_out["test loss"] < constant["test loss"] < training["test loss"]
    assert training["training loss"] < constant["training loss"] < held_out["training loss"]
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.mark.skipif(not torch.distributed.is_available(), reason="a torch without distributed")
@pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason="this torch has FSDP2 for GPUs alone"
)
def test_a_sharded_gpt_trains_and_goes_on_from_its_checkpoint(tmp_path):
    def train():
        module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        options = ["--steps", "12", "--report", "4", "--save", "8", "--batch", "8", "--width", "16"]
        folder = ["--checkpoints", str(tmp_path)]
        command = [sys.executable, *module, EXAMPLES / "train_fsdp.py", *options, *folder]
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(EXAMPLES.parent),
        }
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.splitlines()

    lines = train()
    steps = [
        re.match(r"step (\d+)/12: loss (\S+), learned lr (\S+),", line).groups() for line in lines
    ]
    assert [int(step) for step, *_ in steps] == [4, 8, 12]
    losses, learned = ([float(each[i]) for each in steps] for i in (1, 2))
    assert losses[-1] < losses[0]
    assert learned[-1] > learned[0] > 1e-4
    shutil.rmtree(tmp_path / "step-00000012")
    said, last = train()
    assert said.endswith("step-00000008")
    assert last.partition(" seconds")[0].rsplit(",", 1)[0] == lines[-1].rsplit(",", 1)[0]
