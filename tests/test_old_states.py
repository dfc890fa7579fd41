"""States that earlier versions saved are loaded and gone on from.

Compared with numbers that were recorded with them, so not to the bit: that holds on one machine.
"""

import pytest
import torch
from torch import Tensor

import gdtuo
from gdtuo.learner import FORMAT
from tests.fixtures import make
from tests.test_state import leaves

FILES = sorted(make.HERE.glob("state_*/*.pt"))
every_file = pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}-{p.stem}")
# float32's own digits in the state; then those of parameters that are rounded at every step.
TOLERANCES = {torch.float64: (1e-12, 1e-12), torch.bfloat16: (1e-6, 2e-2)}


def near(found, recorded, tolerance):
    return list(leaves(found)) == pytest.approx(list(leaves(recorded)), rel=tolerance, abs=0.0)


@every_file
def test_a_run_goes_on_from_an_old_state(path):
    saved, case = torch.load(path, weights_only=True), make.CASES[path.stem]
    at_once, later = TOLERANCES[case.dtype]
    model, tower = case.build()
    assert not near(make.values(tower), saved["hyperparameters"], later)
    model.load_state_dict(saved["model"])
    tower.load_state_dict(saved["optimizer"])
    assert near(make.values(tower), saved["hyperparameters"], at_once)
    losses = case.go(model, tower, make.START, make.STEPS)
    assert near(losses, saved["losses"], later)
    assert near(make.values(tower), saved["hyperparameters_after"], later)


@pytest.mark.parametrize("key", ["is_kept", "step", "exp_avg"])
def test_an_old_state_with_something_missing(key):
    path = make.HERE / "state_0.1.0" / "lr_alone.pt"
    saved = torch.load(path, weights_only=True)["optimizer"]
    del saved["state"][0][key]
    _, tower = make.CASES[path.stem].build()
    with pytest.raises(gdtuo.GdtuoError, match=f"The state has no {key}"):
        tower.load_state_dict(saved)


@every_file
def test_without_the_state_a_run_would_be_another(path):
    """So that the test above can fail."""
    saved, case = torch.load(path, weights_only=True), make.CASES[path.stem]
    model, tower = case.build()
    model.load_state_dict(saved["model"])
    for group in tower.param_groups:
        group["initial_lr"] = group["lr"]  # which a scheduler that goes on asks for
    losses = case.go(model, tower, make.START, make.STEPS)
    assert not near(losses, saved["losses"], TOLERANCES[case.dtype][1])


@every_file
def test_an_old_state_is_small_and_plain(path):
    assert path.stat().st_size < 20_000
    found = list(leaves(torch.load(path, weights_only=True)))
    assert {type(leaf) for leaf in found} == {Tensor, int, float}


def test_the_format_of_today_has_been_recorded():
    states = [torch.load(path, weights_only=True)["optimizer"] for path in FILES]
    formats = {group["format"] for state in states for group in state["param_groups"]}
    assert max(formats) == FORMAT


def test_what_has_been_written_is_not_written_over(tmp_path, monkeypatch):
    monkeypatch.setattr(make, "HERE", tmp_path)
    make.main()
    (folder,) = tmp_path.iterdir()
    assert folder.name == f"state_{gdtuo.__version__}"
    written = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(written) == {f"{name}.pt" for name in make.CASES}
    with pytest.raises(SystemExit, match="what has been written stays"):
        make.main()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == written
