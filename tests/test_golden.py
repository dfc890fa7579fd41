"""Trajectories of the published code, stored: losses and all levels' hyperparameters."""

import pytest

import gdtuo
from tests.problem import golden, loss_at, make_model


@pytest.mark.parametrize("text", list(golden()["towers"]))
def test_stored_trajectory(text):
    model, expected = make_model(), golden()["towers"][text]
    tower = gdtuo.Tower(model.parameters(), gdtuo.parse(text))
    losses, values = [], []
    for i in range(golden()["problem"]["steps"]):
        tower.zero_grad()
        loss = loss_at(model, i)
        loss.backward()
        tower.step()
        losses.append(loss.item())
        if i % 10 == 9:
            values.append(tower.hyperparameters())
    assert losses == pytest.approx(expected["loss"], rel=0, abs=1e-9)
    theirs = expected["hyperparameters_every_10_steps"]
    assert len(values) == len(theirs) > 0
    for ours, stored in zip(values, theirs, strict=True):
        for level, stored_level in zip(ours, stored, strict=True):
            assert level == pytest.approx(stored_level, rel=0, abs=1e-9)
