"""`python -m paper_figures [STUDY] [--tier TIER]`: draw and judge, from the records alone."""

import argparse
import sys
from pathlib import Path

from experiments import ExperimentError, studies
from experiments.study import RESULTS
from paper_figures import readme, report, table1
from paper_figures.results import load

FIGURES = {"table1": table1}


def main() -> int:
    parser = argparse.ArgumentParser("python -m paper_figures", description=__doc__)
    parser.add_argument("study", nargs="?", choices=list(FIGURES), help="default: all")
    parser.add_argument("--tier", help="default: the fullest that has records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
    options = parser.parse_args()
    try:
        for name in [options.study] if options.study else FIGURES:
            results = load(studies.find(name), options.results, options.tier)
            FIGURES[name].draw(results, options.results / name)
            print(f"{options.results / name}: {FIGURES[name].caption(results)}")
        drawn = [(FIGURES[name], load(studies.find(name), options.results)) for name in FIGURES]
        print(report.write(drawn, options.results))
        if options.results == RESULTS:
            print(readme.write(dict(zip(FIGURES, drawn, strict=True))["table1"][1], RESULTS))
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
