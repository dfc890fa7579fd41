"""The examples run, and show what they say."""

import runpy
from pathlib import Path

import pytest

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
