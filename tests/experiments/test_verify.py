import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments import ExperimentError
from experiments.studies import find
from experiments.sweep import sweep
from experiments.verify import _choose, difference, verify

STUDY = find("table1")


def error(record, value):
    return dataclasses.replace(record, final=record.final | {"test_error": value})


@pytest.fixture
def seeds(run, make_record):
    errors = {0: 5.0, 1: 5.4, 2: 4.6}
    return [
        error(make_record(dataclasses.replace(run, seed=seed)), value)
        for seed, value in errors.items()
    ]


def elsewhere(record):
    return dataclasses.replace(record, provenance=record.provenance | {"processor": "q"})


def test_on_the_same_machine_everything_is_equal_to_the_bit(seeds):
    assert difference(seeds[0], seeds[0], seeds) is None
    assert (
        difference(error(seeds[0], 5.0 + 1e-12), seeds[0], seeds) == "not equal to the bit: final"
    )


def test_elsewhere_the_spread_of_the_seeds_allows_for_some(seeds):
    assert difference(elsewhere(error(seeds[0], 5.5)), seeds[0], seeds) is None
    assert "the seeds allow 5.00 ± 4.58" in difference(
        elsewhere(error(seeds[0], 9.9)), seeds[0], seeds
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"status": "diverged", "final": None}, "diverged"),
        ({"run": None}, "another run"),
        ({"provenance": "data"}, "the data are not"),
    ],
)
def test_elsewhere_what_must_agree_is_named(seeds, change, message):
    found = elsewhere(seeds[0])
    if "provenance" in change:
        change = {"provenance": found.provenance | {"data": "e"}}
    assert message in difference(dataclasses.replace(found, **change), seeds[0], seeds)


def test_a_sample_is_the_seeds_and_has_a_rerun(make_record):
    cells = STUDY.select("smoke")
    records = {cell.run.key: make_record(cell.run) for cell in cells}
    chosen = _choose(cells, records, sample=4, seed=0)
    assert chosen == _choose(cells, records, sample=4, seed=0)
    assert chosen != _choose(cells, records, sample=4, seed=1)
    assert len({cell.run for cell in chosen}) == 4
    assert chosen[0].run.parent
    assert any(cell.run.parent is None for cell in chosen)


@pytest.fixture
def executor():
    with ThreadPoolExecutor(1) as executor:
        yield executor


def test_a_comparison_of_nothing_is_an_error(executor, tmp_path):
    with pytest.raises(ExperimentError, match="nothing was compared"):
        verify(STUDY, executor, results=tmp_path)
    with pytest.raises(ExperimentError, match="nothing was compared"):
        verify(STUDY, executor, tier="smoke", results=tmp_path)


def test_a_record_that_was_tampered_with_is_caught(executor, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    path = STUDY.path("smoke", tmp_path)
    cells = STUDY.select("smoke", "Adam / SGD*", seeds=1)
    sweep([cell.run for cell in cells], path, executor)
    check = {"sample": 2, "results": tmp_path}
    assert verify(STUDY, executor, **check)
    assert "All 2 agree" in capsys.readouterr().out
    first, second = map(json.loads, path.read_text().splitlines())
    first["final"]["test_error"] += 0.2
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    assert not verify(STUDY, executor, **check)
    out = capsys.readouterr().out
    assert "Adam / SGD(1e-05), seed 0: not equal to the bit: final" in out
    assert "1 of 2 agree" in out


def test_a_member_of_an_ensemble_is_compared_as_on_another_machine(seeds):
    member = dataclasses.replace(seeds[0], provenance=seeds[0].provenance | {"ensemble": 16})
    assert difference(error(seeds[0], 5.5), member, seeds) is None
    assert "the seeds allow" in difference(error(seeds[0], 9.9), member, seeds)
    lost = dataclasses.replace(seeds[0], status="diverged", final=None)
    assert "recorded ok" in difference(lost, member, seeds)
