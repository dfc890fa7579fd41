"""What Figs. 4a to 4e say of towers by first step size, and how far our runs bear it out."""

import math
from collections.abc import Sequence
from statistics import mean

from experiments.studies.tower_sweeps import TowerSweep, name
from experiments.words import counted
from paper_figures import tower_sweeps_width
from paper_figures.claims import (
    NOT,
    PARTLY,
    REPRODUCED,
    Claim,
    estimate,
    fewest_runs,
    graded,
    lacking,
    lines,
    paired,
    share_of,
    standing,
    tally,
)
from paper_figures.results import Results
from paper_figures.tower_sweeps_lines import (
    Line,
    Lines,
    diverged,
    mean_widths,
    point,
    whole_lines,
)


def rules(study: TowerSweep, guess: str) -> str:
    """The rules of the verdicts; `guess` says what a run that diverged counts as."""
    apart = "a decade" if study.spacing == 1 else f"{study.spacing} decades"
    shortened = any(tier.shortened for tier in study.tiers.values())
    return f"""\
- The paper prints no numbers for this figure; its values are read off it. A point agrees if our
  mean is within 1{UNITS[study.unit]} of the paper's, or within a quarter of it. \
A line is `reproduced` if four
  fifths of the points that can be read agree, `partly` if half do.
- A run that diverged counts with {guess}.
- Too small a step size: {_range(study.small, study.small)}. A level more helps there if the 95 %
  bootstrap interval of what it takes off the mean {study.label}, paired by seed, lies
  above 0.{SHORTENED if shortened else ""}
- The width at a height is the number of step sizes, tried {apart} apart, that end within 10 % of
  the least at that height; each stands for {apart}. Only seeds that have run from every step
  size of a height have one there. A level more widens the set if the 95 %
  interval of the difference of the widths, paired by seed, lies above 0. What ends no better than a
  guess counts in no width: where all runs fail it is 0. (This came after Fig. 4d had been seen at
  tier small, where it had been the full width.)
{tower_sweeps_width.rule(study)}\
{FAILS.format(f"{study.fails:g}{study.unit}") if _tries_too_large(study) else ""}\
- A claim about several heights is `reproduced` if it holds for all of them, `partly` for some.
- Numbers from another data set than the paper's are `not testable`."""


def _short(lr: float) -> str:
    """1e-8 and not 1e-08."""
    return f"1e{round(math.log10(lr))}"


SHORTENED = """
  In a shortened tier it is over those that have several seeds. If every level helps even so, the
  claim is `reproduced`; if not, it is `not testable at this length`, as all others are there but
  for what more steps can't undo, which is that runs diverged. A point is lost if at least half of
  its runs did and our mean would be off even if all others ended at the paper's value. A line of
  which fewer than half of the points would agree, if all that aren't lost did, is `not`. A level
  under which at least half of the runs from too small a step size diverged, and more than without
  it, can't be seen to help: if another is, the claim is `partly`. (This came after Figs. 4c and 4d
  had been seen at tier small. For a time a mean that was lower than the paper's already was lost
  too; but runs were seen to rise again and to diverge late.)"""
FAILS = """\
- A step size fails at a height if the 95 % interval of the error there lies above {}. That it fails
  at every height is `partly` if the mean error is above that at some. (This came after the results
  of Figs. 4a and 4b; until then a mean above it was a failure.)
"""
UNITS = {" %": " point", "": ""}
AMONG_TEN = "an error of 90 %, that of a guess among ten classes"
FAR_TOO_LARGE = 10.0  # beyond which the paper's towers fail too


def _tries_too_large(study: TowerSweep) -> bool:
    return study.step_sizes[-1] > FAR_TOO_LARGE


