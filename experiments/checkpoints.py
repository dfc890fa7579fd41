"""Paused runs on the disk: a file for each batch, in a folder beside the records.

A file is a line of JSON that says what it is of, then the payload. Its one writer is that of the
records.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import torch

import gdtuo
from experiments import ExperimentError
from experiments.files import replacing
from experiments.run import Run, Unfinished

FORMAT = 2  # raised when what a payload holds changes


class _OtherVersionError(ExperimentError):
    """A checkpoint that those who have the version that wrote it can go on from."""


def folder(path: Path) -> Path:
    """Where the checkpoints of the runs recorded in `path` are."""
    return path.with_suffix(".unfinished")


def save(path: Path, unfinished: Unfinished) -> None:
    """Put `unfinished` beside the records in `path`: all of it, on the disk, or not at all."""
    header = {
        **_versions(),
        "runs": [dataclasses.asdict(run) for run in unfinished.runs],
        "keys": [run.key for run in unfinished.runs],
        "epoch": unfinished.epoch,
        "batch": unfinished.batch,
        "sha256": hashlib.sha256(unfinished.payload).hexdigest(),
    }
    file = place(path, unfinished.runs)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as stream:
            stream.write(json.dumps(header).encode() + b"\n")
            stream.write(unfinished.payload)
    except OSError as error:
        raise ExperimentError(
            f"cannot write to {file}: {error.strerror}. All records are safe, and so is the last "
            f"checkpoint of these runs if there is one; make room and start again"
        ) from error


def load(path: Path, wanted: Collection[str], say: Callable[[str], object]) -> list[Unfinished]:
    """All that can be gone on from; what nobody can is removed, and `say` is told.

    Those of other versions are left to them, and are in nobody's way as long as none of their runs
    is among `wanted`, by key.

    Raises:
        ExperimentError: there is one that can't be read, or one of other versions is in the way.
    """
    found = []
    for file in sorted(folder(path).glob("*")):
        content = _content(file)
        try:
            unfinished = _read(file, content, wanted)
        except _OtherVersionError:
            raise
        except (ValueError, TypeError, KeyError, gdtuo.GdtuoError, ExperimentError) as error:
            say(f"{file} is removed, and its runs start afresh: {error or type(error).__name__}")
            file.unlink()
        else:
            found += [unfinished] if unfinished else []
    return found


def progress(path: Path) -> dict[str, tuple[int, int]]:
    """For each paused run its epoch, and how many steps of that are done, by key."""
    found = {}
    for file in sorted(folder(path).glob("*.pt")):
        try:
            with file.open("rb") as stream:
                header = json.loads(stream.readline())
            found |= {key: (header["epoch"], header["batch"]) for key in header["keys"]}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # `load` says so, when the runs are gone on with
    return found


def remove(path: Path, runs: Sequence[Run]) -> None:
    """Remove the checkpoint of this batch, if there is one."""
    place(path, runs).unlink(missing_ok=True)
    if folder(path).exists() and not any(folder(path).iterdir()):
        folder(path).rmdir()


def place(path: Path, runs: Sequence[Run]) -> Path:
    """Where the checkpoint of this batch is, if there is one."""
    name = hashlib.sha256(" ".join(run.key for run in runs).encode()).hexdigest()[:16]
    return folder(path) / f"{name}.pt"


def _versions() -> dict[str, Any]:
    return {"format": FORMAT, "gdtuo": gdtuo.__version__, "torch": torch.__version__}


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ExperimentError(
            f"cannot read {file}: {error.strerror}. It is left as it is; give leave to read it and "
            f"start again, or remove it, and its runs start afresh"
        ) from error


def _read(file: Path, content: bytes, wanted: Collection[str]) -> Unfinished | None:
    """What is in a checkpoint; None if it is of other versions, and not of what is wanted."""
    if file.suffix != ".pt":
        raise ExperimentError("its writing was broken off")
    line, _, payload = content.partition(b"\n")
    try:
        header = json.loads(line)
    except ValueError:
        raise ExperimentError("it is no checkpoint") from None
    for name, version in _versions().items():
        if header[name] != version:
            if not any(key in wanted for key in header["keys"]):
                return None
            raise _OtherVersionError(
                f"{file} was written with {name} {header[name]}, and this is {version}. Go on with "
                f"the other, or remove the file, and its runs start afresh"
            )
    if hashlib.sha256(payload).hexdigest() != header["sha256"]:
        raise ExperimentError("it is torn")
    runs = tuple(Run(**fields) for fields in header["runs"])
    if [run.key for run in runs] != header["keys"]:
        raise ExperimentError("it is of another version of the task")
    return Unfinished(runs, header["epoch"], header["batch"], payload)
