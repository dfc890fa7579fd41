"""Bytes of optimizer state for each parameter, on a model so large that any waste shows."""

from __future__ import annotations

import pytest
import torch

import gdtuo
from gdtuo.tuning_free import RULE
from tests.benchmarks.counts import kept_bytes

SIZE = 8_000_000


@pytest.mark.parametrize(
    ("tower", "expected"),
    [
        ("SGD", 0),
        ("SGD / SGD", 4),  # the previous gradient
        ("SGD(0.01, momentum=0.9) / SGD", 8),
        ("AdaGrad / AdaGrad", 8),
        ("RMSProp / SGD(1e-4)", 8),
        ("Adam", 8),  # torch's own
        ("Adam / SGD(1e-5)", 12),
        ("Adam / Adam / SGD(1e-5)", 12),
        ("SGD(0.01, weight_decay=0.1)", 0),
        ("SGD(0.01, weight_decay=0.1) / SGD", 8),  # and the previous parameter
        ("AdamW", 8),
        ("AdamW(weight_decay=0.0) / SGD", 12),
        ("AdamW / SGD", 16),
        ("AdamW^lr / SGD", 16),
        ("AdamW^lr(weight_decay=0.0) / SGD", 8),
        ("NAdam / SGD", 12),
        ("Lion", 4),
        ("Lion / SGD", 8),
        ("ScheduleFreeAdam", 8),
        (str(RULE), 12),  # and the trace; no gradient
    ],
)
def test_bytes_for_each_parameter(tower, expected):
    parameters = [torch.nn.Parameter(torch.ones(n)) for n in (SIZE // 2, SIZE // 4, SIZE // 4)]
    optimizer = gdtuo.Tower(parameters, gdtuo.parse(tower))
    for _ in range(2):
        for p in parameters:
            p.grad = torch.full_like(p, 0.5)
        optimizer.step()
    beside = kept_bytes(optimizer) - expected * SIZE
    assert 0 <= beside < 1000  # hyperparameters, a few scalars each
