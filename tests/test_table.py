"""The table lists every rule, and says of each what the contract tests need."""

import dataclasses

import pytest

import gdtuo
from tests import rules_table
from tests.rules_table import BY_RULE, ROWS, public_rules

TESTED = {row.rule for row in ROWS} | {gdtuo.Muon}  # which has tests of its own: see the table


def test_every_public_rule_is_in_the_table():
    assert public_rules() == TESTED


def test_a_public_rule_that_is_not_in_the_table_is_noticed(monkeypatch):
    class Unlisted(gdtuo.Rule):
        lr: float = gdtuo.hyperparameter(default=0.1)

    monkeypatch.setattr(gdtuo, "Unlisted", Unlisted, raising=False)
    assert public_rules() - TESTED == {Unlisted}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_lists_every_hyperparameter_and_constant(row):
    constants = {name for name, spec in row.rule.specs.items() if spec.learned is None}
    assert set(row.constants) == constants
    assert {"lr", *row.others} == set(row.rule().hyperparameters)
    assert BY_RULE[row.rule] is row
    assert row.alike
    if row.published is not None:  # what it hasn't got can be left out
        further = set(row.rule().hyperparameters) - set(row.published.symbols)
        assert all(row.rule.specs[name].optional for name in further)
        assert set(row.published.symbols) <= set(row.rule().hyperparameters)


def test_random_towers_are_of_every_kind():
    """The strategy reaches what it is meant to reach."""
    import hypothesis

    seen: dict[str, set[object]] = {"rule": set(), "height": set(), "learn": set(), "lr": set()}

    @hypothesis.settings(max_examples=150)
    @hypothesis.given(rules_table.towers(expressible=True))
    def collect(rule):
        seen["height"].add(len(rule.levels) - 1)
        for i, level in enumerate(rule.levels):
            seen["rule"].add((type(level), i > 0))
            seen["learn"].add(level.learn)
            seen["lr"].add(level.lr_by_name is not None)

    collect()
    assert seen["height"] == {1, 2, 3, 4}
    published = [row for row in ROWS if row.published is not None]
    assert seen["rule"] == {(row.rule, upper) for row in published for upper in (True, False)}
    assert seen["learn"] == {None, (), ("lr",)}
    assert seen["lr"] == {True, False}


def test_rules_are_frozen_and_hashable():
    rule = gdtuo.SGD(0.1, optimizer=gdtuo.SGD(lr={"momentum": 1e-6, "lr": 1e-5}))
    assert hash(rule) == hash(
        gdtuo.SGD(0.1, optimizer=gdtuo.SGD(lr={"lr": 1e-5, "momentum": 1e-6}))
    )
    with pytest.raises(dataclasses.FrozenInstanceError):
        rule.lr = 0.2  # type: ignore[misc]
