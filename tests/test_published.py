"""Random towers against the published package, live and in float64."""

from __future__ import annotations

import inspect
import math
from typing import Any

import hypothesis
import pytest
import torch

import gdtuo
from gdtuo import Rule
from tests.problem import loss_at, make_model
from tests.rules_table import BY_RULE, ROWS, towers

published = pytest.importorskip(
    "gradient_descent_the_ultimate_optimizer.gdtuo",
    reason="the published package, gradient-descent-the-ultimate-optimizer, is not installed",
)

STEPS = 20


@pytest.fixture(autouse=True, scope="module")
def _float64():
    """The published hyperparameters are created with the default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


Entries = list[tuple[str, str]]  # what may be learned beneath: its name here, and theirs


def publish(rule: Rule, beneath: Entries) -> Any:
    """The same tower of the published package."""
    row = BY_RULE[type(rule)].published
    assert row is not None
    if rule.lr_by_name is not None:
        sizes = [(key, rule.lr_by_name[name]) for name, key in beneath if name in rule.lr_by_name]
        above = _above(rule, [("lr", f"{key}_alpha") for key, _ in sizes])
        return published.SGDPerParam(sizes, optimizer=above)
    symbols = row.symbols
    name = row.name if rule.learn != ("lr",) else row.only_lr
    arguments = {symbol: getattr(rule, name) for name, symbol in symbols.items()}
    return getattr(published, name)(**arguments, optimizer=_above(rule, list(symbols.items())))


def _above(rule: Rule, entries: Entries) -> Any:
    if rule.optimizer is None or not rule.learned:
        return published.NoOpOptimizer()
    return publish(rule.optimizer, entries)


def read(rule: Rule, theirs: Any) -> list[dict[str, Any]]:
    """Their hyperparameters, in their own units: level 0 first; of a step size by name, a list."""
    row = BY_RULE[type(rule)].published
    assert row is not None
    here: dict[str, Any] = {}
    if rule.lr_by_name is not None:
        here["lr"] = [x.item() for x in theirs.parameters.values()]
    else:
        for name, symbol in row.symbols.items():
            here[name] = getattr(rule, name)
            if symbol in theirs.parameters:
                x = theirs.parameters[symbol].item()
                x = x * x if name in row.squared else x
                here[name] = (math.tanh(x) + 1) / 2 if name in row.logistic else x
    if isinstance(theirs.optimizer, published.NoOpOptimizer):
        return [here]
    assert rule.optimizer is not None
    return [here, *read(rule.optimizer, theirs.optimizer)]


def close(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    for name, value in theirs.items():
        mine = list(ours[name].values()) if isinstance(value, list) else ours[name]
        assert mine == pytest.approx(value, rel=1e-9, abs=1e-9), name


def compare(rule: Rule) -> int:
    """Train both; how many steps were compared."""
    ours, theirs = make_model(), make_model()
    tower = gdtuo.Tower(ours.parameters(), rule)
    wrapper = published.ModuleWrapper(theirs, optimizer=publish(rule, []))
    wrapper.initialize()
    for i in range(STEPS):
        tower.zero_grad()
        loss = loss_at(ours, i)
        loss.backward()
        tower.step()
        wrapper.begin()
        their_loss = loss_at(wrapper.forward, i)
        if not (their_loss < 50):  # diverged; a diverging run amplifies the last digit
            assert i > 2
            return i
        wrapper.zero_grad()
        their_loss.backward()
        wrapper.step()
        assert loss.item() == pytest.approx(their_loss.item(), rel=1e-9, abs=1e-9)
    values = tower.hyperparameters()
    for mine, other in zip(values, read(rule, wrapper.optimizer), strict=False):
        close(mine, other)
    # What is above a frozen level is as it was.
    height = len(read(rule, wrapper.optimizer))
    for level, mine in list(zip(rule.levels, values, strict=True))[height:]:
        if level.lr_by_name is None:
            assert mine == pytest.approx({name: getattr(level, name) for name in mine}, rel=1e-12)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.detach(), q.detach(), rtol=1e-9, atol=1e-9)
    return STEPS


@hypothesis.settings(max_examples=60)
@hypothesis.given(towers(expressible=True))
def test_random_towers(rule):
    hypothesis.note(str(rule))
    compare(rule)


@pytest.mark.slow
@hypothesis.settings(max_examples=500)
@hypothesis.given(towers(expressible=True))
def test_many_random_towers(rule):
    hypothesis.note(str(rule))
    compare(rule)


@pytest.mark.parametrize("row", BY_RULE.values(), ids=lambda row: row.name)
@pytest.mark.parametrize("height", range(5))
def test_a_rule_on_itself(row, height):
    if row.published is None:
        pytest.skip("the published package hasn't got it")
    rule = None
    for i in range(height, -1, -1):
        lr = 0.003 * 10.0**-i
        rule = row.rule(lr, optimizer=rule)
    assert compare(rule) == STEPS


@pytest.mark.parametrize(
    "text",
    [
        "SGD(0.05, momentum=0.8) / SGD({lr: 0.001, momentum: 0.01})",
        "SGD(0.05, momentum=0.8) / SGD({momentum: 0.01})",
        "Adam(0.01) / SGD({beta1: 0.001, lr: 1e-05})",
        "RMSProp(0.005) / SGD({gamma: 0.01}) / Adam(0.0001)",
        "SGD(0.05, momentum=0.8) / SGD({lr: 0.001, momentum: 0.01}) / RMSProp(1e-05)",
        "SGD(0.05, momentum=0.8) / SGD({lr: 0.001, momentum: 0.01}) / SGD({lr: 0.01}) / SGD(0.001)",
        "Adam^lr(0.01) / SGD(1e-05) / Adam^lr(1e-06) / SGD(1e-08)",
        "RMSProp^lr(0.005) / RMSProp^lr(1e-05) / SGD(1e-07)",
        "SGD(0.05) / SGD^{}(0.001) / SGD(0.1)",
    ],
)
def test_particular_towers(text):
    assert compare(gdtuo.parse(text)) == STEPS


@pytest.mark.parametrize("row", [row for row in ROWS if row.published], ids=lambda row: row.name)
def test_defaults_are_the_published_ones(row):
    theirs = inspect.signature(getattr(published, row.published.name)).parameters
    for name, symbol in row.published.symbols.items():
        assert getattr(row.rule(), name) == theirs[symbol].default