def judge(results: Results, paper: Lines) -> list[Claim]:
    """Every claim about the figure whose values in the paper are `paper`."""
    heights = results.study.heights
    found = [
        standing(_line(results, h, paper[h]), results, late=not _lost(results, h, paper[h]))
        for h in heights
    ]
    # In a shortened run too small a step size has had less time to grow: a level that helps even so
    # helps, and where one level does and another can't, more time changes nothing.
    small = _small(results, paper)
    settled = small.verdict == REPRODUCED or (small.verdict == PARTLY and _hopeless(results))
    found.append(standing(small, results, late=not settled))
    late = [tower_sweeps_width.wider(results, paper)]
    if _tries_too_large(results.study):
        late.append(_large(results, paper))
    return found + [standing(claim, results, late=True) for claim in late]


def summarized(results: Results, paper: Lines) -> str:
    """The findings in a few sentences."""
    study = results.study
    low = study.step_sizes[0]
    ours = {h: {lr: point(results, h, lr) for lr in paper[h]} for h in study.heights}
    agree = [
        _agrees(ours[h][lr].mean, value) if ours[h][lr].n else None
        for h in study.heights
        for lr, value in paper[h].items()
    ]
    wide = {h: each for h, each in mean_widths(results).items() if each.n}
    read = [h for h in study.heights if low in paper[h]]
    parts = [
        f"Ours agree with the paper's at {tally(agree, 'points')}. From {low:g} the "
        f"{study.label} is {', '.join(ours[h][low].plain(1, study.unit) for h in read)} at heights "
        f"{', '.join(map(str, read))} (the paper's: "
        f"{', '.join(f'{paper[h][low]:.1f}' for h in read)})."
    ]
    lost = sum(diverged(results, h, lr) for h in study.heights for lr in study.step_sizes)
    if lost:
        parts.append(f"{lost} of {counted(len(results.all()), 'run')} diverged.")
    if wide:
        counts = [str(each.n) for each in wide.values()]
        seeds = counts if len({*counts}) > 1 else counts[:1]
        parts.append(
            "The starts that end within 10 % of the best of their height span "
            f"{', '.join(each.plain(1) for each in wide.values())} decades at heights "
            f"{', '.join(map(str, wide))}, in the mean over {', '.join(seeds)} "
            f"{'seed' if seeds == ['1'] else 'seeds'}."
        )
    if study.good is not None:
        parts.append(tower_sweeps_width.counted_good(results, paper))
    return " ".join(parts)


def _agrees(ours: float, paper: float) -> bool:
    return abs(ours - paper) <= max(1, paper / 4)


def _lost(results: Results, height: int, paper: Line) -> int:
    """In a shortened tier, how many points of a line can't agree with more time, for want of runs
    that didn't diverge, if these are so many that the line can't; otherwise 0."""
    lost = sum(
        2 * diverged(results, height, lr) >= results.planned[name(height, lr)]
        and not _agrees((results.study.guess + value) / 2, value)
        for lr, value in paper.items()
    )
    return lost if results.study.tier(results.tier).shortened and 2 * lost > len(paper) else 0


def _line(results: Results, height: int, paper: Line) -> Claim:
    unit = results.study.unit
    ours = {lr: point(results, height, lr) for lr in paper}
    missing = lacking(ours.values(), 1)
    off = [lr for lr, o in ours.items() if not missing and not _agrees(o.mean, paper[lr])]
    agree = 1 - len(off) / len(paper)
    verdict = missing or (REPRODUCED if agree >= 0.8 else PARTLY if agree >= 0.5 else NOT)
    ends = sum(diverged(results, height, lr) for lr in results.study.step_sizes)
    finding = []
    if off:
        finding.append(
            "Away from the paper's: "
            + ", ".join(f"{ours[lr].plain(1)} and not {paper[lr]:.1f} at {lr:g}" for lr in off)
            + "."
        )
    if ends and not missing:
        finding.append(f"{counted(ends, 'run')} diverged.")
    if lost := _lost(results, height, paper):
        verdict = NOT
        points = f"{lost} of {len(paper)} points"
        finding.append(f"{points} are lost: at least half of the runs diverged.")
    return Claim(
        f"Height {height}: {results.study.label} by first step size",
        lines(f"{lr:g}: {value:.1f}{unit}" for lr, value in paper.items()),
        lines(f"{lr:g}: {o.text(1, unit)}" for lr, o in ours.items()),
        fewest_runs(ours.values()),
        verdict,
        " ".join(finding),
    )


