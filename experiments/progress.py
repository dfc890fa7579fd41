"""What a sweep says while it runs."""

import sys
from collections import Counter
from collections.abc import Sequence

from tqdm import tqdm

from experiments.run import Record, Unfinished
from experiments.study import Cell


class Progress:
    """The state of a sweep: a bar on a terminal, otherwise a line for each run that is done."""

    def __init__(self, cells: Sequence[Cell], cached: int, missing: int) -> None:
        self.names = {cell.run.key: f"{cell.name}, seed {cell.run.seed}" for cell in cells}
        self.counts = Counter(done=0, cached=cached, diverged=0, failed=0)
        self.paused: set[str] = set()
        self.failed: set[str] = set()
        self.bar = tqdm(total=missing, unit="run", disable=not sys.stderr.isatty())

    def __call__(self, found: Record | Unfinished) -> None:
        if isinstance(found, Unfinished):
            self.paused |= {run.key for run in found.runs}
            return
        self.paused.discard(found.key)
        self.counts["done"] += 1
        if found.status != "ok":
            self.counts[found.status] += 1
        if found.status == "failed":
            self.failed.add(found.key)
        # A batch that was paused goes on whole, be all of it wanted or not.
        name = self.names.get(found.key, f"{found.run.tower}, seed {found.run.seed}")
        line = f"{name}: {found.message or 'ok'} ({found.seconds:.1f} s)"
        if self.bar.disable:
            print(f"[{self.counts['done']}/{self.bar.total}] {line}", flush=True)
        elif found.status != "ok":
            self.bar.write(line)
        self.bar.set_postfix(self.counts)
        self.bar.update()

    def __str__(self) -> str:
        counts = [f"{count} {name}" for name, count in self.counts.items()]
        paused = [f"{len(self.paused)} paused"] if self.paused else []
        return ", ".join(counts + paused)
