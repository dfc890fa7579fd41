"""`results/REPORT.md`: whether the paper reproduces, and what was found."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from experiments.files import write_text
from experiments.words import counted
from paper_figures import goals, limitations, points, unsaid
from paper_figures.claims import MISSING, NOT, NOT_TESTABLE, PARTLY, REPRODUCED, TOO_SHORT, Claim
from paper_figures.claims_page import Judged
from paper_figures.results import TITLES, Results, particulars

VERDICTS = (REPRODUCED, PARTLY, NOT, NOT_TESTABLE, TOO_SHORT, MISSING)
# The studies of each part of the paper.
PARTS = {
    "Sections 3.1 and 3.2: a perceptron on MNIST": ("table1", "kappa", "choices"),
    "Section 3.3.1: ResNet-20 on CIFAR-10": ("figure2a", "figure2b"),
    "Section 3.3.2: a character LSTM on War and Peace": ("figure3", "figure3_choices"),
    "Section 3.4: taller towers": (
        "figure4a", "figure4b", "figure4c", "figure4c_adam", "figure4d", "figure4d_adam",
        "figure4e", "figure4f",
    ),
    "The version of 2019": ("sensitivity2019", "heights2019"),
    "Beside the paper: is the learned step size greedy?": ("horizon",),
    "Beside the paper: a default that needs no tuning": (
        "robustness", "peers", "ingredients", "heldout", "cost",
    ),
}  # fmt: skip
BESIDE_IT = "Beside the paper"
# What of a part is judged nowhere.
NOT_ATTEMPTED = {
    "The version of 2019": "its Tables 1 and 2 (MNIST in one epoch, and reruns, which end better "
    "there), and what a level of Adam costs to height 50",
}
# What is judged of these is not the paper's, and is counted by itself.
BESIDE = ("kappa", "choices", "figure3_choices", "horizon", "figure4c_adam", "figure4d_adam")
GOALS = PARTS["Beside the paper: a default that needs no tuning"]
# What is counted together: as it is called in the report's first line, and in the table.
GROUPS = {
    "claims of the paper and its version of 2019": "of the paper in all",
    "things measured beside it": "beside it in all",
    "goals of the default": "goals in all",
}


def write(judged: Sequence[Judged], folder: Path) -> Path:
    """Write the report into `folder`; returns its path."""
    by_study = {results.study.name: (module, results, c) for module, results, c in judged}
    groups = zip(GROUPS, _apart(judged), strict=True)
    counts = {title: Counter(_verdicts(group)) for title, group in groups if group}
    parts = [
        "# Does the paper reproduce?",
        "".join(
            f"Of {count.total()} {title}: {_counted(count)}. " for title, count in counts.items()
        )
        + "[CLAIMS.md](CLAIMS.md) has each with the paper's number, ours, the rule that decides, "
        "and where the records come from. This page is "
        "written by `python -m paper_figures` from the same records; brackets are 95 % bootstrap "
        "intervals over the seeds. Of few seeds such an interval is too narrow: of three it is the "
        "span from the least to the greatest, which misses the true mean one time in four.",
        shared([found for _, found, _ in judged if isinstance(found, Results)]),
        verdicts(judged),
        "## What was found",
    ]
    for title, studies in PARTS.items():
        found = [_finding(*by_study[name]) for name in studies if name in by_study]
        if found:
            left = f"\n- Not attempted: {NOT_ATTEMPTED[title]}." if title in NOT_ATTEMPTED else ""
            if studies == GOALS:
                left += f"\n- {_of_the_goals([by_study[n][2] for n in studies if n in by_study])}"
            parts += [f"### {title}", "\n".join(found) + left]
    results = [found for _, found, _ in judged if found.all()]
    parts += ["## What the paper leaves out", unsaid.table(results)]
    parts += ["## The paper's limitations", limitations.table(results)]
    path = folder / "REPORT.md"
    write_text(path, points.page(parts))
    return path


def _of_the_goals(judged: Sequence[Sequence[Claim]]) -> str:
    """What has to be known of them."""
    found = [claim.finding for claims in judged for claim in claims]
    wide = sum(goals.BEYOND in finding for finding in found)
    return (
        "To be read with this: `robustness`, `peers` and `ingredients` are of the tasks that the "
        "default was designed on. It is in its third version; the two before were judged by the "
        "same goals and met fewer ([findings.md](../docs/findings.md#versions)). Rivals are as "
        "their authors recommend, and none was tuned to a task; the default's constants were, to "
        "all of them together. Its goals of nearness are of means: of "
        f"{counted(wide, 'goal')} the interval reaches beyond {goals.SLACK:g} % somewhere, which "
        "the rule for the paper's claims would not let pass."
    )


def shared(results: Sequence[Results]) -> str:
    """How many runs serve several studies, so that what is claimed by these isn't independent;
    empty if none does."""
    studies = defaultdict(set)
    for found in results:
        for record in found.all():
            studies[record.key].add(found.study.name)
    groups = Counter(tuple(sorted(names)) for names in studies.values() if len(names) > 1)
    if not groups:
        return ""
    each = "; ".join(f"{count} {', '.join(names)}" for names, count in groups.most_common())
    return (
        f"Of {counted(len(studies), 'run', ',')}, {groups.total():,} serve more than one study, "
        "being the same in each, so that the claims of these are not independent of one another: "
        f"{each}."
    )


def verdicts(judged: Sequence[Judged]) -> str:
    """How many claims of each study came out how, as a table in Markdown, group by group."""
    total = Counter(_verdicts(judged))
    known = [verdict for verdict in VERDICTS if total[verdict]]
    rows = []
    groups = zip(GROUPS.values(), _apart(judged), strict=True)
    for place, (title, group) in enumerate(groups):
        for each in group:
            _, results, _ = each
            count = Counter(_verdicts([each]))
            named = results.study.title
            if place and not named.startswith(BESIDE_IT):  # a study of the paper, and of more
                named = f"{BESIDE_IT}: {named}"
            row = [named, results.tier, *(str(count[v] or "") for v in known)]
            rows.append(row)
        if group:
            sums = Counter(_verdicts(group))
            row = [f"**{title}**", "", *(f"**{sums[v]}**" if sums[v] else "" for v in known)]
            rows.append(row)
    return points.table(["claims of", "tier", *known], rows)


def _apart(judged: Sequence[Judged]) -> list[list[Judged]]:
    """What is judged of each of `GROUPS`."""
    groups: list[list[Judged]] = [[] for _ in GROUPS]
    for module, results, claims in judged:
        name = results.study.name
        place = 2 if name in GOALS else 1 if name in BESIDE else 0
        groups[place].append((module, results, [c for c in claims if not c.beside]))
        if beside := [c for c in claims if c.beside]:
            groups[1].append((module, results, beside))
    return groups


def _verdicts(judged: Sequence[Judged]) -> list[str]:
    return [claim.verdict for _, _, claims in judged for claim in claims]


def _counted(counts: Counter[str]) -> str:
    return ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])


def _finding(module, results, claims) -> str:
    """What a study found, as an item of a list in Markdown."""
    study = results.study
    title = f"**{study.title}**"
    if not results.all():
        return f"- {title}: not yet run."
    link = f"[more]({study.name}/{results.tier}.md)"
    if isinstance(results, Results) and results.data != study.data:
        return (
            f"- {title}: not yet run on {TITLES.get(study.data, study.data)}. Tier {results.tier} "
            f"is of {results.data}, which tests nothing ({link})."
        )
    failed = [claim.text for claim in claims if claim.verdict == NOT]
    against = f" Not borne out: {'; '.join(failed)}." if failed else ""
    about = [f"tier {results.tier}"]
    if isinstance(results, Results):
        about += particulars(results)
    return f"- {title} ({', '.join(about)}). {module.summary(results)}{against} {link}"
