"""Files that are whole at any time: what is written takes the place of the old file at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """What the block writes becomes the content of `path` at its end, when all is on the disk.

    If the block or the disk fails, the old file stays as it was.
    """
    # In the same folder, for it can only be renamed; and its own of each process.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        with temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename, error.filename2 = os.fspath(path), None  # not the temporary name
        raise


def write_text(path: Path, text: str) -> None:
    """Make `text` the content of `path`, all of it or not at all."""
    with replacing(path) as stream:
        stream.write(text.encode())
