"""The data sets, as tensors on the device.

A published data set is fetched once into the user's cache and checked. Where the environment
variable `GDTUO_DATA` names a folder that holds it already (`$GDTUO_DATA/mnist/...`), that copy is
checked and used and nothing is fetched. One data set never stands in for another.
"""

import gzip
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pooch
import torch
from torch import Tensor

from experiments import ExperimentError, synthetic, vision

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
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
}
# What the official files hold, unpacked: Debian's package dataset-fashion-mnist has the same, but
# without the time and name in the header of gzip.
FASHION_CONTENTS = {
    "train-images-idx3-ubyte.gz": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "train-labels-idx1-ubyte.gz": "9018921c3c673c538a1fc5bad174d6f9",
    "t10k-images-idx3-ubyte.gz": "8181f5470baa50b63fa0f6fddb340f0a",
    "t10k-labels-idx1-ubyte.gz": "15d484375f8d13e6eb1aabb0c3f46965",
}
FASHION_MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
CIFAR10_MD5 = {CIFAR10_ARCHIVE: "c32a1d4ab5d03f1284b67883e8d87530"}
CIFAR10_MIRRORS = ("https://www.cs.toronto.edu/~kriz/",)
CIFAR10_FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
# A copy that is known not to be the official one: it went through pictures.
CIFAR10_STAND_IN = {
    "data_batch_1.bin": "e8800bf27ec6f45491f149f7317b9608",
    "data_batch_2.bin": "7d723ade99f73b811cfabf20cb43fa92",
    "data_batch_3.bin": "d89dc53bd17e60b84343cd94e9eafc38",
    "data_batch_4.bin": "5099218b3dec0d98fa89086d0d317020",
    "data_batch_5.bin": "1c39cedb4666850d181538cfcd1008d1",
    "test_batch.bin": "4fd89b928a74095080b56355876466c0",
}
CIFAR10_NOTE = "a copy of CIFAR-10 in which 93 of the 60,000 images were decoded from JPEG"
TOLSTOY_MD5 = {"warpeace_input.txt": "b8f88074d99d3b99ec43061f3305f4fa"}
TOLSTOY_MIRRORS = ("https://cs.stanford.edu/people/karpathy/char-rnn/",)
SONNETS = Path(__file__).parent / "texts" / "sonnets.txt"
DIGITS_TRAIN = 1297  # the first images train, the last 500 test


@dataclass(frozen=True)
class Dataset:
    """Examples: images in [0, 1] (large ones as bytes) with their classes as integers, or others.

    `fingerprint` is a hash of the contents, whichever file or archive they came from; `note` what
    every record must say of them.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    fingerprint: str
    note: str = ""


@dataclass(frozen=True)
class Text:
    """A text as a vector of integers, each the place of a byte among the different ones there are.

    `size` is the number of different bytes.
    """

    characters: Tensor
    size: int
    fingerprint: str


def load(name: str, device: str = "cpu") -> Any:
    """The data set `name`, on `device`, a `Dataset` or a `Text`; read once in a process.

    Raises:
        ExperimentError: the name is unknown, or the data are not to be had or not what they
            should be.
    """
    return _load(name, device, os.environ.get("GDTUO_DATA"))


@lru_cache(maxsize=4)
def _load(name: str, device: str, root: str | None) -> Dataset | Text:
    if name in TEXTS:
        return _text(TEXTS[name](root), device)
    if name not in READERS:
        known = ", ".join([*READERS, *TEXTS])
        raise ExperimentError(f"there is no data set {name!r}; known: {known}")
    arrays, scale, note = READERS[name](root)
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape} {array.dtype}".encode())
        digest.update(array.tobytes())
    train_x, train_y, test_x, test_y = (torch.from_numpy(array.copy()) for array in arrays)
    if not train_y.is_floating_point():
        train_y, test_y = train_y.long(), test_y.long()
    if scale is not None:
        train_x, test_x = train_x.float() / scale, test_x.float() / scale
    return Dataset(
        train_x.to(device),
        train_y.to(device),
        test_x.to(device),
        test_y.to(device),
        digest.hexdigest()[:16],
        note,
    )


def _text(content: bytes, device: str) -> Text:
    alphabet, characters = np.unique(np.frombuffer(content, np.uint8), return_inverse=True)
    fingerprint = hashlib.sha256(content).hexdigest()[:16]
    return Text(torch.from_numpy(characters).long().to(device), len(alphabet), fingerprint)


Read = tuple[list[np.ndarray], float | None, str]  # arrays, what to divide by, note


def _mnist(root: str | None) -> Read:
    paths = _files(root, "mnist", MNIST_FILES, MNIST_MIRRORS)
    return [_read_idx(path) for path in paths], 255.0, ""


def _fashion(root: str | None) -> Read:
    paths = _files(root, "fashion", FASHION_FILES, FASHION_MIRRORS, FASHION_CONTENTS)
    return [_read_idx(path) for path in paths], 255.0, ""


def _gaussian(root: str | None) -> Read:
    return synthetic.gaussian(), None, ""


def _low_rank(root: str | None) -> Read:
    return synthetic.low_rank(), None, ""


def _digits(root: str | None) -> Read:
    """The 1797 handwritten digits (8x8) that scikit-learn carries. They are not MNIST."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    n = DIGITS_TRAIN
    return [images[:n], labels[:n], images[n:], labels[n:]], 16.0, ""


