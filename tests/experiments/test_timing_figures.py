"""Figure 4f from made-up measurements."""

import pytest

from experiments import ExperimentError
from experiments.store import Writer
from experiments.studies.figure4f import STUDY
from experiments.timing.measurement import Interval
from paper_figures import __main__ as command
from paper_figures import figure4f
from paper_figures.claims import MISSING, NOT, NOT_TESTABLE, PARTLY, REPRODUCED
from paper_figures.figure4f_claims import PAPER, PAPER_HIGH, cost
from paper_figures.results import load, look

HIGH = STUDY.tiers["paper"].heights["mlp"]


@pytest.fixture
def save(tmp_path):
    def save(*measurements, tier="paper"):
        with Writer(STUDY.path(tier, tmp_path)) as writer:
            for measurement in measurements:
                writer.append(*measurement.timings.values())
        return load(STUDY, tmp_path)

    return save


@pytest.fixture
def whole(make_measurement):
    """A measurement of every workload, in which a level costs `percent` of height 0."""

    def make(percent=1.5, **fields):
        for name in STUDY.workloads:
            heights = HIGH if name == "mlp" else (0, 1, 2, 3)
            yield make_measurement(name, heights, [percent * h for h in heights], **fields)

    return make


def verdicts(results):
    return [claim.verdict for claim in figure4f.claims(results)]


def test_what_the_paper_says_is_reproduced_by_itself(whole, save):
    assert set(verdicts(save(*whole()))) == {REPRODUCED}


def test_the_papers_own_points(make_measurement, save):
    """As exact ones: its bars are wider than what a level costs."""
    made = [make_measurement(name, percent=(0, *points)) for name, (points, _) in PAPER.items()]
    found = {claim.text: claim.verdict for claim in figure4f.claims(save(*made))}
    assert [v for text, v in found.items() if "linear" in text] == [REPRODUCED] * 3 + [NOT_TESTABLE]
    assert [v for t, v in found.items() if "1 to 2 %" in t] == [REPRODUCED] * 3 + [NOT_TESTABLE]


@pytest.mark.parametrize(
    ("percent", "verdict"), [(0, REPRODUCED), (1.9, REPRODUCED), (3, PARTLY), (5, NOT)]
)
def test_the_cost_of_a_level_changes_the_verdict(whole, save, percent, verdict):
    costs = [c for c in figure4f.claims(save(*whole(percent))) if "1 to 2 %" in c.text]
    assert {claim.verdict for claim in costs} == {verdict}
    assert f"eager: {percent:.2f} [{percent:.2f}, {percent:.2f}] %" in costs[0].ours


def test_kinds_of_other_verdicts_are_partly(make_measurement, save):
    """A level costs 5 % eager, which is too much, and 3 % compiled, which is not quite."""
    made = make_measurement("lstm", percent=(0, 5, 10, 15))
    for height in (1, 2, 3):
        made.timings[f"height {height}, compiled"].seconds[:] = [1e-3 * (1 + 0.03 * height)] * 20
    (claim,) = (c for c in figure4f.claims(save(made)) if "LSTM" in c.text and "1 to 2" in c.text)
    assert claim.verdict == PARTLY


def test_a_wide_interval_is_no_proof(make_measurement, save):
    """Height 3 is now faster than height 0 and now slower, without pattern."""
    made = make_measurement("lstm", percent=(0, 0, 0, 0))
    for name in ("height 3", "height 3, compiled"):
        made.timings[name].seconds[:] = [1e-3 * (1 + e) for e in (-0.1, 0.2) * 10]
    (claim,) = (c for c in figure4f.claims(save(made)) if "LSTM" in c.text and "1 to 2" in c.text)
    assert "eager: 1.50 [-3.00, 6.00] %" in claim.ours
    assert claim.verdict == NOT_TESTABLE


def test_what_one_kind_leaves_open_is_not_partly(make_measurement, save):
    """A level costs 5 % eager, which is too much; compiled it can't be told."""
    made = make_measurement("lstm", percent=(0, 5, 10, 15))
    for height in (1, 2, 3):
        longer = (-0.03 * height, 0.06 * height) * 10
        made.timings[f"height {height}, compiled"].seconds[:] = [1e-3 * (1 + e) for e in longer]
    (claim,) = (c for c in figure4f.claims(save(made)) if "LSTM" in c.text and "1 to 2" in c.text)
    assert claim.verdict == NOT_TESTABLE
    assert claim.finding.startswith("By itself: eager `not`, compiled `not testable`. In times of")


@pytest.mark.parametrize(
    ("slope", "verdict"),
    [
        ((1, -1, 2), REPRODUCED),
        ((1.5, 0, 4), PARTLY),
        ((3, 2.5, 9), PARTLY),  # too much for certain, and by the median not far
        ((4.5, 2.5, 5), NOT),
        ((1.5, -1, 4.5), NOT_TESTABLE),
        ((4.5, 2, 9), NOT_TESTABLE),
    ],
)
def test_a_slope_is_judged_by_its_interval_and_its_median(slope, verdict):
    assert cost(Interval(*slope)) == verdict