def _small(results: Results, paper: Lines) -> Claim:
    small, unit, levels = _small_tried(results), results.study.unit, results.study.helping
    means = {
        h: {s: mean(line.values()) for s, line in whole_lines(results, h, small).items()}
        for h in (0, *levels)
    }
    of = min(results.planned[name(h, lr)] for h in means for lr in small)
    ours = {h: estimate(means[h].values(), of) for h in means}
    gains = [paired(means[h - 1], means[h], of) for h in levels]
    printed = {h: [paper[h][lr] for lr in small if lr in paper[h]] for h in means}
    lacking = [h for h, gain in zip(levels, gains, strict=True) if gain.n > 1 and not gain.low > 0]
    return Claim(
        f"From too small a step size ({_range(small, results.study.small)}), "
        f"{'each level more' if len(levels) > 1 else 'a level'} lowers the "
        f"{results.study.label.removeprefix('test ')}",
        lines(
            f"height {h}: {mean(values):.1f}{unit}"
            for h, values in printed.items()
            if len(values) == len(small)
        ),
        lines(
            [f"height {h}: {each.text(1, unit)}" for h, each in ours.items()]
            + [f"level {h} takes off {g.text(2)}" for h, g in zip(levels, gains, strict=True)]
        ),
        fewest_runs(gains),
        share_of([*ours.values(), *gains], [gain.low > 0 for gain in gains]),
        f"Not shown for level {', '.join(map(str, lacking))}." if lacking else "",
    )


def _small_tried(results: Results) -> tuple[float, ...]:
    """The step sizes that are too small; in a shortened tier those of several seeds, if any."""
    small = results.study.small
    several = tuple(
        lr
        for lr in small
        if all(results.planned[name(height, lr)] > 1 for height in results.study.heights)
    )
    return several or small


def _hopeless(results: Results) -> list[int]:
    """The levels that can't be seen to help from too small a step size, for too many runs diverged
    under them."""
    small = _small_tried(results)

    def lost(height: int) -> int:
        return sum(diverged(results, height, lr) for lr in small)

    def runs(height: int) -> int:
        return sum(results.planned[name(height, lr)] for lr in small)

    return [h for h in results.study.helping if 2 * lost(h) >= runs(h) and lost(h) > lost(h - 1)]


def _range(step_sizes: Sequence[float], whole: Sequence[float]) -> str:
    if step_sizes == whole and len(whole) > 1:
        return f"{_short(whole[0])} to {_short(whole[-1])}"
    return " and ".join(map(_short, step_sizes))


def _large(results: Results, paper: Lines) -> Claim:
    unit, largest = results.study.unit, results.study.step_sizes[-1]
    ours = [point(results, height, largest) for height in results.study.heights]
    below = results.study.step_sizes[-2]
    before = {height: point(results, height, below) for height in results.study.heights}
    limit = results.study.fails
    known = {height: o for height, o in before.items() if o.n > 1}
    failing = [o.low > limit if o.n > 1 else None for o in before.values()]
    verdict = graded(all(o.low > limit for o in ours), any(o.mean > limit for o in ours))
    lost = sum(diverged(results, height, largest) for height in results.study.heights)
    finding = [f"{lost or 'None'} of these runs diverged."] if any(o.n for o in ours) else []
    if known:
        finding.append(
            f"At {below:g} the errors at height {', '.join(map(str, known))} are "
            f"{', '.join(o.plain(1) for o in known.values())}{unit}: {tally(failing)} fail there."
        )
    return Claim(
        f"A far too large step size ({largest:g}) still fails at every height",
        lines(f"height {h}: {line[largest]:.1f}{unit}" for h, line in paper.items()),
        lines(
            f"height {h}: {o.text(1, unit)}"
            for h, o in zip(results.study.heights, ours, strict=True)
        ),
        fewest_runs(ours),
        lacking(ours) or verdict,
        " ".join(finding),
    )
