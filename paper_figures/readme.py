"""The tables that the README and docs/performance.md show, filled in from `results/`."""

import json
from pathlib import Path

from experiments import ExperimentError
from experiments.files import write_text
from paper_figures import table1
from paper_figures.results import Results
from paper_figures.table1_claims import judge_rows

README = Path(__file__).parents[1] / "README.md"
PERFORMANCE = README.parent / "docs" / "performance.md"
BENCHMARKS = "benchmarks.json"  # pytest-benchmark's record, by `make bench`
WORKLOADS = {
    "resnet20": "ResNet-20, batch 128",
    "lstm": "LSTM 2x128, batch 50, sequence 50",
    "mlp": "MLP 784-128-10, batch 256",
}
STEPS = {
    100_000: "`step()` alone, 0.1 million parameters",
    8_000_000: "`step()` alone, 8 million",
    50_000_000: "`step()` alone, 50 million",
}
CONTENDERS = (
    "Adam / SGD(1e-05)",
    "Adam / SGD(1e-05), compiled",
    "Adam^lr / SGD(1e-05)",
    "published Adam / SGD(1e-05)",
)
COMPILED = ("Adam / SGD(1e-05), compiled", "Adam^lr / SGD(1e-05), compiled")


def write(results: Results, summary: str, folder: Path, readme: Path = README) -> Path:
    """Fill in the README's tables, `summary` of all verdicts among them; returns its path."""
    text = readme.read_text(encoding="utf-8")
    text = _filled(text, "verdicts", summary)
    text = _filled(text, "table1", table1.rows(results, judge_rows(results)))
    text = _filled(text, "benchmarks", benchmarks(folder / BENCHMARKS))
    write_text(readme, text)
    return readme


def write_performance(folder: Path, page: Path = PERFORMANCE) -> Path:
    """Fill in the tables of the page on what a step costs; returns its path."""
    text = _filled(page.read_text(encoding="utf-8"), "floor", floor(folder / BENCHMARKS))
    text = _filled(text, "gap", gap(folder / BENCHMARKS))
    write_text(page, text)
    return page


def floor(path: Path) -> str:
    """What the two passes of a compiled step take, in memory and within the caches."""
    infos = [each["extra_info"] for each in _record(path)["benchmarks"]]
    infos = [info for info in infos if "nanoseconds_an_element" in info]
    lines = [
        "| nanoseconds an element | pull back | update | together, over fused | fused | copy |"
    ]
    lines.append("|---|---|---|---|---|---|")
    for info in infos:
        for key, where in (("", "in memory"), ("_in_the_caches", "in the caches")):
            x = info["nanoseconds_an_element" + key]
            both = (x["pull"] + x["update"]) / x["fused"]
            cells = [f"{x['pull']:.2f}", f"{x['update']:.2f}", f"{both:.2f}"]
            cells += [f"{x['fused']:.2f}", f"{x['copy']:.2f}"]
            lines.append(f"| `{info['tower']}`, {where} | {' | '.join(cells)} |")
    if infos:
        lines += ["", f"Threads: {infos[0]['threads']}; torch {infos[0]['torch']}."]
    return "\n".join(lines)


def gap(path: Path) -> str:
    """A compiled step over the fastest form of ``torch.optim.Adam``."""
    infos = [each["extra_info"] for each in _record(path)["benchmarks"]]
    sides = [{"workload": name} for name in WORKLOADS] + [{"parameters": n} for n in STEPS]
    lines = ["| | " + " | ".join(f"`{name}`" for name in COMPILED) + " |", "|---|---|---|"]
    for side, label in zip(sides, (*WORKLOADS.values(), *STEPS.values()), strict=True):
        times = _of(infos, "ratio", **side)
        fastest = min((x for name, x in times.items() if name.startswith("torch")), default=1.0)
        cells = [f"{times[name] / fastest:.2f}" if name in times else "-" for name in COMPILED]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for info in (info for info in infos if "members" in info):
        (times,) = (x for name, x in info["ratio"].items() if name.endswith("compiled"))
        count = info["members"]
        label = f"a member's step in an ensemble of {count}, over one model's with `Adam` unfused"
        lines.append(f"| {label} | {times:.2f} | - |")
    return "\n".join(lines)


def _record(path: Path) -> dict:
    if not path.exists():
        raise ExperimentError(f"{path} is missing; make it with make bench")
    return json.loads(path.read_text())


def benchmarks(path: Path) -> str:
    """The ratios of time and of peak memory, and what they were measured on."""
    record = _record(path)
    infos = [each["extra_info"] for each in record["benchmarks"]]
    lines = ["| | " + " | ".join(f"`{name}`" for name in CONTENDERS) + " |"]
    lines.append("|---" * (1 + len(CONTENDERS)) + "|")
    for workload, label in WORKLOADS.items():
        times, peaks = (_of(infos, key, workload=workload) for key in ("ratio", "peak_ratio"))
        lines.append(_row(label, times, peaks))
    for size, label in STEPS.items():
        times = _of(infos, "ratio", parameters=size)
        lines += [_row(label, times, {})] if times else []
    timed = next((info for info in infos if "ratio" in info and "workload" in info), None)
    if timed is None:
        raise ExperimentError(f"{path} has no training steps; make it anew with make bench")
    machine = record["machine_info"]["cpu"]
    lines += [
        "",
        "Time, peak memory; `torch.optim.Adam` as it is by default, not fused. Medians of steps, "
        f"the sides interleaved in one process; memory of the whole process. "
        f"{machine['count']} cores of {machine['brand_raw']}, {timed['threads']} threads, torch "
        f"{timed['torch']}, commit {record['commit_info']['id'][:9]} (`make bench`).",
    ]
    return "\n".join(lines)


def _row(label: str, times: dict[str, float], peaks: dict[str, float]) -> str:
    cells = [
        ", ".join(f"{of[name]:.2f}" for of in (times, peaks) if name in of) or "-"
        for name in CONTENDERS
    ]
    return f"| {label} | " + " | ".join(cells) + " |"


def _of(infos: list[dict], key: str, **where: str | int) -> dict[str, float]:
    """Empty where the record has none: one of an older commit measured less."""
    return next((x[key] for x in infos if key in x and where.items() <= x.items()), {})


def _filled(text: str, name: str, table: str) -> str:
    start, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        raise ExperimentError(f"the README has no place for {name}: {start.strip()} ... {end}")
    before, rest = text.split(start)
    return f"{before}{start}\n{table}\n\n{end}{rest.split(end)[1]}"
