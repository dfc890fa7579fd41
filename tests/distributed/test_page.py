"""Each block of docs/distributed.md runs as it stands, on two ranks."""

from __future__ import annotations

import os
import re
from pathlib import Path
from unittest import mock

import pytest
import torch.distributed as dist

PAGE = Path(__file__).parents[2] / "docs" / "distributed.md"
TEXT = PAGE.read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^## (.+?)\n(?:(?!^## ).)*?^```python\n(.*?)^```", TEXT, re.M | re.S))
STARTS = {"DistributedDataParallel": 1e-3, "FSDP2": 1e-4, "Tensor parallelism": 1e-4}

#: What blocks leave behind is kept to the end of the process, as that of a script is: torch 2.13
#: sometimes hangs where a DDP module is freed after its process group.
KEPT: list[dict[str, object]] = []


def run(rank, title, folder, port):
    """As torchrun runs it; what it has learned."""
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment["TORCHELASTIC_USE_AGENT_STORE"] = "True"
    environment |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    before = "\n" * TEXT[: TEXT.index(BLOCKS[title])].count("\n")  # tracebacks then cite the page
    names = {"__name__": "distributed"}
    KEPT.append(names)
    here = Path.cwd()
    os.chdir(folder)
    try:
        with mock.patch.dict(os.environ, environment):
            exec(compile(before + BLOCKS[title], str(PAGE), "exec"), names)
    finally:
        os.chdir(here)
    return names["learned"]


@pytest.mark.parametrize("title", STARTS)
def test_block(processes, title, tmp_path):
    # The store is here, as torchrun's is with its agent: it outlives the ranks.
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    one, other = processes.run(run, 2, title, str(tmp_path), str(store.port), group=False)
    assert one == other
    assert one > 5 * STARTS[title]


def test_every_block_is_tested():
    assert set(BLOCKS) == set(STARTS)
    assert TEXT.count("```python") == len(BLOCKS)
