"""The tables that the README shows, filled in from `results/`."""

import json
from pathlib import Path

from experiments import ExperimentError
from paper_figures import table1
from paper_figures.results import Results
from paper_figures.table1_claims import judge_rows

README = Path(__file__).parents[1] / "README.md"
BENCHMARKS = "benchmarks.json"  # pytest-benchmark's record, by `make bench`
WORKLOADS = {
    "resnet20": "ResNet-20, batch 128",
    "lstm": "LSTM 2x128, batch 50, sequence 50",
    "mlp": "MLP 784-128-10, batch 256",
}
CONTENDERS = ("Adam / SGD(1e-05)", "Adam^lr / SGD(1e-05)", "published Adam / SGD(1e-05)")


def write(results: Results, folder: Path, readme: Path = README) -> Path:
    """Fill in the README's tables; returns its path."""
    text = readme.read_text(encoding="utf-8")
    text = _filled(text, "table1", table1.rows(results, judge_rows(results)))
    text = _filled(text, "benchmarks", benchmarks(folder / BENCHMARKS))
    readme.write_text(text, encoding="utf-8")
    return readme


def benchmarks(path: Path) -> str:
    """The ratios of time and of peak memory, and what they were measured on."""
    if not path.exists():
        raise ExperimentError(f"{path} is missing; make it with make bench")
    record = json.loads(path.read_text())
    infos = [each["extra_info"] for each in record["benchmarks"]]
    lines = ["| | " + " | ".join(f"`{name}`" for name in CONTENDERS) + " |", "|---" * 4 + "|"]
    for workload, label in WORKLOADS.items():
        ratio, peak = (_of(infos, workload, key) for key in ("ratio", "peak_ratio"))
        cells = [f"{ratio[name]:.2f}, {_memory(peak, name)}" for name in CONTENDERS]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    timed = next(info for info in infos if "ratio" in info)
    machine = record["machine_info"]["cpu"]
    lines += [
        "",
        f"Time, peak memory. Medians of {timed['rounds']} steps, the sides interleaved in one "
        f"process; memory of the whole process. {machine['count']} cores of "
        f"{machine['brand_raw']}, {timed['threads']} threads, torch {timed['torch']}, commit "
        f"{record['commit_info']['id'][:9]} (`make bench`).",
    ]
    return "\n".join(lines)


def _of(infos: list[dict], workload: str, key: str) -> dict[str, float]:
    return next(info[key] for info in infos if key in info and info["workload"] == workload)


def _memory(peak: dict[str, float], name: str) -> str:
    return f"{peak[name]:.2f}" if name in peak else "-"


def _filled(text: str, name: str, table: str) -> str:
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ExperimentError(f"the README has no place for {name}: {start.strip()} ... {end}")
    before, rest = text.split(start)
    return f"{before}{start}\n{table}\n\n{end}{rest.split(end)[1]}"
