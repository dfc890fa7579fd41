"""The records of one study and tier: a file with one JSON object a line, and one writer.

Their order means nothing. A line that was torn by a crash or a full disk is the last one; readers
pass over it and the next writer cuts it off.
"""

import dataclasses
import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from experiments import ExperimentError, tasks
from experiments.provenance import BITS
from experiments.run import SCHEMA, Record, Run

T = TypeVar("T")
CHOSEN_BY = ("finished", "device")  # of a record's provenance, as texts
# Of it too: what readers compare by, and say of where numbers come from.
NEEDED = (*CHOSEN_BY, *BITS, "python", "gdtuo")


def read(path: Path) -> dict[str, Record]:
    """The records in `path` by key; none if there is no such file.

    Of several with one key, a failed one gives way to any other, an older one to a newer.
    """
    return best(entries(path, SCHEMA, _record, (*NEEDED, "data")))


def best(found: Iterable[Record]) -> dict[str, Record]:
    """By key those that count, as in `read`."""
    records: dict[str, Record] = {}
    for record in found:
        known = records.get(record.key)
        if known is None or _rank(known) < _rank(record):
            records[record.key] = record
    return records


def _record(fields: dict[str, Any]) -> Record:
    record = Record(**{**fields, "run": Run(**fields["run"])})
    if record.status not in ("ok", "diverged", "failed"):
        raise ValueError(f"its status is {record.status!r}")
    if (record.final is not None) != (record.status == "ok"):
        raise ValueError(f"its status is {record.status!r}, and its final figures {record.final!r}")
    metric = tasks.find(record.run.task).metric
    if record.final is not None and not isinstance(record.final.get(metric), (int, float)):
        raise TypeError(f"its final {metric} is {record.final.get(metric)!r}")
    return record


def _rank(record: Record) -> tuple[bool, str]:
    return record.status != "failed", record.provenance["finished"]


def entries(
    path: Path,
    schema: int,
    make: Callable[[dict[str, Any]], T],
    needed: Sequence[str] = NEEDED,
) -> Iterator[T]:
    """Every whole line of `path`, made a record by `make`; nothing if there is no such file.

    Args:
        path: the file.
        schema: the one that its records must have.
        make: makes a record of a line's fields.
        needed: what their provenance must have.
    """
    try:
        complete = path.read_bytes().split(b"\n")[:-1]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise ExperimentError(
            f"cannot read {path}: {error.strerror}. Give leave to read it, or name another folder "
            f"with --results"
        ) from error
    for number, line in enumerate(complete, 1):
        place = f"{path}, line {number}"
        try:
            fields = json.loads(line)
            found = fields["schema"]
            made = make(fields) if found == schema else None
            if made is not None:
                _check(fields["provenance"], needed)
        except (ValueError, TypeError, KeyError, AttributeError, ExperimentError) as error:
            raise ExperimentError(
                f"{place} is not a record ({type(error).__name__}: {error}). Restore the file, or "
                f"delete that line: what it recorded can be made again"
            ) from error
        if made is None:
            raise ExperimentError(
                f"{place} has records of schema {found}, and this version reads schema {schema}. "
                f"Move the file away to make its records again, or read it with the version that "
                f"wrote it"
            )
        yield made


def _check(provenance: dict[str, Any], needed: Sequence[str]) -> None:
    """Refuse a record whose provenance lacks what its readers ask for."""
    known = ["clean"] if provenance.get("commit") else []  # whether it is all of the commit
    if lacking := [name for name in dict.fromkeys([*needed, *known]) if name not in provenance]:
        raise ValueError(f"its provenance lacks {', '.join(lacking)}")
    for name in CHOSEN_BY:
        if not isinstance(provenance[name], str):
            raise TypeError(f"{name!r} of its provenance is no text")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the system refuses the block, which writes `path`, is an error that names both."""
    try:
        yield
    except OSError as error:
        raise ExperimentError(
            f"cannot write to {error.filename or path}: {error.strerror or error}. Give leave to "
            f"write there, or make room, or name another folder with --results"
        ) from error


class Writer:
    """The one writer of a file of records; a context manager.

    The file stays locked until the writer is closed or its process ends, however it ends.

    Attributes:
        dropped: how many bytes of a torn last line were cut off.

    Raises:
        ExperimentError: another process is writing the file, or it can't be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("ab", buffering=0)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._file.close()
                raise ExperimentError(
                    f"{path} is being written by another run of the experiments. Wait for it, or "
                    f"stop it, and start again"
                ) from None
            content = path.read_bytes()
            end = content.rfind(b"\n") + 1
            self.dropped = len(content) - end
            self._file.truncate(end)

    def append(self, *records: Any) -> None:
        """Add records (dataclasses), on the disk before this returns, or not at all."""
        lines = [
            json.dumps(dataclasses.asdict(record), allow_nan=False, separators=(",", ":")) + "\n"
            for record in records
        ]
        rest = memoryview("".join(lines).encode())
        size = os.fstat(self._file.fileno()).st_size
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(size)
            raise ExperimentError(
                f"cannot write to {self.path}: {error.strerror}. The records before this one are "
                f"safe; make room and start again"
            ) from error

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()
