"""Where a record comes from."""

import os
import platform
import re
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

import gdtuo
from experiments import ExperimentError

# What is written from records, so that it is no part of the code.
DRAWN = ("results", "README.md", "docs/performance.md")
# Equal in two records, these make their numbers comparable to the bit.
BITS = ("torch", "device", "threads", "machine", "processor", "vector_unit")


def environment(device: str) -> dict[str, Any]:
    """Versions and machine of this process."""
    return {
        "gdtuo": gdtuo.__version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "device": torch.cuda.get_device_name(device)
        if device.startswith("cuda")
        else torch.device(device).type,
        "threads": torch.get_num_threads(),
        "platform": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "vector_unit": torch.backends.cpu.get_cpu_capability(),
    }


def source() -> dict[str, Any]:
    """The commit of the source code, and whether the code is just what was committed.

    Where there is no repository, `GDTUO_COMMIT` may say what the code is a copy of, as `git
    describe --always --abbrev=40 --dirty --exclude='*'` does; else both are None.

    Raises:
        ExperimentError: `GDTUO_COMMIT` says something else; or it says nothing, and there is a
            repository that git doesn't read.
    """
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        command = ["git", "-C", os.fspath(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        commit = git("rev-parse", "HEAD")
        changes = git("status", "--porcelain", "--", ".", *(f":(exclude){path}" for path in DRAWN))
    except (OSError, subprocess.CalledProcessError) as error:
        said = os.environ.get("GDTUO_COMMIT", "").strip()
        if not said and (root / ".git").exists():
            why = getattr(error, "stderr", None) or error
            raise ExperimentError(
                f"git doesn't say of which commit {root} is: {str(why).strip()}. Mend that, or set "
                "GDTUO_COMMIT to what the code is a copy of"
            ) from None
        if said and not re.fullmatch("[0-9a-f]{7,40}(-dirty)?", said):
            raise ExperimentError(
                f"GDTUO_COMMIT is {said!r}; expected what git describe --always --abbrev=40 "
                "--dirty --exclude='*' says of what this is a copy of"
            ) from None
        commit, _, dirty = said.partition("-")
        return {"commit": commit or None, "clean": not dirty if commit else None}
    return {"commit": commit, "clean": not changes}


@lru_cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or "unknown"
