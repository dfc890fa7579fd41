"""`python -m paper_figures [STUDY] [--tier TIER]`: draw and judge, from the records alone."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from experiments import ExperimentError
from experiments.store import writing
from experiments.studies import EXHIBITS, having
from experiments.study import RESULTS
from experiments.words import unread
from paper_figures import (
    choices,
    claims_page,
    cost,
    figure2a,
    figure2b,
    figure3,
    figure3_choices,
    figure4a,
    figure4b,
    figure4c,
    figure4c_adam,
    figure4d,
    figure4d_adam,
    figure4e,
    figure4f,
    heights2019,
    heldout,
    horizon,
    ingredients,
    kappa,
    peers,
    readme,
    report,
    robustness,
    sensitivity2019,
    table1,
)
from paper_figures.results import Results, load, look, nothing

# In the order of `CLAIMS.md`: the paper's, those of its version of 2019, and those beside it.
FIGURES = {
    "table1": table1,
    "figure2a": figure2a,
    "figure2b": figure2b,
    "figure3": figure3,
    "figure4a": figure4a.FIGURE,
    "figure4b": figure4b.FIGURE,
    "figure4c": figure4c.FIGURE,
    "figure4d": figure4d.FIGURE,
    "figure4e": figure4e.FIGURE,
    "figure4f": figure4f,
    "sensitivity2019": sensitivity2019,
    "heights2019": heights2019,
    "kappa": kappa,
    "horizon": horizon,
    "choices": choices.FIGURE,
    "figure3_choices": figure3_choices.FIGURE,
    "figure4c_adam": figure4c_adam.FIGURE,
    "figure4d_adam": figure4d_adam.FIGURE,
    "robustness": robustness,
    "peers": peers,
    "ingredients": ingredients,
    "heldout": heldout,
    "cost": cost,
}


def main() -> int:
    parser = argparse.ArgumentParser(
        "python -m paper_figures",
        description="Draw tables and figures and judge the paper's claims, from the records alone.",
    )
    parser.add_argument(
        "study",
        nargs="?",
        choices=list(FIGURES),
        metavar="study",
        help=f"one of: {', '.join(FIGURES)}; default: all",
    )
    parser.add_argument("--tier", help="default: the fullest of which a seed is whole")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    parser.add_argument("--verdicts", action="store_true", help="only print how many claims hold")
    options = parser.parse_args()
    try:
        if options.verdicts:
            print(report.verdicts(_judged(options.results, {})), flush=True)
            return 0
        chosen = _chosen(options)
        for name, results in chosen.items():
            with writing(options.results / name):
                FIGURES[name].draw(results, options.results / name)
            print(f"{options.results / name}: {FIGURES[name].caption(results)}")
        judged = _judged(options.results, {} if options.tier else chosen)
        for _, results, _ in judged:
            if not results.all():
                print(f"{options.results / results.study.name}: not yet run")
        with writing(options.results):
            print(claims_page.write(judged, options.results))
            print(report.write(judged, options.results))
            if options.results.resolve() == RESULTS.resolve():
                summary = report.verdicts(judged)
                print(readme.write(load(EXHIBITS["table1"], RESULTS), summary, RESULTS))
                print(readme.write_performance(RESULTS))
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        unread()
        return 1
    return 0


def _judged(folder: Path, known: Mapping[str, Results]) -> list[claims_page.Judged]:
    """The claims of every study, on the tier that shows most; `known` are read already."""
    return claims_page.judge(
        [
            (figure, known.get(name) or look(EXHIBITS[name], folder) or nothing(EXHIBITS[name]))
            for name, figure in FIGURES.items()
        ]
    )


def _chosen(options: argparse.Namespace) -> dict[str, Results]:
    """What to draw: the study that was named, which must have records, or all that have some."""
    if options.study:
        study = EXHIBITS[options.study]
        return {study.name: load(study, options.results, options.tier)}
    studies = having(options.tier, {name: EXHIBITS[name] for name in FIGURES})
    found = {name: look(each, options.results, options.tier) for name, each in studies.items()}
    if not any(found.values()):
        load(next(iter(studies.values())), options.results, options.tier)  # says what to do
    return {name: results for name, results in found.items() if results}


if __name__ == "__main__":
    sys.exit(main())
