import gzip
import hashlib
import io
import math
import os
import shutil
import struct
import tarfile

import pooch
import pytest
import torch

from experiments import ExperimentError, data


@pytest.fixture
def root(tmp_path, monkeypatch):
    """An empty `GDTUO_DATA`."""
    monkeypatch.setenv("GDTUO_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_missing_folder_is_named(root):
    with pytest.raises(ExperimentError, match=r"GDTUO_DATA is .* but .*data is not a folder"):
        data.load("mnist")
    root.mkdir()
    with pytest.raises(ExperimentError, match=r"but .*mnist is not a folder"):
        data.load("mnist")


def test_a_missing_file_is_named(root):
    (root / "mnist").mkdir(parents=True)
    with pytest.raises(ExperimentError, match=r"train-images-idx3-ubyte.gz is missing"):
        data.load("mnist")


def test_a_wrong_checksum_is_shown_beside_the_right_one(root):
    (root / "mnist").mkdir(parents=True)
    for name in data.MNIST_FILES:
        (root / "mnist" / name).write_bytes(b"other")
    found = hashlib.md5(b"other").hexdigest()
    expected = data.MNIST_FILES["train-images-idx3-ubyte.gz"]
    with pytest.raises(ExperimentError, match=f"md5 is {found}, expected {expected}"):
        data.load("mnist")


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """No `GDTUO_DATA`, an empty cache, and mirrors that no machine answers for."""
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    monkeypatch.setattr(
        data,
        "READERS",
        {
            "mnist": lambda root: data._files(
                root, "mnist", data.MNIST_FILES, ("http://localhost:9/",)
            )
        },
    )
    data._load.cache_clear()
    yield
    data._load.cache_clear()


def test_without_a_network_both_ways_out_are_named(offline):
    with pytest.raises(ExperimentError, match=r"(?s)connect to the network .* set GDTUO_DATA"):
        data.load("mnist")


def test_a_mirror_with_other_contents_is_passed_over(offline, tmp_path, monkeypatch):
    for mirror, content in {"bad": b"other", "good": b"right"}.items():
        (tmp_path / mirror).mkdir()
        (tmp_path / mirror / "file").write_bytes(content)

    def copy(url, output_file, pooch):
        shutil.copy(url, output_file)

    monkeypatch.setattr("pooch.core.choose_downloader", lambda url, progressbar: copy)
    md5 = hashlib.md5(b"right").hexdigest()
    mirrors = tuple(f"{tmp_path}/{mirror}/" for mirror in ("bad", "good"))
    assert data._fetch("set", "file", md5, mirrors).read_bytes() == b"right"


def test_an_unknown_data_set_is_named():
    with pytest.raises(ExperimentError, match="no data set 'cifar100'; known: mnist, digits"):
        data.load("cifar100")


def test_digits_are_split_for_good():
    digits = data.load("digits")
    assert digits.train_inputs.shape == (1297, 8, 8)
    assert digits.test_inputs.shape == (500, 8, 8)
    assert digits.train_inputs.min() == 0
    assert digits.train_inputs.max() == 1
    assert digits.fingerprint == "5b2749f58132afd5"


@pytest.mark.skipif("GDTUO_DATA" not in os.environ, reason="needs MNIST: set GDTUO_DATA")
def test_mnist_is_as_published():
    mnist = data.load("mnist")
    assert mnist.train_inputs.shape == (60000, 28, 28)
    assert len(mnist.test_targets) == 10000
    assert mnist.train_inputs.dtype == torch.float32
    assert mnist.train_inputs.max() == 1
    assert mnist.train_targets[:5].tolist() == [5, 0, 4, 1, 9]


@pytest.fixture
def fashion(root, monkeypatch):
    """The folder of a small Fashion-MNIST that counts as the official one."""
    (root / "fashion").mkdir(parents=True)
    arrays = {"train-images": (2, 3, 3), "train-labels": (2,), "t10k-images": (1, 3, 3)}
    for name, shape in {**arrays, "t10k-labels": (1,)}.items():
        rank = len(shape)
        content = bytes([0, 0, 8, rank]) + struct.pack(f">{rank}i", *shape)
        content += bytes(range(math.prod(shape)))
        file = f"{name}-idx{rank}-ubyte.gz"
        packed = gzip.compress(content, mtime=1)
        (root / "fashion" / file).write_bytes(packed)
        monkeypatch.setitem(data.FASHION_FILES, file, hashlib.md5(packed).hexdigest())
        monkeypatch.setitem(data.FASHION_CONTENTS, file, hashlib.md5(content).hexdigest())
    data._load.cache_clear()
    yield root / "fashion"
    data._load.cache_clear()


def test_fashion_may_be_packed_in_another_way(fashion):
    official = data.load("fashion")
    for path in fashion.iterdir():
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), mtime=2))
    data._load.cache_clear()
    images = data.load("fashion")
    assert images.fingerprint == official.fingerprint
    assert (255 * images.train_inputs[1].flatten()).round().tolist() == list(range(9, 18))
    assert images.train_targets.tolist() == [0, 1]


