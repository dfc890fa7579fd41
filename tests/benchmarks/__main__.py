"""`python -m tests.benchmarks check | record | compare`: the commands of the Makefile."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from experiments import ExperimentError
from tests.benchmarks import compare, gates


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    commands = parser.add_subparsers(required=True)
    for name, command, about in (
        ("check", _check, "hold a step's cost against the record"),
        ("record", _record, "write that record anew"),
    ):
        sub = commands.add_parser(name, help=about)
        sub.add_argument("--record", type=Path, default=gates.RECORD, help="its file")
        sub.set_defaults(command=command)
    sub = commands.add_parser("compare", help="this machine's ratios beside the committed ones")
    sub.add_argument("fresh", type=Path, nargs="?", help="a record by make bench; none: make one")
    sub.set_defaults(command=_compare)
    options = parser.parse_args(arguments)
    try:
        return int(options.command(options))
    except ExperimentError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _check(options: argparse.Namespace) -> int:
    _settle()
    verdict = gates.check(options.record)
    for note in verdict.notes:
        print(note)
    for failure in verdict.failures:
        print(f"FAILED {failure}")
    if verdict.passed:
        print(f"{verdict.compared} counts and ratios are as recorded.")
        return 0
    print(f"{len(verdict.failures)} of {verdict.compared} comparisons failed. {gates.ANEW}")
    return 1


def _record(options: argparse.Namespace) -> int:
    _settle()
    gates.record(options.record)
    print(f"Recorded in {options.record}.")
    return 0


def _settle() -> None:
    """One thread: the other cores may be somebody else's."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def _compare(options: argparse.Namespace) -> int:
    print(compare.table(compare.committed(), compare.fresh(options.fresh)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
