"""Every Python block of the README runs, in order, as one session; so does that of a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
README, TUNING_FREE = ROOT / "README.md", ROOT / "docs" / "tuning_free.md"


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


BLOCKS = blocks(README)


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
    assert len(BLOCKS) == 5


def test_the_page_on_the_default(capsys):
    torch.manual_seed(0)
    session: dict[str, object] = {}
    for block in blocks(TUNING_FREE):
        exec(compile(block, str(TUNING_FREE), "exec"), session)
    assert float(capsys.readouterr().out) > 1e-3
    assert session["loss"].item() < 0.3  # of 1
    outputs = session["averaged"](session["inputs"])
    average = (outputs - session["targets"]).square().mean().item()
    assert 0 < average < 0.3
    assert average != session["loss"].item()