@pytest.mark.parametrize(
    "spoil", [lambda b: b[:-9], lambda b: b"other", lambda b: gzip.compress(b)]
)
def test_fashion_with_other_contents_is_refused(fashion, spoil):
    path = fashion / "t10k-labels-idx1-ubyte.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(
        ExperimentError, match=r"t10k-labels-idx1-ubyte.gz is not the official file"
    ):
        data.load("fashion")


@pytest.mark.skipif(
    not os.path.isdir(os.path.join(os.environ.get("GDTUO_DATA", ""), "fashion")),
    reason="needs Fashion-MNIST: set GDTUO_DATA",
)
def test_fashion_is_as_published():
    images = data.load("fashion")
    assert images.train_inputs.shape == (60000, 28, 28)
    assert images.train_targets.bincount().tolist() == [6000] * 10
    assert images.test_targets.bincount().tolist() == [1000] * 10
    assert images.train_targets[:5].tolist() == [9, 0, 0, 3, 0]


def test_gaussian_is_the_same_for_good():
    made = data.load("gaussian")
    inputs = made.train_inputs
    assert inputs.shape == made.test_inputs.shape == (5000, 50)
    covariance = inputs.T @ inputs / len(inputs)
    assert (covariance - torch.eye(50)).abs().max() < 0.1
    assert 0.45 < made.train_targets.float().mean() < 0.55
    assert made.fingerprint == "4b621c8f362259d8"


def test_low_rank_is_the_same_for_good():
    made = data.load("low_rank")
    places, values = made.train_inputs, made.train_targets
    assert (places.shape, made.test_inputs.shape) == ((30_000, 2), (5_000, 2))
    assert len(torch.cat([places, made.test_inputs]).unique(dim=0)) == 35_000
    assert (places.amin(dim=0).tolist(), places.amax(dim=0).tolist()) == ([0, 0], [599, 399])
    assert values.dtype == torch.float32
    assert values.var() == pytest.approx(1, abs=0.05)
    assert made.fingerprint == "865e462095506b0e"


@pytest.fixture
def archive(root, monkeypatch):
    """A small `cifar-10-binary.tar.gz` that counts as the official one; its path."""
    path = root / "cifar10" / data.CIFAR10_ARCHIVE
    path.parent.mkdir(parents=True)
    with tarfile.open(path, "w:gz") as tar:
        for number, name in enumerate(data.CIFAR10_FILES):
            image = bytes([number]) + bytes(range(256)) * 12
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = 2 * len(image)
            tar.addfile(entry, io.BytesIO(image * 2))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setitem(data.CIFAR10_MD5, data.CIFAR10_ARCHIVE, md5)
    data._load.cache_clear()
    yield path
    data._load.cache_clear()


def test_cifar10_is_read_from_its_archive(archive):
    images = data.load("cifar10")
    assert images.train_targets.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert images.test_targets.tolist() == [5, 5]
    red, green, blue = images.test_inputs[0].reshape(3, 4, 256)
    assert red.equal(blue)
    assert red[0].tolist() == green[0].tolist() == list(range(256))
    assert images.note == ""


def test_a_corrupt_archive_is_refused(archive):
    archive.write_bytes(archive.read_bytes()[:-9])
    with pytest.raises(ExperimentError, match=r"cifar-10-binary.tar.gz is not the official file"):
        data.load("cifar10")


def test_files_of_unknown_origin_are_refused(root):
    (root / "cifar10").mkdir(parents=True)
    for name in data.CIFAR10_FILES:
        (root / "cifar10" / name).write_bytes(b"other")
    with pytest.raises(ExperimentError, match=r"give the archive cifar-10-binary.tar.gz"):
        data.load("cifar10")
