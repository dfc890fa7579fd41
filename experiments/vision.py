"""torchvision, which one experiment needs, and the data set that it reads."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pooch

from experiments import ExperimentError

TRAIN = 0.8  # the share of Caltech-256 that trains; the paper doesn't say
RESIZED, SIDE = 256, 224  # as ImageNet's test images are


def torchvision(what: str) -> ModuleType:
    """The package, or an error that says that `what` needs it.

    Raises:
        ExperimentError: it does not import.
    """
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:  # the latter: built for another torch
        raise ExperimentError(
            f"{what} needs torchvision, which does not import here ({type(error).__name__}: "
            f"{error}). Install it with pip install '.[torchvision]' in the clone, beside a torch "
            f"that it was built for"
        ) from error
    return torchvision


def caltech256(root: str | None) -> list[np.ndarray]:
    """Training images and labels, test images and labels: bytes, 4.6 GB of them.

    Args:
        root: the folder that holds `caltech256/256_ObjectCategories`; None: fetched into the
            user's cache.
    """
    datasets = torchvision("the data set caltech256").datasets
    folder = Path(root or pooch.os_cache("gdtuo"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = datasets.Caltech256(folder, download=root is None)
    except (OSError, RuntimeError) as error:  # no network; a wrong checksum; nothing there
        raise ExperimentError(
            f"cannot read caltech256 in {folder / 'caltech256'} ({type(error).__name__}: {error}). "
            f"Either connect to the network, or set GDTUO_DATA to a folder that holds "
            f"caltech256/256_ObjectCategories"
        ) from error
    images = np.empty((len(found), 3, SIDE, SIDE), np.uint8)
    labels = np.empty(len(found), np.int16)
    for i, (image, label) in enumerate(found):
        images[i], labels[i] = _cropped(image), label
    order = np.random.default_rng(0).permutation(len(found))  # the files come by category
    train, test = np.split(order, [int(TRAIN * len(order))])
    return [images[train], labels[train], images[test], labels[test]]


def _cropped(image) -> np.ndarray:
    """The middle of an image whose shorter side is `RESIZED`."""
    image = image.convert("RGB")
    scale = RESIZED / min(image.size)
    width, height = (max(RESIZED, round(scale * side)) for side in image.size)
    left, top = (width - SIDE) // 2, (height - SIDE) // 2
    image = image.resize((width, height)).crop((left, top, left + SIDE, top + SIDE))
    return np.asarray(image).transpose(2, 0, 1)
