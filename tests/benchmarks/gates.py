"""What a step may cost: counts that are exact, and ratios of time, against those on record.

`RECORD` is made anew by ``make bench-record``, and held against the code by ``make bench-check``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

import gdtuo
from experiments import ExperimentError
from experiments.provenance import environment, source
from tests.benchmarks import counts
from tests.benchmarks.race import WARM_UP, Race
from tests.benchmarks.trainers import (
    COMPILED,
    DEFAULT,
    LR_ONLY,
    PROMISED,
    TORCH,
    of_model,
    optimizer_of,
    tower,
    trainer,
    with_gradients,
)

RECORD = Path(__file__).parents[2] / "results" / "gates.json"
ANEW = (
    "If that is meant: make bench-record, and commit results/gates.json with the reason. Else the "
    "change has made every user's step dearer."
)
AT_MOST = 1.5  #: a ratio of times over the recorded one: beyond what a busy machine does to it
ROUNDS = 15
ATTEMPTS = 4  #: rounds are added so often before a ratio is said to be too high
ANY_TORCH = ("kept_bytes",)  #: what another version of torch must not change

Exact = dict[str, dict[str, int]]
Ratios = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Counted:
    """A tower on the parameters of a workload's model, whose steps are counted."""

    rule: str
    layout: str = "mlp"
    compile: bool = False
    per: str = "group"
    guard: int = 0

    @property
    def name(self) -> str:
        further = [f"per={self.per}"] * (self.per != "group") + ["guard"] * bool(self.guard)
        return ", ".join([self.rule, self.layout, *further]) + COMPILED * self.compile

    def count(self) -> dict[str, int]:
        """Of one step when all is under way."""
        parameters = of_model(self.layout)
        made: list[gdtuo.Tower] = []

        def make_step() -> Callable[[], Any]:
            rule, safeguards = gdtuo.parse(self.rule), gdtuo.Safeguards(guard=self.guard)
            options = {"per": self.per, "safeguards": safeguards, "compile": self.compile}
            made.append(gdtuo.Tower(parameters, rule, **options))
            return made[0].step

        with counts.new_tensors() as alive:
            counted = counts.compiled(make_step, WARM_UP)
            held_bytes = alive()
        step = made[0].step
        if not self.compile:
            counted = counts.dispatched(step)
        elif not all(counted.values()):
            raise ExperimentError(f"{self.name}: nothing was compiled, so nothing can be counted")
        return counted | {
            "kept_bytes": counts.kept_bytes(made[0]),
            "held_bytes": held_bytes,
            "step_bytes": counts.bytes_of_a_step(step),
        }


def _table() -> Iterator[Counted]:
    for layout in ("mlp", "resnet20"):
        for bottom in ("SGD", "SGD(momentum=0.9)", "AdaGrad", "RMSProp", "Adam"):
            for height in (0, 1, 3):
                yield Counted(tower(height).replace("Adam", bottom, 1), layout)
        for rule in (LR_ONLY, tower(8), "Adam / Adam / SGD(1e-05)", "AdamW / SGD(1e-05)"):
            yield Counted(rule, layout)
        yield Counted(PROMISED, layout, per="tensor")
        yield Counted(PROMISED, layout, guard=100)
        for rule in ("SGD / SGD(1e-05)", PROMISED, tower(3)):
            yield Counted(rule, layout, compile=True)


COUNTED = tuple(_table())

#: what is timed by the name of the record, given the optimizer: the step of 65 tensors shows the
#: overhead, that of a million parameters the passes over memory
TIMED: dict[str, Callable[[str], Callable[[], Any]]] = {
    "training the MLP": lambda contender: trainer("mlp", contender),
    "step() on ResNet-20's tensors": lambda contender: (
        optimizer_of(contender, of_model("resnet20")).step
    ),
    "step() on 1M parameters": lambda contender: (
        optimizer_of(contender, with_gradients([(125_000,)] * 8)).step
    ),
}
CONTENDERS = (PROMISED, LR_ONLY, PROMISED + COMPILED, DEFAULT, DEFAULT + COMPILED)
RACES = tuple((what, contender) for what in TIMED for contender in CONTENDERS)


def exact(table: Iterable[Counted]) -> Exact:
    """The counts of each, by its name."""
    return {counted.name: counted.count() for counted in table}


