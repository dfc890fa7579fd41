"""What ended the published optimizer's runs on the paper's MLP: with the safeguards on, it trains.

One set of safeguards for all of it, not tuned to any: hypergradients of norm 0.001 at most, steps
that move a tensor by a tenth of its norm at most, and the guard.
"""

from __future__ import annotations

import os

import pytest
import torch

import gdtuo
from experiments.tasks.mlp import Mlp
from gdtuo import Safeguards

SAFE = Safeguards(clip=1e-3, cap=0.1, guard=100)
mnist = pytest.mark.skipif("GDTUO_DATA" not in os.environ, reason="needs MNIST: set GDTUO_DATA")


def trained(data: str, text: str, safeguards: Safeguards, epochs: int) -> tuple[float, gdtuo.Tower]:
    """The test error in percent, and the tower."""
    torch.set_flush_denormal(True)  # dead networks make denormals, which cost tenfold
    task = Mlp(data, seed=0, device="cpu")
    rule = gdtuo.parse(text)
    tower = gdtuo.Tower(task.model.parameters(), rule, safeguards=safeguards)
    for _ in range(epochs):
        task.begin()
        for step in range(task.steps):
            tower.zero_grad()
            task.loss(step).backward()
            tower.step()
    assert tower.skipped_steps == 0
    return task.evaluate()["test_error"], tower


FAILURES = [("SGD", "SGD / SGD(100)", 100), ("Adam", "Adam / SGD(0.005)", 40)]


@pytest.mark.parametrize(
    ("plain", "text", "epochs"), FAILURES, ids=[text for _, text, _ in FAILURES]
)
def test_on_the_digits(plain, text, epochs):
    expected, _ = trained("digits", plain, Safeguards(), epochs)
    lost, _ = trained("digits", text, Safeguards(), epochs)
    saved, _ = trained("digits", text, SAFE, epochs)
    assert lost > 80
    assert saved <= expected


@mnist
@pytest.mark.slow
@pytest.mark.parametrize("text", ["SGD / SGD(100)", "SGD(coordinates={lr: log}) / SGD(100)"])
def test_sgd_100_ends_below_plain_sgd(text):
    saved, _ = trained("mnist", text, SAFE, 30)
    assert saved < 8.5  # plain SGD: 9.0


@mnist
@pytest.mark.slow
def test_adam_with_a_step_size_500_times_the_paper_s():
    lost, _ = trained("mnist", "Adam / SGD(0.005)", Safeguards(), 5)
    saved, _ = trained("mnist", "Adam / SGD(0.005)", SAFE, 5)
    assert lost > 25
    assert saved < 4.67  # plain Adam
