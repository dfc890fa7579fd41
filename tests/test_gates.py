"""The gates on a step's cost fail when it costs more, and when they have compared nothing."""

from __future__ import annotations

import json
import time

import pytest
import torch

import gdtuo
from experiments import ExperimentError
from tests.benchmarks import compare, gates
from tests.benchmarks.__main__ import main
from tests.benchmarks.trainers import COMPILED, PROMISED

EAGER = gates.Counted("SGD / SGD(1e-05)")
RACE = ("step() on ResNet-20's tensors", PROMISED)


@pytest.fixture(scope="module")
def on_record(tmp_path_factory):
    """A record of one tower that was counted and one that was timed."""
    path = tmp_path_factory.mktemp("gates") / "gates.json"
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch)
        assert main(["record", "--record", str(path)]) == 0
    return path


@pytest.fixture
def path(on_record, monkeypatch):
    """Of the record against which as much is measured."""
    shorten(monkeypatch)
    return on_record


def shorten(monkeypatch):
    monkeypatch.setattr(gates, "COUNTED", (EAGER,))
    monkeypatch.setattr(gates, "RACES", (RACE,))
    monkeypatch.setattr(gates, "ROUNDS", 5)
    monkeypatch.setattr(gates, "ATTEMPTS", 2)


@pytest.fixture
def dearer(monkeypatch):
    """Every step of a tower does something more."""

    def change(more):
        step = gdtuo.Tower.step

        def dearer_step(self, *args, **options):
            loss = step(self, *args, **options)
            more(self)
            return loss

        monkeypatch.setattr(gdtuo.Tower, "step", dearer_step)

    return change


def first_parameter(tower):
    return tower.param_groups[0]["params"][0]


def one_more_pass(tower):
    first_parameter(tower).detach().neg()


def one_more_view(tower):
    first_parameter(tower).detach()


def one_more_tensor_kept(tower):
    state = tower.state[first_parameter(tower)]
    if "more" not in state:
        state["more"] = torch.zeros(3)


def one_more_tensor_hidden(tower):
    if not hasattr(tower, "hidden"):
        tower.hidden = torch.zeros(3)


def a_large_temporary(tower):
    torch.empty(10_000_000)


def wait(tower):
    time.sleep(0.2)  # beyond what a busy machine does to a step


def failures(path, capsys):
    capsys.readouterr()
    assert main(["check", "--record", str(path)]) == 1
    said = capsys.readouterr().out
    assert "make bench-record" in said
    return [line for line in said.splitlines() if line.startswith("FAILED")]