def ratios(races: Iterable[tuple[str, str]], recorded: Ratios | None = None) -> Ratios:
    """The least of some rounds over ``torch.optim``'s least, the sides interleaved; of more rounds
    where that is beyond what ``recorded`` allows."""
    measured: Ratios = {}
    for what, contender in races:
        name = f"{what}: {contender}"
        race = Race({side: TIMED[what](side) for side in (TORCH, contender)})
        limit = AT_MOST * (recorded or {}).get(name, {}).get("ratio", float("inf"))
        for _ in range(ATTEMPTS):
            race.run(ROUNDS)
            if race.minimum_ratio(contender, TORCH) <= limit:
                break
        info = race.info(over=TORCH)
        measured[name] = {
            "ratio": info["minimum_ratio"][contender],
            "milliseconds": info["minimum_milliseconds"][contender],
            "over_milliseconds": info["minimum_milliseconds"][TORCH],
            "rounds": info["rounds"],
        }
    return measured


@dataclasses.dataclass
class Verdict:
    """What a comparison found: what fails it, what is only said, and how many numbers it made."""

    failures: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    compared: int = 0

    @property
    def passed(self) -> bool:
        return not self.failures


def judge(record: Mapping[str, Any], measured: Exact, timed: Ratios) -> Verdict:
    """Hold what was measured against what is on record."""
    verdict = Verdict()
    same = _same_table("counts", record.get("exact", {}), measured, verdict)
    then, now = record.get("provenance", {}).get("torch"), torch.__version__
    keys = {key for counted in measured.values() for key in counted}
    if then != now:
        skipped = ", ".join(sorted(keys - set(ANY_TORCH)))
        verdict.notes.append(
            f"skipped: {skipped} were recorded with torch {then} and depend on it; this is {now}"
        )
        keys &= set(ANY_TORCH)
    for name in same:
        for key in sorted(keys & (measured[name].keys() | record["exact"][name].keys())):
            _judge_count(
                name, key, record["exact"][name].get(key), measured[name].get(key), verdict
            )
    for name in _same_table("times", record.get("ratios", {}), timed, verdict):
        _judge_ratio(name, record["ratios"][name], timed[name], verdict)
    if not verdict.compared:
        verdict.failures.append(
            "nothing was compared: the record and this check have nothing in common. Make one: "
            "make bench-record"
        )
    return verdict


def _same_table(
    what: str, recorded: Mapping[str, Any], measured: Mapping[str, Any], verdict: Verdict
) -> list[str]:
    for name in sorted(measured.keys() - recorded.keys()):
        verdict.failures.append(f"{name}: its {what} are not on record. Record anew.")
    for name in sorted(recorded.keys() - measured.keys()):
        verdict.failures.append(f"{name}: its {what} are on record, but not measured. Record anew.")
    return [name for name in measured if name in recorded]


def _judge_count(name: str, key: str, then: Any, now: Any, verdict: Verdict) -> None:
    verdict.compared += 1
    if now != then:
        better = None not in (then, now) and now < then
        verdict.failures.append(
            f"{name}: {key} {now}, recorded {then}."
            + (" That is less: record anew, so that it stays." if better else "")
        )


def _judge_ratio(
    name: str, then: Mapping[str, float], now: Mapping[str, float], verdict: Verdict
) -> None:
    verdict.compared += 1
    change = now["ratio"] / then["ratio"]
    text = (
        f"{name}: {now['ratio']:.2f} times {TORCH} ({now['milliseconds']:.3f} over "
        f"{now['over_milliseconds']:.3f} ms, least of {now['rounds']:.0f} rounds), recorded "
        f"{then['ratio']:.2f}: {change:.2f} times that, allowed {AT_MOST}."
    )
    if change > AT_MOST:
        verdict.failures.append(text)
    elif change < 1 / AT_MOST:
        verdict.notes.append(f"{text} Record anew, so that it stays.")


def record(path: Path = RECORD) -> None:
    """Count and time everything, and write it down with where it comes from."""
    finished = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    parts = {
        "provenance": environment("cpu") | source() | {"finished": finished},
        "exact": exact(COUNTED),
        "ratios": ratios(RACES),
    }
    # A configuration a line, so that a change of one shows as that.
    texts = [
        f" {json.dumps(part)}: {{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in entries.items())
        + "\n }"
        for part, entries in parts.items()
    ]
    path.write_text("{\n" + ",\n".join(texts) + "\n}\n", encoding="utf-8")


def read(path: Path = RECORD) -> dict[str, Any]:
    """The record.

    Raises:
        ExperimentError: there is none, or it holds nothing to compare with.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExperimentError(
            f"{path} can't be read ({error}). Make it: make bench-record"
        ) from None
    if not isinstance(found, dict) or not found.get("exact") or not found.get("ratios"):
        raise ExperimentError(f"{path} holds nothing to compare with. Make it: make bench-record")
    return found


def check(path: Path = RECORD) -> Verdict:
    """Measure everything and judge it."""
    found = read(path)
    return judge(found, exact(COUNTED), ratios(RACES, found["ratios"]))
