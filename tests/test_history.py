"""The record of what is learned is what the tower says at each step, read without waiting."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import math
import pickle

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

import gdtuo
from gdtuo.history import BLOCK, History
from tests.problem import make_model, train
from tests.rules_table import ROWS, homogeneous

BY_NAME = gdtuo.parse(
    "Adam(0.01) / SGD({lr: 1e-5, beta1: 1e-3, beta2: 1e-3}, momentum=0.5) / SGD(1e-4)"
)
TOWERS = [homogeneous(gdtuo.Adam(0.02, beta1=0.6, beta2=0.8), height) for height in range(4)]
TOWERS += [homogeneous(row.pronounced, 2) for row in ROWS if row.rule.elementwise] + [BY_NAME]


def two_groups(model):
    return [{"params": model[0].named_parameters()}, {"params": model[2].named_parameters()}]


def numbers_of(values, rule, in_coordinates):
    """(level, name, part) -> number, of what `hyperparameters()` or `hypergradients()` returned;
    for a tensor its mean, or the value at the mean of its coordinates."""
    result = {}
    for (j, level), own in zip(enumerate(values), rule.levels, strict=False):
        for name, value in level.items():
            by_name = name == "lr" and own.lr_by_name is not None
            entries = {f"lr[{k}]": v for k, v in value.items()} if by_name else {name: value}
            for entry, each in entries.items():
                for part, x in each.items() if isinstance(each, dict) else [("", each)]:
                    if isinstance(x, torch.Tensor):
                        within = own.specs[name].coordinates if in_coordinates else gdtuo.raw
                        flat = [within.encode(v) for v in x.flatten().tolist()]
                        x = within.decode(torch.tensor(flat, dtype=torch.float64).mean()).item()
                    result[j, entry, part] = x
    return result


@pytest.mark.parametrize("per", ["tower", "group", "tensor", "element"])
@pytest.mark.parametrize("rule", TOWERS, ids=str)
def test_it_is_what_the_tower_says_at_each_step(rule, per):
    model = make_model()
    optimizer = gdtuo.Tower(two_groups(model), rule, per=per)
    expected = {}
    with History(optimizer) as history:
        for i in range(5):
            train(model, optimizer, 1, start=i)
            for g in range(2):
                values = numbers_of(optimizer.hyperparameters(g), rule, in_coordinates=True)
                slopes = numbers_of(optimizer.hypergradients(g), rule, in_coordinates=False)
                for key, value in values.items():
                    expected[i + 1, g, *key] = value, slopes.get(key, math.nan)
    train(model, optimizer, 1, start=5)  # after the end: not recorded
    frame = history.to_frame()
    assert list(frame) == ["step", "group", "level", "name", "part", "value", "hypergradient"]
    found = {key: (v, s) for *key, v, s in frame.itertuples(index=False) for key in [tuple(key)]}
    assert found.keys() == expected.keys()
    assert len(found) == len(frame)
    for key, (value, slope) in expected.items():
        assert found[key][1] == pytest.approx(slope, rel=1e-10, abs=1e-15, nan_ok=True)
        assert found[key][0] == pytest.approx(value, rel=1e-10)


def test_the_mean_over_elements_is_that_of_the_coordinates():
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), homogeneous(gdtuo.Adam(0.02), 1), per="element")
    history = History(optimizer)
    train(model, optimizer, 4)
    frame = history.to_frame()
    beta1 = optimizer.hyperparameters()[0]["beta1"][0]
    mean = torch.atanh(2 * beta1 - 1).mean()
    found = frame.query("level == 0 and name == 'beta1' and part == '0' and step == 4").value.item()
    assert found == pytest.approx(((mean.tanh() + 1) / 2).item(), rel=1e-12)
    assert all(row.numel() < BLOCK * 40 for rows in history._rows for row in rows.blocks)


@pytest.mark.parametrize("per", ["tower", "group", "tensor", "element"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_recorded_step_does_not_wait(per, dtype):
    with FakeTensorMode():
        make = lambda *size: nn.Linear(*size, dtype=dtype)  # noqa: E731
        model = nn.Sequential(make(6, 8), nn.Tanh(), make(8, 3))
        optimizer = gdtuo.Tower(two_groups(model), homogeneous(gdtuo.Adam(), 2), per=per)
        history = History(optimizer)
        for _ in range(4):
            optimizer.zero_grad()
            model(torch.ones(4, 6, dtype=dtype)).sum().backward()
            optimizer.step()
        assert len(history.state_dict()["groups"]) == 2  # nor does keeping it
        with pytest.raises(DataDependentOutputException):  # so that this test can fail
            optimizer.hyperparameters()


def test_an_interval():
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), TOWERS[1])
    history = History(optimizer, every=3)
    train(model, optimizer, 10)
    assert sorted(set(history.to_frame().step)) == [1, 3, 6, 9]
    assert history.step == 10


def test_more_steps_than_a_block_holds():
    w = nn.Parameter(torch.zeros(1))
    optimizer = gdtuo.Tower([w], gdtuo.SGD(1.0, optimizer=gdtuo.SGD(1.0)))
    history = History(optimizer)
    for _ in range(BLOCK + 2):  # a constant gradient of 1: its square is the hypergradient
        w.grad = torch.ones(1)
        optimizer.step()
    frame = history.to_frame().query("level == 0 and name == 'lr'")
    assert frame.step.tolist() == list(range(1, BLOCK + 3))
    assert frame.value.tolist() == [float(i) for i in range(1, BLOCK + 3)]
    assert frame.hypergradient.tolist() == [0.0] + [-1.0] * (BLOCK + 1)


@pytest.mark.parametrize("per", ["tower", "group"])
def test_a_group_added_in_mid_training(per):
    model = make_model()
    optimizer = gdtuo.Tower(model[0].parameters(), gdtuo.parse("SGD(0.1) / SGD(1e-3)"), per=per)
    history = History(optimizer)
    train(model, optimizer, 3)
    own = {"rule": gdtuo.parse("RMSProp / SGD(1e-5)")} if per == "group" else {}
    optimizer.add_param_group({"params": model[2].parameters(), **own})
    train(model, optimizer, 2, start=3)
    frame = history.to_frame()
    assert sorted(set(frame[frame.group == 0].step)) == [1, 2, 3, 4, 5]
    assert sorted(set(frame[frame.group == 1].step)) == [4, 5]
    last = frame[(frame.step == 5) & (frame.level == 0)]
    for g in range(2):
        of_group = last[last.group == g]
        found = dict(zip(of_group.name, of_group.value, strict=True))
        assert found == pytest.approx(optimizer.hyperparameters(g)[0], rel=1e-12)


@pytest.mark.parametrize("per", ["tower", "group", "tensor", "element"])
@pytest.mark.parametrize("rule", [TOWERS[0], TOWERS[2], BY_NAME], ids=str)
def test_a_resumed_run_goes_on_with_its_record(rule, per, tmp_path):
    model = make_model()
    optimizer = gdtuo.Tower(two_groups(model), rule, per=per)
    history = History(optimizer, every=2)
    train(model, optimizer, 5)
    torch.save([x.state_dict() for x in (model, optimizer, history)], tmp_path / "state.pt")
    train(model, optimizer, 5, start=5)

    resumed = make_model()
    resumed_optimizer = gdtuo.Tower(two_groups(resumed), rule, per=per)
    resumed_history = History(resumed_optimizer, every=2)
    states = torch.load(tmp_path / "state.pt", weights_only=True)
    for each, state in zip((resumed, resumed_optimizer, resumed_history), states, strict=True):
        each.load_state_dict(state)
    train(resumed, resumed_optimizer, 5, start=5)
    expected, found = history.to_frame(), resumed_history.to_frame()
    assert found.equals(expected)
    assert sorted(set(found.step)) == [1, 2, 4, 6, 8, 10]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_goes_on_with_the_record_of_its_own_tower(copied):
    model = make_model()
    optimizer = gdtuo.Tower(two_groups(model), TOWERS[1])
    history = History(optimizer, every=2)
    train(model, optimizer, 5)
    other_model, other = copied((model, history))
    train(other_model, other.optimizer, 5, start=5)
    assert sorted(set(history.to_frame().step)) == [1, 2, 4]
    train(model, optimizer, 5, start=5)
    assert other.to_frame().equals(history.to_frame())
    assert other.step == 10
    history.close()
    closed_model, closed = copied((model, history))
    train(closed_model, closed.optimizer, 3)
    closed.close()
    assert closed.step == 10
    assert closed.to_frame().equals(history.to_frame())


def test_a_second_record_of_the_same_tower():
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), TOWERS[1])
    history = History(optimizer)
    train(model, optimizer, 3)
    other = copy.copy(history)
    train(model, optimizer, 2, start=3)
    other.close()
    assert other.to_frame().equals(history.to_frame())
    train(model, optimizer, 1, start=5)
    assert (other.step, history.step) == (5, 6)
    assert sorted(set(history.to_frame().step)) == [1, 2, 3, 4, 5, 6]


class Writer:
    def __init__(self):
        self.written = {}

    def add_scalar(self, tag, value, step):
        assert (tag, step) not in self.written
        self.written[tag, step] = value


def test_tensorboard():
    model = make_model()
    optimizer = gdtuo.Tower(two_groups(model), TOWERS[1], per="tensor")
    history, writer = History(optimizer), Writer()
    train(model, optimizer, 3)
    history.to_tensorboard(writer)
    last = history.step
    train(model, optimizer, 2, start=3)
    history.to_tensorboard(writer, since=last)
    lr = optimizer.hyperparameters(1)[0]["lr"]["bias"]
    assert writer.written["gdtuo/group1/level0/lr/bias", 5] == lr
    slope = optimizer.hypergradients(1)[0]["lr"]["bias"]
    assert writer.written["gdtuo/group1/level0/lr/bias/hypergradient", 5] == slope
    assert "gdtuo/group1/level1/lr/hypergradient", 5 not in writer.written
    frame = history.to_frame()
    assert len(writer.written) == frame.value.count() + frame.hypergradient.count()
    other = Writer()
    history.to_tensorboard(other, prefix="run/learned")
    assert ("run/learned/group0/level1/lr", 1) in other.written


def test_the_real_tensorboard(tmp_path):
    tensorboard = pytest.importorskip("torch.utils.tensorboard", exc_type=ImportError)
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), TOWERS[1])
    history = History(optimizer)
    train(model, optimizer, 3)
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        history.to_tensorboard(writer)
    assert any(path.stat().st_size > 0 for path in tmp_path.iterdir())


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    model = make_model()
    optimizer = gdtuo.Tower(two_groups(model), TOWERS[2], per="tensor")
    history = History(optimizer)
    train(model, optimizer, 20)
    figure = history.plot()
    names = [f"level {i}: {name}" for i in range(2) for name in ("lr", "beta1", "beta2")]
    left, right = figure.axes[::2], figure.axes[1::2]
    assert [axes.get_ylabel() for axes in left] == names
    assert [axes.get_ylabel() for axes in right] == ["hypergradient"] * 6
    assert [axes.get_xlabel() for axes in figure.axes] == [""] * 10 + ["step"] * 2
    labels = [text.get_text() for text in right[0].get_legend().get_texts()]
    assert labels == [f"group {g} {part}" for g in range(2) for part in ("weight", "bias")]
    assert len({line.get_color() for line in left[0].lines}) == 4
    frame = history.to_frame().query("group == 1 and level == 1 and name == 'beta2'")
    drawn = left[5].lines[3]
    assert drawn.get_xdata().tolist() == list(range(1, 21))
    assert drawn.get_ydata().tolist() == frame[frame.part == "bias"].value.tolist()
    figure.savefig(tmp_path / "history.png")
    assert (tmp_path / "history.png").stat().st_size > 10_000


def test_plot_of_a_single_line_has_no_legend_and_large_spans_a_log_scale():
    pytest.importorskip("matplotlib")
    w = nn.Parameter(torch.zeros(1))
    optimizer = gdtuo.Tower([w], gdtuo.SGD(1e-3, optimizer=gdtuo.SGD(1.0)))
    history = History(optimizer)
    for _ in range(3):
        w.grad = torch.ones(1)
        optimizer.step()
    left, right = history.plot().axes
    assert right.get_legend() is None
    assert left.get_yscale() == "log"


def without(monkeypatch, package):
    imported = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.partition(".")[0] == package:
            raise ImportError(name)
        return imported(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    monkeypatch.setattr("importlib.import_module", refuse)


@pytest.mark.parametrize(
    ("package", "method"), [("pandas", "to_frame"), ("matplotlib", "plot")], ids=str
)
def test_what_is_missing_is_named(monkeypatch, package, method):
    history = History(gdtuo.Tower(make_model().parameters(), TOWERS[1]))
    without(monkeypatch, package)
    with pytest.raises(gdtuo.GdtuoError, match=f"{method} needs {package}"):
        getattr(history, method)()


def state_of(rule, per="group", groups_of=two_groups, steps=2):
    model = make_model()
    optimizer = gdtuo.Tower(groups_of(model), rule, per=per)
    history = History(optimizer)
    train(model, optimizer, steps)
    return history.state_dict()


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda tower: History(torch.optim.SGD([nn.Parameter(torch.ones(1))], 0.1)), "is a SGD"),
        (lambda tower: History(tower, every=0), "every=0"),
        (lambda tower: History(tower, every=1.5), "every=1.5"),
        (lambda tower: History(tower, every=True), "every=True"),
        (lambda tower: History(tower).plot(), "nothing that is learned"),
        (lambda tower: History(tower).load_state_dict({}), "not the state of a history"),
        (
            lambda tower: History(tower).load_state_dict(tower.state_dict()),
            "not the state of a history",
        ),
        (lambda tower: History(tower).load_state_dict(state_of(TOWERS[2])), "another tower"),
        (
            lambda tower: History(tower).load_state_dict(
                state_of(dataclasses.replace(TOWERS[1], coordinates={"lr": "log"}))
            ),
            "in other coordinates",
        ),
        (
            lambda tower: History(tower).load_state_dict(state_of(TOWERS[1], per="tensor")),
            "has rows of 15 numbers, this tower of 9",
        ),
        (
            lambda tower: History(tower).load_state_dict(
                state_of(TOWERS[1], groups_of=lambda m: [{"params": [p]} for p in m.parameters()])
            ),
            "with all groups in place",
        ),
        (
            lambda tower: History(tower).load_state_dict(state_of(TOWERS[1]) | {"format": 99}),
            "Upgrade gdtuo",
        ),
    ],
)
def test_errors(use, message):
    with pytest.raises(gdtuo.GdtuoError, match=message):
        use(gdtuo.Tower(two_groups(make_model()), TOWERS[1]))


def test_nothing_recorded_is_an_empty_frame():
    history = History(gdtuo.Tower(make_model().parameters(), TOWERS[1]))
    assert len(history.to_frame()) == 0
    writer = Writer()
    history.to_tensorboard(writer)
    assert writer.written == {}


def test_nothing_learned_has_a_frame_but_no_plot():
    model = make_model()
    optimizer = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.1))
    history = History(optimizer)
    train(model, optimizer, 2)
    frame = history.to_frame()
    assert frame.query("name == 'lr'").value.tolist() == pytest.approx([0.1, 0.1])
    with pytest.raises(gdtuo.GdtuoError, match="nothing that is learned"):
        history.plot()


@pytest.mark.parametrize("resumes", [False, True])
def test_a_model_that_is_cast_is_recorded_in_its_digits(resumes):
    model = make_model(torch.float32)
    tower = gdtuo.Tower(model.parameters(), gdtuo.SGD(0.05, optimizer=gdtuo.SGD(0.01)))
    history = History(tower)
    train(model, tower, 2, dtype=torch.float32)
    first = tower.hyperparameters()[0]["lr"]
    model.double()
    if resumes:
        state = history.state_dict()
        history.close()
        history = History(tower)
        history.load_state_dict(state)
    train(model, tower, 2)
    frame = history.to_frame()
    values = frame[(frame.level == 0) & (frame.name == "lr")].value.tolist()
    assert values[1] == first
    assert values[3] == tower.hyperparameters()[0]["lr"]
    assert copy.deepcopy(history).to_frame().equals(frame)


def test_a_tensor_without_elements_has_no_mean():
    w, empty = nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(0, 3))
    tower = gdtuo.Tower([w, empty], gdtuo.SGD(0.05, optimizer=gdtuo.SGD(0.01)), per="element")
    history = History(tower)
    for p in (w, empty):
        p.grad = torch.ones_like(p)
    tower.step()
    frame = history.to_frame()
    learned = frame[(frame.level == 0) & (frame.name == "lr")]
    assert learned.part.tolist() == ["0"]
    assert learned.value.notna().all()