def _cifar10(root: str | None) -> Read:
    """Bytes: as floats the images would take 700 MB."""
    folder = Path(root or "") / "cifar10"
    if root is None or (folder / CIFAR10_ARCHIVE).exists():
        (archive,) = _files(root, "cifar10", CIFAR10_MD5, CIFAR10_MIRRORS)
        with tarfile.open(archive) as tar:
            contents = [
                tar.extractfile(f"cifar-10-batches-bin/{file}").read() for file in CIFAR10_FILES
            ]
        note = ""
    else:
        # The official files' own checksums are not published, only their archive's.
        try:
            paths = _files(root, "cifar10", CIFAR10_STAND_IN, ())
        except ExperimentError as error:
            raise ExperimentError(
                f"{error}. To use the official data set, give the archive {CIFAR10_ARCHIVE} itself"
            ) from error
        contents, note = [path.read_bytes() for path in paths], CIFAR10_NOTE
    *train, test = (np.frombuffer(each, np.uint8).reshape(-1, 1 + 3 * 32 * 32) for each in contents)
    arrays = []
    for rows in (np.concatenate(train), test):
        arrays += [rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]]
    return arrays, None, note


def _tolstoy(root: str | None) -> bytes:
    (path,) = _files(root, "tolstoy", TOLSTOY_MD5, TOLSTOY_MIRRORS)
    return path.read_bytes()


def _sonnets(root: str | None) -> bytes:
    """A few of Shakespeare's. They are not War and Peace."""
    return SONNETS.read_bytes()


def _caltech256(root: str | None) -> Read:
    return vision.caltech256(root), None, ""


READERS: dict[str, Callable[[str | None], Read]] = {
    "mnist": _mnist,
    "digits": _digits,
    "fashion": _fashion,
    "gaussian": _gaussian,
    "low_rank": _low_rank,
    "cifar10": _cifar10,
    "caltech256": _caltech256,
}
PHOTOGRAPHS = ("cifar10", "caltech256")  # a mirror image is as good
TEXTS: dict[str, Callable[[str | None], bytes]] = {"tolstoy": _tolstoy, "sonnets": _sonnets}


def _read_idx(path: Path) -> np.ndarray:
    """One array of unsigned bytes in the IDX format: magic number, shape, values."""
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _files(
    root: str | None,
    name: str,
    md5: Mapping[str, str],
    mirrors: tuple[str, ...],
    contents: Mapping[str, str] | None = None,
) -> list[Path]:
    """Checked copies of the files of data set `name`: from `root` if given, else fetched.

    Where `contents` says what they hold, unpacked, files in `root` may be packed in any way.
    """
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
        if found != expected and (not contents or _content(path) != contents[file]):
            raise ExperimentError(
                f"{path} is not the official file: its md5 is {found}, expected {expected}. "
                f"Replace it, or unset GDTUO_DATA to fetch {name} from the network"
            )
    return [folder / file for file in md5]


def _content(path: Path) -> str:
    """The md5 of what a file of gzip holds; empty if it is none."""
    try:
        return hashlib.md5(gzip.decompress(path.read_bytes())).hexdigest()
    except (OSError, EOFError, zlib.error):
        return ""


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
