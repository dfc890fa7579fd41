"""What the command line can be asked for: commands, their options, and how these are read."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from experiments import verify
from experiments.batches import MEMBERS
from experiments.studies import STUDIES, TIMINGS
from experiments.study import RESULTS

_Parser = argparse.ArgumentParser
SECONDS = {"s": 1, "m": 60, "h": 3600}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for: `command` is its name, the rest are its options."""
    parser = _Parser("python -m experiments", description="The experiments of the paper.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, about: str) -> _Parser:
        command = commands.add_parser(name, help=about, description=about)
        command.add_argument("--results", type=Path, default=RESULTS, help="folder of the records")
        return command

    add("list", "List studies and tiers, and how far they are.")
    run = add("run", "Train what has no result yet.")
    status = add("status", "Say for each cell what there is.")
    plot = add("plot", "Draw tables and figures from the records, and write the report.")
    check = add("verify", "Train a sample again and compare it with the records.")
    clock = add("time", "Measure the run time and memory of a step.")
    run.add_argument(
        "studies",
        nargs="+",
        metavar="study",
        help=f"any of: {', '.join(STUDIES)}; of several, those that have the tier",
    )
    status.add_argument("study", help=f"one of: {', '.join([*STUDIES, *TIMINGS])}")
    clock.add_argument(
        "study", nargs="?", choices=list(TIMINGS), default="figure4f", help="default: %(default)s"
    )
    for command in (run, status, clock):
        command.add_argument(
            "--tier",
            default="paper",
            help="smoke, small or paper, as far as the study has it; default: %(default)s",
        )
        command.add_argument(
            "--only",
            default="*",
            metavar="PATTERN",
            help="only cells, or workloads, that match this shell pattern, such as 'Adam*, rerun'",
        )
    where = run.add_mutually_exclusive_group()
    for command in (where, check):
        # As text: argparse takes a number that is given for the default if it is the same object.
        command.add_argument(
            "--jobs",
            type=_count,
            default=str(os.cpu_count()),
            help="processes; default: %(default)s",
        )
    run.add_argument("--seeds", type=_count, help="no more than the first so many seeds")
    run.add_argument(
        "--time-limit",
        type=_seconds,
        default=float("inf"),
        metavar="TIME",
        help="stop between two steps after 90s, 30m or 2h; the next call goes on from there",
    )
    where.add_argument(
        "--dask",
        metavar="ADDRESS",
        help="train on the workers of this Dask scheduler, such as tcp://10.0.0.1:8786",
    )
    run.add_argument("--limit", type=_count, help="train no more than so many runs of a study now")
    run.add_argument(
        "--members",
        type=_count,
        default=MEMBERS,
        help="train up to so many runs as one ensemble; 1: each alone; default: %(default)s",
    )
    for command in (run, clock, check):
        command.add_argument(
            "--device", default="cpu", help="what to train on; default: %(default)s"
        )
    clock.add_argument(
        "--threads", type=_count, default=os.cpu_count(), help="of torch; default: all"
    )
    clock.add_argument(
        "--no-compile", dest="compile", action="store_false", help="time eager steps only"
    )
    run.add_argument(
        "--cuda-graphs",
        action="store_true",
        help="take the steps of towers that train alone as CUDA graphs: faster, equal to rounding",
    )
    run.add_argument("--dry-run", action="store_true", help="only say what would be trained")
    plot.add_argument("study", nargs="?", help="default: all")
    plot.add_argument("--tier", help="default: the fullest of which a seed is whole")
    check.add_argument(
        "study", nargs="?", help="default: all that have records and train an epoch in a minute"
    )
    check.add_argument("--tier", help="default: the fullest that has records and data")
    check.add_argument(
        "--sample",
        type=_count,
        default=8,
        help="at most so many runs a study, and no more once they have taken "
        f"{verify.SECONDS:.0f} recorded seconds; default: %(default)s",
    )
    check.add_argument("--seed", type=int, default=0, help="of the choice; default: %(default)s")
    return parser.parse_args(arguments)


def _seconds(text: str) -> float:
    """Such as 90s, 30m or 2h."""
    number, unit = text[:-1], text[-1:]
    if unit not in SECONDS or not number.replace(".", "", 1).isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no time; expected such as 90s, 30m or 2h")
    return float(number) * SECONDS[unit]


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no count; expected 1 or more")
    return int(text)
