"""The ratios of a fresh `make bench` beside the committed ones."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from experiments import ExperimentError

ROOT = Path(__file__).parents[2]
COMMITTED = "results/benchmarks.json"
RATIOS = {"ratio": "time", "peak_ratio": "peak memory"}


def committed() -> dict[str, Any]:
    """The record of the last commit, whatever `make bench` has written over it since.

    Raises:
        ExperimentError: there is no repository, or no such record in it.
    """
    command = ["git", "-C", str(ROOT), "show", f"HEAD:{COMMITTED}"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise ExperimentError(f"no {COMMITTED} is committed here ({error})") from None
    return json.loads(shown)


def fresh(path: Path | None) -> dict[str, Any]:
    """The record in ``path``, or one that is made now.

    Raises:
        ExperimentError: it can't be read, or not made.
    """
    if path is not None:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ExperimentError(f"{path} can't be read ({error}); make bench makes one") from None
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "benchmarks.json"
        pytest = [sys.executable, "-m", "pytest", "tests/benchmarks", "-o", "addopts="]
        # One that fails a promise still has ratios to show.
        subprocess.run([*pytest, "--benchmark-json", str(made)], cwd=ROOT, check=False)
        if not made.exists():
            raise ExperimentError("the benchmarks left no record: see what pytest says above")
        return json.loads(made.read_text(encoding="utf-8"))


def table(recorded: dict[str, Any], now: dict[str, Any]) -> str:
    """A line for each ratio that both have, and what differs beside the code.

    Raises:
        ExperimentError: they have none in common.
    """
    before, after = _ratios(recorded), _ratios(now)
    common = [name for name in after if name in before]
    if not common:
        raise ExperimentError("the two records have no benchmark in common: nothing to compare")
    width = max(map(len, common))
    lines = [f"{'':<{width}}  recorded    now  change"]
    for name in common:
        change = 100 * (after[name] / before[name] - 1)
        lines.append(f"{name:<{width}}  {before[name]:8.2f} {after[name]:6.2f} {change:+6.0f}%")
    for what, names in (
        ("not measured now", before.keys() - after.keys()),
        ("not on record", after.keys() - before.keys()),
    ):
        counted = Counter(name.partition(": ")[0] for name in sorted(names))
        lines += [f"{what}: {name} of {count} sides" for name, count in counted.items()]
    then, here = _settings(recorded), _settings(now)
    lines += [
        f"differs: {key} was {then.get(key)} and is {here.get(key)}"
        for key in then.keys() | here.keys()
        if then.get(key) != here.get(key)
    ]
    return "\n".join(lines)


def _ratios(record: dict[str, Any]) -> dict[str, float]:
    """Of every side but that which the others are divided by."""
    return {
        f"{benchmark['name']} {what}: {side}": value
        for benchmark in record["benchmarks"]
        for key, what in RATIOS.items()
        for side, value in benchmark["extra_info"].get(key, {}).items()
        if side != benchmark["extra_info"]["over"]
    }


def _settings(record: dict[str, Any]) -> dict[str, Any]:
    machine = record["machine_info"]
    infos = [benchmark["extra_info"] for benchmark in record["benchmarks"]]
    return {
        "processor": machine["cpu"].get("brand_raw"),
        "cores": machine["cpu"].get("count"),
        "python": machine["python_version"],
        **{
            key: ", ".join(sorted({str(info[key]) for info in infos if key in info}))
            for key in ("torch", "threads")
        },
    }