def test_a_jump_is_no_line(make_measurement, save):
    made = make_measurement("mlp", HIGH, [0, *[60] * (len(HIGH) - 1)])
    linear = [c.verdict for c in figure4f.claims(save(made)) if "linear" in c.text]
    assert linear == [NOT, MISSING, MISSING, NOT]


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        ((0, 4, 8, 12), REPRODUCED),
        ((0, 400, 404, 408), PARTLY),  # a copy of the parameters, once
        ((0, 400, 800, 1200), NOT),  # and for each level
    ],
)
def test_memory(make_measurement, save, kept, verdict):
    """By what is kept, of 400 bytes of parameters: a process of 100 MB hides a thousand copies."""
    made = make_measurement("resnet20", megabytes=0.5)
    for timing in made.timings.values():
        object.__setattr__(timing, "state_bytes", kept[timing.height or 0])
    (claim,) = (c for c in figure4f.claims(save(made)) if "memory" in c.text and "ResNet" in c.text)
    assert claim.verdict == verdict
    listed = ", ".join(f"{each / 400:.2f}" for each in kept)
    assert f"eager: keeps {listed} times the parameters, peak +1.5 % at height 3" in claim.ours


def test_the_peak_is_not_judged(make_measurement, save):
    """A process that compiles has the compiler's memory too; one that wasn't asked has no peak."""
    made = make_measurement("resnet20", megabytes=0.5)
    object.__setattr__(made.timings["height 3, compiled"], "peak_bytes", [203_000_000])
    object.__setattr__(made.timings["height 3"], "peak_bytes", [])
    (claim,) = (
        c for c in figure4f.claims(save(made)) if "ResNet-20, batch 128, cpu: memory" in c.text
    )
    assert claim.verdict == REPRODUCED
    assert "0.03 times the parameters<br>compiled: " in claim.ours
    assert "peak +103.0 %" in claim.ours


def test_a_few_rounds_test_nothing(whole, save):
    assert set(verdicts(save(*whole(moods=(1,) * 19)))) == {NOT_TESTABLE}


def test_each_device_is_judged(whole, make_measurement, save):
    results = save(*whole(), *whole(5, device="H100"))
    assert results.devices == ["cpu", "H100"]
    found = figure4f.claims(results)
    assert {c.verdict for c in found if c.text.endswith("cpu: memory grows negligibly")} == {
        REPRODUCED
    }
    assert {c.verdict for c in found if "H100: a level" in c.text} == {NOT}
    assert "height 1 eager 1.05 [1.05, 1.05] (1.05 [1.05, 1.05] of fused)" in next(
        c.finding for c in found if "H100: a level" in c.text
    )


def test_every_processor_is_named(make_measurement, save):
    one, other = make_measurement("mlp"), make_measurement("lstm")
    for timing in other.timings.values():
        timing.provenance.update(processor="q")
    assert "cpu (p, threads 2 or q, threads 2), 20 rounds" in figure4f.caption(save(one, other))


def test_what_is_missing_is_said(make_measurement, save, tmp_path):
    results = save(make_measurement("lstm"))
    assert figure4f.caption(results).endswith("Not measured: mlp on cpu, resnet20 on cpu.")
    assert verdicts(results).count(MISSING) == 8
    figure4f.draw(results, tmp_path)


def test_eager_alone_is_judged_alone(make_measurement, save, tmp_path):
    made = make_measurement("lstm")
    eager = {name: t for name, t in made.timings.items() if "compiled" not in name}
    for timing in eager.values():
        object.__setattr__(timing, "together", len(eager))
    results = save(type(made)(eager))
    (claim,) = (c for c in figure4f.claims(results) if "LSTM" in c.text and "linear" in c.text)
    assert claim.verdict == REPRODUCED
    assert "compiled" not in claim.ours
    figure4f.draw(results, tmp_path)


def test_bytes_depend_on_the_records_alone(whole, save, tmp_path):
    results = save(*whole(moods=(1, 1.2) * 10), *whole(device="H100", scale=0.1))
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        figure4f.draw(results, folder)
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [
        "paper.md", "paper.png", "paper.svg", "paper_heights.png", "paper_heights.svg",
        "paper_memory.png", "paper_memory.svg",
    ]  # fmt: skip
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_report(whole, save, tmp_path, monkeypatch, capsys):
    """From nothing but these measurements: the other studies are not yet run."""
    save(*whole())
    monkeypatch.setattr("sys.argv", ["paper_figures", "figure4f", "--results", str(tmp_path)])
    assert command.main() == 0
    assert "11 reproduced" in (tmp_path / "REPORT.md").read_text()
    report = (tmp_path / "CLAIMS.md").read_text()
    assert "`python -m experiments run table1 --tier smoke`" in report
    assert "Figure 4f: run time and memory by the height of the tower, tier paper: " in report
    assert f"{PAPER_HIGH[1]:g} %, {PAPER_HIGH[0]:g} ms (2019)" in report


def test_no_records_are_no_error_but_for_the_one_named(tmp_path):
    assert look(STUDY, tmp_path) is None
    assert look(STUDY, tmp_path, "small") is None  # a tier of other studies
    with pytest.raises(ExperimentError, match="python -m experiments time figure4f --tier smoke"):
        load(STUDY, tmp_path)
    with pytest.raises(ExperimentError, match="no tier 'small'; it has smoke, paper"):
        load(STUDY, tmp_path, "small")
