"""What the paper claims, what was found, and how the two are compared."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from scipy import stats

from experiments.words import counted, fixed
from paper_figures.results import Results

REPRODUCED = "reproduced"
PARTLY = "partly"
NOT = "not"
NOT_TESTABLE = "not testable"
TOO_SHORT = "not testable at this length"
MISSING = "not yet run"
UNKNOWN = (NOT_TESTABLE, TOO_SHORT, MISSING)
TOO_FEW = "There are too few runs to tell."


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its 95 % bootstrap interval, from `n` of `of` runs.

    Without two runs there is no interval; without any there is no mean: these are nan then.
    """

    mean: float
    low: float
    high: float
    n: int
    of: int

    def text(self, digits: int = 2, unit: str = "") -> str:
        """Such as "4.85 [4.79, 4.91]", with "(8 of 10 runs)" where some are missing."""
        if self.n == 0:
            return f"0 of {counted(self.of, 'run')}"
        mean, low, high = (fixed(x, digits) for x in (self.mean, self.low, self.high))
        interval = f" [{low}, {high}]" if self.n > 1 else ""
        gaps = f" ({self.n} of {self.of} runs)" if self.n < self.of else ""
        return f"{mean}{interval}{unit}{gaps}"

    def plain(self, digits: int = 2, unit: str = "") -> str:
        """The mean alone, for a sentence."""
        return f"{fixed(self.mean, digits)}{unit}" if self.n else "as yet unknown"

    @property
    def above(self) -> bool | None:
        """Whether the whole interval is above 0; None if there is none."""
        return bool(self.low > 0) if self.n > 1 else None

    @property
    def count(self) -> str:
        return str(self.n) if self.n == self.of else f"{self.n} of {self.of}"


def estimate(values: Iterable[float], of: int) -> Estimate:
    """The mean of `values`, of which there should be `of`."""
    sample = np.array(list(values))
    if len(sample) < 2:
        return Estimate(sample[0] if len(sample) else math.nan, math.nan, math.nan, len(sample), of)
    return Estimate(sample.mean(), *_interval(tuple(sample)), len(sample), of)


@cache  # the same runs count in a claim, a page and a figure
def _interval(sample: tuple[float, ...]) -> tuple[float, float]:
    """A percentile interval: the corrected ones are undefined where all values are equal."""
    rng = np.random.default_rng(0)
    found = stats.bootstrap((sample,), np.mean, method="percentile", rng=rng).confidence_interval
    return found.low, found.high


def paired(minuend: dict[int, float], subtrahend: dict[int, float], of: int) -> Estimate:
    """The mean difference of two results by seed, over the seeds that both have."""
    return estimate((minuend[s] - subtrahend[s] for s in minuend if s in subtrahend), of)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    Attributes:
        text: what is claimed.
        paper: the paper's number.
        ours: ours, with its interval.
        n: the number of runs behind it.
        verdict: one of this module's constants.
        finding: what there is to say beyond the numbers; may be empty.
        beside: whether the paper doesn't say so, though it is judged with what it says.
    """

    text: str
    paper: str
    ours: str
    n: str
    verdict: str
    finding: str = ""
    beside: bool = False


def share(holds: Sequence[bool | None]) -> str:
    """The verdict on a claim that has several parts."""
    return REPRODUCED if all(holds) else PARTLY if any(holds) else NOT


def graded(reproduced: bool, partly: bool) -> str:
    """The best verdict of those that hold."""
    return REPRODUCED if reproduced else PARTLY if partly else NOT


def share_of(estimates: Sequence[Estimate], holds: Sequence[bool | None]) -> str:
    """`share`, unless an estimate that it rests on has no interval."""
    return lacking(estimates) or share(holds)


def lacking(estimates: Iterable[Estimate], needed: int = 2) -> str:
    """The verdict where one of them has fewer runs than are needed; empty if all have enough."""
    counts = [estimate.n for estimate in estimates]
    if min(counts) >= needed:
        return ""
    return NOT_TESTABLE if any(counts) else MISSING


def tally(parts: Sequence[bool | None], what: str = "") -> str:
    """How many parts hold, of those that are known; without a name, in a table, "-" if none is."""
    known = [part for part in parts if part is not None]
    if not known:
        return f"no {what} yet, as none has runs" if what else "-"
    have = "has" if len(known) == 1 else "have"
    gaps = f" ({len(known)} of {len(parts)} {have} runs)" if len(known) < len(parts) else ""
    return f"{sum(known)} of {len(known)} {what}".rstrip() + gaps


def fewest_runs(estimates: Iterable[Estimate]) -> str:
    """The count of runs of the estimate that has fewest."""
    return min(estimates, key=lambda e: e.n).count


def lines(parts: Iterable[str]) -> str:
    """Several lines in one cell of a Markdown table."""
    return "<br>".join(parts)


def standing(claim: Claim, results: Results, late: bool = False) -> Claim:
    """`claim` as it stands on these results: other data than the paper's test nothing, what shows
    `late` can't be seen in shortened runs, however many there are of them, and if it is not
    testable otherwise that is for want of runs."""
    if claim.verdict == MISSING:
        return claim
    if results.data != results.study.data:
        return replace(claim, verdict=NOT_TESTABLE, finding="")
    if late and results.study.tier(results.tier).shortened:
        return replace(claim, verdict=TOO_SHORT)
    if claim.verdict == NOT_TESTABLE:
        return replace(claim, finding=f"{claim.finding} {TOO_FEW}".strip())
    return claim


def findings(claims: Iterable[Claim]) -> str:
    """A Markdown list of what there is to say about some of the claims; empty if nothing."""
    return "\n".join(f"- {claim.text}: {claim.finding}" for claim in claims if claim.finding)


def ruling(rules: str) -> str:
    """The rules of a page's verdicts, with when they were written."""
    return (
        "The rules of the verdicts, written before these results were seen unless one says "
        f"otherwise:\n\n{rules}"
    )
