"""Peak memory of a process that trains, over that of one with ``torch.optim.Adam``."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.benchmarks.models import WORKLOADS
from tests.benchmarks.race import settings
from tests.benchmarks.trainers import LR_ONLY, PROMISED, PUBLISHED, TORCH, label

CONTENDERS = (TORCH, LR_ONLY, PROMISED, label(3), PUBLISHED)
CODE = r"""
import re, sys, warnings
from pathlib import Path
from tests.benchmarks.trainers import trainer
warnings.simplefilter("ignore")  # of create_graph=True, by the published loop
step = trainer(sys.argv[1], sys.argv[2])
for _ in range(10):
    step()
# Not ru_maxrss: a process inherits that of its parent, here of all benchmarks before this one.
print(re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def peak_megabytes(workload: str, contender: str) -> float:
    command = [sys.executable, "-c", CODE, workload, contender]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("workload", WORKLOADS)
def test_peak(workload, benchmark):
    peaks = {name: peak_megabytes(workload, name) for name in CONTENDERS}
    benchmark.pedantic(lambda: None)  # for its record: what counts here are the megabytes
    ratios = {name: round(value / peaks[TORCH], 3) for name, value in peaks.items()}
    benchmark.extra_info |= {
        "workload": workload,
        "over": TORCH,
        "peak_megabytes": {name: round(value) for name, value in peaks.items()},
        "peak_ratio": ratios,
        **settings(),
    }
    assert ratios[PROMISED] <= 1.10
