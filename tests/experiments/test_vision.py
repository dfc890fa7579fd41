"""Fig. 4e: up to the doors of torchvision. Where it imports, test_smoke.py trains it."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from experiments import ExperimentError, vision
from experiments.cli import main
from experiments.studies import find
from experiments.tasks.resnet152 import ResNet152

SMOKE = find("figure4e").tier("smoke").options


@pytest.fixture
def without(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)


def test_without_torchvision_nothing_is_begun(without, tmp_path, capsys):
    assert main(["run", "figure4e", "--tier", "smoke", "--results", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert "the task resnet152 needs torchvision, which does not import here" in message
    assert "pip install '.[torchvision]' in the clone" in message
    assert not any(path.read_text() for path in tmp_path.rglob("*.jsonl"))


class Net(nn.Sequential):
    """Of a residual network, what the task touches."""

    def __init__(self):
        super().__init__()
        self.pool, self.flat = nn.AdaptiveAvgPool2d(4), nn.Flatten()
        self.fc = nn.Linear(48, 1000)


@pytest.fixture
def stand_in(monkeypatch):
    """As much of torchvision as is called, with its signatures."""
    preset = SimpleNamespace(mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])
    asked = []

    def get_model(name, weights=None):
        asked.append((name, weights))
        return Net()

    weights = {"IMAGENET1K_V1": SimpleNamespace(transforms=lambda: preset)}
    models = SimpleNamespace(get_model=get_model, get_model_weights=lambda name: weights)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))
    return SimpleNamespace(models=models, asked=asked)


def test_the_last_layer_is_the_tasks(stand_in):
    task = ResNet152("digits", 0, "cpu", **SMOKE)
    assert task.model.fc.out_features == 10
    assert stand_in.asked == [("resnet18", None)]
    task.begin()
    task.loss(0).backward()
    assert 0 <= task.evaluate()["test_error"] <= 100


def test_pretrained_weights_come_with_their_normalisation(stand_in):
    task = ResNet152("digits", 0, "cpu")
    assert stand_in.asked == [("resnet152", "IMAGENET1K_V1")]
    assert task.mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert task.deviation.flatten().tolist() == pytest.approx([58.395, 57.12, 57.375])


def test_weights_that_can_not_be_fetched(stand_in):
    def get_model(name, weights=None):
        raise OSError("no route to host")

    stand_in.models.get_model = get_model
    with pytest.raises(ExperimentError, match="cannot fetch the ImageNet weights of resnet152"):
        ResNet152("digits", 0, "cpu")


@pytest.mark.parametrize("size", [(300, 500), (500, 300), (20, 21), (256, 256)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_images_are_cropped_to_their_middle(size, mode):
    found = vision._cropped(Image.new(mode, size, 7 if mode == "L" else (7, 7, 7)))
    assert found.shape == (3, 224, 224)
    assert (found == 7).all()


class Folder(list):
    """Twenty images of five categories, as torchvision gives them."""

    def __init__(self, root, download):
        if not (root / "caltech256").is_dir():
            raise RuntimeError("Dataset not found or corrupted.")
        self.y = [i // 4 for i in range(20)]
        super().__init__((Image.new("RGB", (300, 260), (y, y, y)), y) for y in self.y)


def test_caltech256_is_split(stand_in, monkeypatch, tmp_path):
    datasets = SimpleNamespace(Caltech256=Folder)
    monkeypatch.setattr(sys.modules["torchvision"], "datasets", datasets, raising=False)
    with pytest.raises(ExperimentError, match=r"cannot read caltech256 in .*Dataset not found"):
        vision.caltech256(str(tmp_path))
    (tmp_path / "caltech256").mkdir()
    train, labels, test, others = vision.caltech256(str(tmp_path))
    assert (len(train), len(test)) == (16, 4)
    assert sorted([*labels, *others]) == [i // 4 for i in range(20)]
    np.testing.assert_array_equal(train[:, 0, 0, 0], labels)
    assert torch.from_numpy(train).dtype == torch.uint8
