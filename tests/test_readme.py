"""Every Python block of the README runs, in order, as one session."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)


def test_blocks_run(capsys):
    pytest.importorskip("sklearn", reason="the example trains on scikit-learn's digits")
    torch.manual_seed(0)
    session: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), session)
    accuracy, lr = re.search(r"accuracy (\d+)%, learned lr (\S+)", capsys.readouterr().out).groups()
    assert int(accuracy) >= 85  # with the lr of the start: 35
    assert float(lr) > 100 * 1e-5
    assert session["losses"].max() < 2.3  # each of the ensemble; untrained: ln 10 and more
    assert session["best"] == 3
    assert len(BLOCKS) == 4
