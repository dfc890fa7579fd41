"""The data sets, as tensors on the device.

A published data set is fetched once into the user's cache and checked. Where the environment
variable `GDTUO_DATA` names a folder that holds it already (`$GDTUO_DATA/mnist/...`), that copy is
checked and used and nothing is fetched. One data set never stands in for another.
"""

import gzip
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pooch
import torch
from torch import Tensor

from experiments import ExperimentError

MNIST_FILES = {
    "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
}
MNIST_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
DIGITS_TRAIN = 1297  # the first images train, the last 500 test


@dataclass(frozen=True)
class Dataset:
    """A classification data set: inputs in [0, 1], integer targets.

    `fingerprint` is a hash of the contents, whichever file or archive they came from.
    """

    name: str
    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    fingerprint: str


def load(name: str, device: str = "cpu") -> Dataset:
    """The data set `name`, on `device`; read once in a process.

    Raises:
        ExperimentError: the name is unknown, or the data are not to be had or not what they
            should be.
    """
    return _load(name, device, os.environ.get("GDTUO_DATA"))


@lru_cache(maxsize=4)
def _load(name: str, device: str, root: str | None) -> Dataset:
    if name not in READERS:
        raise ExperimentError(f"there is no data set {name!r}; known: {', '.join(READERS)}")
    arrays, scale = READERS[name](root)
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    train_x, train_y, test_x, test_y = (torch.from_numpy(array.copy()) for array in arrays)
    return Dataset(
        name,
        (train_x.float() / scale).to(device),
        train_y.long().to(device),
        (test_x.float() / scale).to(device),
        test_y.long().to(device),
        digest.hexdigest()[:16],
    )


def _mnist(root: str | None) -> tuple[list[np.ndarray], float]:
    return [_read_idx(path) for path in _files(root, "mnist", MNIST_FILES, MNIST_MIRRORS)], 255.0


def _digits(root: str | None) -> tuple[list[np.ndarray], float]:
    """The 1797 handwritten digits (8x8) that scikit-learn carries. They are not MNIST."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    n = DIGITS_TRAIN
    return [images[:n], labels[:n], images[n:], labels[n:]], 16.0


READERS: dict[str, Callable[[str | None], tuple[list[np.ndarray], float]]] = {
    "mnist": _mnist,
    "digits": _digits,
}


def _read_idx(path: Path) -> np.ndarray:
    """One array of unsigned bytes in the IDX format: magic number, shape, values."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _files(
    root: str | None, name: str, md5: Mapping[str, str], mirrors: tuple[str, ...]
) -> list[Path]:
    """Checked copies of the files of data set `name`: from `root` if given, else fetched."""
    if root is None:
        return [_fetch(name, file, expected, mirrors) for file, expected in md5.items()]
    folder = Path(root) / name
    for path in (Path(root), folder):
        if not path.is_dir():
            raise ExperimentError(
                f"GDTUO_DATA is {root!r}, but {path} is not a folder; {name} is expected in "
                f"{folder}. Correct GDTUO_DATA, or unset it to fetch {name} from the network"
            )
    for file, expected in md5.items():
        path = folder / file
        if not path.is_file():
            raise ExperimentError(
                f"{path} is missing; {folder} must hold {', '.join(md5)}. Add it, or unset "
                f"GDTUO_DATA to fetch {name} from the network"
            )
        found = hashlib.md5(path.read_bytes()).hexdigest()
        if found != expected:
            raise ExperimentError(
                f"{path} is not the official file: its md5 is {found}, expected {expected}. "
                f"Replace it, or unset GDTUO_DATA to fetch {name} from the network"
            )
    return [folder / file for file in md5]


def _fetch(name: str, file: str, md5: str, mirrors: tuple[str, ...]) -> Path:
    cache = pooch.os_cache("gdtuo") / name
    reasons = []
    for mirror in mirrors:
        try:
            path = pooch.retrieve(mirror + file, f"md5:{md5}", file, cache, progressbar=True)
            return Path(path)
        except (OSError, ValueError) as error:  # no answer, or an answer with a wrong checksum
            reasons.append(f"  {mirror}: {error}")
    raise ExperimentError(
        f"cannot fetch {file} of {name}: it is not in {cache}, and no mirror gave it:\n"
        + "\n".join(reasons)
        + f"\nEither connect to the network and try again, or set GDTUO_DATA to a folder "
        f"that holds {name}/{file}"
    )