def test_the_same_step_passes(path, capsys, monkeypatch):
    monkeypatch.setattr(gates, "AT_MOST", 5.0)  # so few rounds are at the machine's mercy
    assert main(["check", "--record", str(path)]) == 0
    assert "6 counts and ratios are as recorded." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "keys"),
    [
        (one_more_pass, {"ops", "kernels"}),
        (one_more_view, {"ops"}),
        (one_more_tensor_kept, {"kept_bytes", "held_bytes"}),
        (one_more_tensor_hidden, {"held_bytes"}),
        (a_large_temporary, {"ops", "kernels", "step_bytes"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_dearer_step_fails_the_counts(more, keys, path, dearer, capsys, monkeypatch):
    monkeypatch.setattr(gates, "AT_MOST", 50.0)  # the counts alone are to see it
    before = gates.read(path)["exact"][EAGER.name]
    dearer(more)
    lines = failures(path, capsys)
    for key in keys:
        (line,) = (line for line in lines if f" {key} " in line)
        assert line.startswith(f"FAILED {EAGER.name}: ")
        assert line.endswith(f"recorded {before[key]}.")
    assert len(lines) == len(keys)


def test_a_slower_step_fails_the_ratio(path, dearer, capsys):
    dearer(wait)
    (line,) = failures(path, capsys)
    assert f"{RACE[0]}: {PROMISED}: " in line
    assert "times torch.optim.Adam" in line
    assert "least of 10 rounds), recorded " in line
    assert "allowed 1.5" in line


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # as the compiler is loaded
def test_another_compiled_kernel_fails(dearer):
    counted = gates.Counted("SGD / SGD(1e-05)", compile=True)
    before = gates.exact([counted])
    again = gates.exact([counted])
    assert gates.judge(recorded(before), again, {}).passed
    compiled_pass = torch.compile(torch.neg)
    dearer(lambda tower: compiled_pass(first_parameter(tower).detach()))
    said = gates.judge(recorded(before), gates.exact([counted]), {}).failures
    for key in ("graphs", "kernels"):
        then = before[counted.name][key]
        assert f"{counted.name}: {key} {then + 1}, recorded {then}." in said


def test_what_is_not_compiled_fails(monkeypatch):
    monkeypatch.setattr(gates, "WARM_UP", 1)  # a first step is eager
    with pytest.raises(ExperimentError, match=f", mlp{COMPILED}: nothing was compiled"):
        gates.Counted("SGD / SGD(1e-05)", compile=True).count()


def recorded(exact, ratios=None, version=torch.__version__):
    return {"provenance": {"torch": version}, "exact": exact, "ratios": ratios or {}}


COUNTS = {"a tower": {"ops": 9, "kernels": 5, "kept_bytes": 100}}
RATIO = {"ratio": 2.0, "milliseconds": 2.0, "over_milliseconds": 1.0, "rounds": 5}


def test_fewer_fail_too_so_that_they_stay_few():
    measured = {"a tower": COUNTS["a tower"] | {"kernels": 4}}
    (failure,) = gates.judge(recorded(COUNTS), measured, {}).failures
    assert failure == (
        "a tower: kernels 4, recorded 5. That is less: record anew, so that it stays."
    )


def test_under_another_torch_bytes_alone_are_compared():
    measured = {"a tower": {"ops": 8, "kernels": 6, "kept_bytes": 100}}
    verdict = gates.judge(recorded(COUNTS, version="1.0"), measured, {})
    assert verdict.passed
    assert verdict.compared == 1
    (note,) = verdict.notes
    assert note.startswith("skipped: kernels, ops were recorded with torch 1.0 and depend on it")
    measured["a tower"]["kept_bytes"] = 101
    assert not gates.judge(recorded(COUNTS, version="1.0"), measured, {}).passed


def test_a_ratio_may_be_half_as_much_again():
    for now, passed, noted in ((2.9, True, 0), (3.1, False, 0), (1.2, True, 1)):
        verdict = gates.judge(recorded({}, {"x": RATIO}), {}, {"x": RATIO | {"ratio": now}})
        assert verdict.passed == passed
        assert len(verdict.notes) == noted


def test_what_only_one_side_has_fails():
    assert "not on record" in gates.judge(recorded({}), COUNTS, {}).failures[0]
    assert "not measured" in gates.judge(recorded(COUNTS), {}, {}).failures[0]


def test_nothing_compared_fails():
    (failure,) = gates.judge(recorded({}), {}, {}).failures
    assert failure.startswith("nothing was compared")


@pytest.mark.parametrize("text", [None, "", "{}", "[]", '{"exact": {}, "ratios": {}}', "torn {"])
def test_no_record_fails(text, tmp_path, capsys):
    path = tmp_path / "gates.json"
    if text is not None:
        path.write_text(text)
    assert main(["check", "--record", str(path)]) == 1
    assert "make bench-record" in capsys.readouterr().err


def test_the_committed_record_is_that_of_the_table():
    found = gates.read()
    assert list(found["exact"]) == [counted.name for counted in gates.COUNTED]
    assert list(found["ratios"]) == [f"{what}: {contender}" for what, contender in gates.RACES]
    assert found["provenance"]["clean"]


def benchmarks(ratio, version="2.13", name="test_x[mlp]"):
    info = {
        "over": "plain",
        "ratio": {"plain": 1.0, "tower": ratio},
        "torch": version,
        "threads": 2,
    }
    machine = {"cpu": {"brand_raw": "p", "count": 2}, "python_version": "3"}
    return {"benchmarks": [{"name": name, "extra_info": info}], "machine_info": machine}


def test_a_comparison_has_both_ratios_and_what_differs():
    text = compare.table(benchmarks(2.0), benchmarks(3.0, version="2.14"))
    head, row, differs = text.splitlines()
    assert head.split() == ["recorded", "now", "change"]
    assert row.split() == ["test_x[mlp]", "time:", "tower", "2.00", "3.00", "+50%"]
    assert differs == "differs: torch was 2.13 and is 2.14"
    more = benchmarks(3.0)
    more["benchmarks"] += benchmarks(3.0, name="test_y")["benchmarks"]
    last = compare.table(benchmarks(2.0), more).splitlines()[-1]
    assert last == "not on record: test_y time of 1 sides"


def test_a_comparison_of_nothing_is_an_error(tmp_path, capsys):
    with pytest.raises(ExperimentError, match="no benchmark in common"):
        compare.table(benchmarks(2.0), benchmarks(2.0, name="test_y"))
    torn = tmp_path / "torn.json"
    torn.write_text(json.dumps(benchmarks(2.0))[:-3])
    for path in (torn, tmp_path / "none.json"):
        assert main(["compare", str(path)]) == 1
        assert "make bench makes one" in capsys.readouterr().err
