"""`results/REPORT.md`: whether the paper reproduces, in two pages."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from paper_figures import limitations, points, unsaid
from paper_figures.claims import MISSING, NOT, NOT_TESTABLE, PARTLY, REPRODUCED, TOO_SHORT
from paper_figures.claims_page import Judged
from paper_figures.results import TITLES, Results, extent

VERDICTS = (REPRODUCED, PARTLY, NOT, NOT_TESTABLE, TOO_SHORT, MISSING)
# The studies of each part of the paper.
PARTS = {
    "Sections 3.1 and 3.2: a perceptron on MNIST": ("table1", "kappa", "choices"),
    "Section 3.3.1: ResNet-20 on CIFAR-10": ("figure2a", "figure2b"),
    "Section 3.3.2: a character LSTM on War and Peace": ("figure3",),
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
# What is judged there is not the paper's, and is counted by itself.
GOALS = PARTS["Beside the paper: a default that needs no tuning"]


def write(judged: Sequence[Judged], folder: Path) -> Path:
    """Write the report into `folder`; returns its path."""
    by_study = {results.study.name: (module, results, c) for module, results, c in judged}
    claimed, goals = _apart(judged)
    counts, own = (
        Counter(claim.verdict for _, _, claims in each for claim in claims)
        for each in (claimed, goals)
    )
    parts = [
        "# Does the paper reproduce?",
        f"Of {sum(counts.values())} claims: {_counted(counts)}"
        + (f". Of {sum(own.values())} goals beside the paper: {_counted(own)}" if goals else "")
        + ". [CLAIMS.md](CLAIMS.md) has each with the paper's number, ours, the rule that decides, "
        "and where the records come from. This page is "
        "written by `python -m paper_figures` from the same records; brackets are 95 % bootstrap "
        "intervals over the seeds.",
        verdicts(judged),
        "## What was found",
    ]
    for title, studies in PARTS.items():
        found = [_finding(*by_study[name]) for name in studies if name in by_study]
        if found:
            parts += [f"### {title}", "\n".join(found)]
    results = [found for _, found, _ in judged if found.all()]
    parts += ["## What the paper leaves out", unsaid.table(results)]
    parts += ["## The paper's limitations", limitations.table(results)]
    path = folder / "REPORT.md"
    path.write_text("\n\n".join(parts) + "\n")
    return path


def verdicts(judged: Sequence[Judged]) -> str:
    """How many claims of each study came out how, as a table in Markdown; goals come last."""
    claimed, goals = _apart(judged)
    total = Counter(claim.verdict for _, _, claims in judged for claim in claims)
    known = [verdict for verdict in VERDICTS if total[verdict]]
    rows = []
    for some, title in ((claimed, "in all"), (goals, "goals in all")):
        counts = [Counter(claim.verdict for claim in claims) for _, _, claims in some]
        rows += [
            [results.study.title, results.tier, *(str(count[verdict] or "") for verdict in known)]
            for (_, results, _), count in zip(some, counts, strict=True)
        ]
        sums = sum(counts, Counter())
        if some:
            row = [f"**{title}**", "", *(f"**{sums[v]}**" if sums[v] else "" for v in known)]
            rows.append(row)
    return points.table(["claims of", "tier", *known], rows)


def _apart(judged: Sequence[Judged]) -> tuple[list[Judged], list[Judged]]:
    """What is judged of the paper, and what of goals beside it."""
    claimed = [each for each in judged if each[1].study.name not in GOALS]
    return claimed, [each for each in judged if each[1].study.name in GOALS]


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
    runs = f", {extent(results)}" if isinstance(results, Results) else ""
    about = f"tier {results.tier}{runs}"
    return f"- {title} ({about}). {module.summary(results)}{against} {link}"
