"""The records of one study and tier: a file with one JSON object a line, and one writer.

Their order means nothing. A line that was torn by a crash or a full disk is the last one; readers
pass over it and the next writer cuts it off.
"""

import dataclasses
import fcntl
import json
import os
from pathlib import Path

from experiments import ExperimentError
from experiments.run import SCHEMA, Record, Run


def read(path: Path) -> dict[str, Record]:
    """The records in `path` by key; none if there is no such file.

    Of several with one key, a failed one gives way to any other, an older one to a newer.
    """
    records: dict[str, Record] = {}
    if not path.exists():
        return records
    complete = path.read_bytes().split(b"\n")[:-1]
    for number, line in enumerate(complete, 1):
        record = _parse(line, f"{path}, line {number}")
        known = records.get(record.key)
        if known is None or _rank(known) < _rank(record):
            records[record.key] = record
    return records


def _rank(record: Record) -> tuple[bool, str]:
    return record.status != "failed", record.provenance["finished"]


def _parse(line: bytes, place: str) -> Record:
    try:
        fields = json.loads(line)
        schema = fields["schema"]
        if schema == SCHEMA:
            return Record(**{**fields, "run": Run(**fields["run"])})
    except (ValueError, TypeError, KeyError) as error:
        raise ExperimentError(
            f"{place} is not a record ({type(error).__name__}: {error}). Restore the file, or "
            f"delete that line: its run is then trained again"
        ) from error
    raise ExperimentError(
        f"{place} has records of schema {schema}, and this version reads schema {SCHEMA}. Move "
        f"the file away to train its runs again, or read it with the version that wrote it"
    )


class Writer:
    """The one writer of a file of records; a context manager.

    The file stays locked until the writer is closed or its process ends, however it ends.

    Attributes:
        dropped: how many bytes of a torn last line were cut off.

    Raises:
        ExperimentError: another process is writing the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
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

    def append(self, record: Record) -> None:
        """Add a record, on the disk before this returns, or not at all."""
        line = json.dumps(dataclasses.asdict(record), allow_nan=False, separators=(",", ":"))
        rest = memoryview(line.encode() + b"\n")
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
