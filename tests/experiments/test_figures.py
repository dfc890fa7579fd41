import dataclasses
import itertools
import json
import os

import pytest

from experiments import ExperimentError
from experiments.store import Writer
from experiments.studies import EXHIBITS, find
from paper_figures import __main__ as command
from paper_figures import claims_page, readme, report, table1
from paper_figures.__main__ import FIGURES
from paper_figures.claims import (
    MISSING,
    NOT,
    NOT_TESTABLE,
    PARTLY,
    REPRODUCED,
    estimate,
    paired,
    tally,
)
from paper_figures.results import Results, extent, load, nothing
from paper_figures.table1_rows import PAPER

STUDY = find("table1")


@pytest.fixture
def made(make_record):
    """Records of a whole tier that have just the paper's numbers, a little apart by seed."""

    def make(tier):
        for cell in STUDY.select(tier):
            row, off = PAPER[cell.row], 0.01 * cell.run.seed
            learned = row.learned or {"lr": 0.01}
            error = row.rerun if cell.run.parent else row.error
            lr = [learned["lr"] * share for share in (0.8, 0.9, 1)]
            yield make_record(
                cell.run,
                final={"test_error": error[0] + off, "hyperparameters": [learned]},
                curves={"hyperparameters": [{"lr": lr}]},
                lr_last_epoch=[learned["lr"]] * 3 if "/" in cell.run.tower else [],
            )

    return make


@pytest.fixture
def save(tmp_path):
    def save(tier, records):
        with Writer(STUDY.path(tier, tmp_path)) as writer:
            for record in records:
                writer.append(record)
        return load(STUDY, tmp_path)

    return save


def verdicts(results):
    return {claim.text: claim.verdict for claim in table1.claims(results)}


def test_the_study_has_the_papers_rows():
    rows = dict.fromkeys(cell.row for cell in STUDY.select("paper"))
    assert list(rows) == list(PAPER)
    reruns = {cell.row for cell in STUDY.select("paper", "*, rerun") if cell.run.parent}
    assert reruns == {row for row, paper in PAPER.items() if paper.rerun}
    assert len(STUDY.select("paper")) == 10 * (18 + 14)


def test_the_papers_own_numbers_bear_out_its_claims(made, save):
    """Save one: its table has a rerun of AdaGrad that is worse than AdaGrad."""
    others = {
        text: v for text, v in verdicts(save("small", made("small"))).items() if v != REPRODUCED
    }
    assert list(others.values()) == [PARTLY]
    assert next(iter(others)).startswith("AdaGrad: a rerun")


@pytest.mark.parametrize(("off", "verdict"), [(0.4, REPRODUCED), (0.9, PARTLY), (-1.1, NOT)])
def test_an_error_that_is_off_changes_the_verdict(made, save, off, verdict):
    def shift(record):
        if record.run.tower != "Adam" or record.run.parent:
            return record
        return dataclasses.replace(
            record, final=record.final | {"test_error": record.final["test_error"] + off}
        )

    assert verdicts(save("small", map(shift, made("small"))))["`Adam`"] == verdict


@pytest.mark.parametrize(
    ("gamma", "verdict"), [(0.9955, REPRODUCED), (0.9950, PARTLY), (0.9980, PARTLY)]
)
def test_a_decay_rate_is_judged_by_what_it_lacks_to_1(made, save, gamma, verdict):
    """The paper's is 0.9962, which lacks 0.0038."""
    row = "RMSProp^{lr,gamma} / RMSProp(0.0001)"

    def change(record):
        if record.run.tower != row:
            return record
        learned = [PAPER[row].learned | {"gamma": gamma}]
        return dataclasses.replace(record, final=record.final | {"hyperparameters": learned})

    (claim,) = (
        c for c in table1.claims(save("small", map(change, made("small")))) if c.text == f"`{row}`"
    )
    assert claim.verdict == verdict
    assert ("gamma 0.9962" in claim.finding) == (verdict == PARTLY)


@pytest.mark.parametrize(("rising", "verdict"), [(3, REPRODUCED), (1, PARTLY), (0, NOT)])
def test_a_step_size_that_falls_does_not_rise(made, save, rising, verdict):
    """Though it ends above its start."""

    def change(record):
        if record.run.tower != "AdaGrad / AdaGrad" or record.run.seed < rising:
            return record
        falls = [{"lr": [0.05, 0.03, 0.0151]}]
        return dataclasses.replace(record, curves={"hyperparameters": falls})

    results = save("small", map(change, made("small")))
    (claim,) = (c for c in table1.claims(results) if "rises over time" in c.text)
    assert claim.verdict == verdict
    assert claim.finding == (
        f"It rises in each third in {rising} of 3 runs, and ends above 0.01 in 3."
    )


def test_every_rule_of_table1_is_printed():
    for number in (0.001, 0.85, 0.8995, 0.0005, 0.01):
        assert f" {number:g}" in table1.RULES


@pytest.mark.parametrize("most", [0.5, 0.45])
def test_an_oscillation_is_told_and_how_often_it_is_at_the_papers_value(made, save, most):
    """That is 0.4538."""

    def shake(record):
        if record.run.tower != "SGD / Adam(0.1)":
            return record
        final = record.final | {"hyperparameters": [{"lr": 0.1}]}
        track = [-0.2, most, most if record.run.seed else 0.2, 0.1]
        return dataclasses.replace(record, final=final, lr_last_epoch=track)

    results = save("small", map(shake, made("small")))
    claims = table1.claims(results)
    (claim,) = (claim for claim in claims if claim.text == "`SGD / Adam(0.1)`")
    assert claim.verdict == PARTLY
    assert not any("does not settle" in c.finding for c in claims if c != claim)
    often = "at or above it in 5 of 12 steps, 2 of them of one seed"
    where = f"within that range: ours is {often}" if most > 0.4538 else "outside"
    assert claim.finding.endswith(f"The paper's 0.4538 lies {where}.")
    summary = table1.summary(results)
    assert (f"`SGD / Adam(0.1)` ({often})" in summary) == (most > 0.4538)
    assert ("Under 1 of 14 towers the learned step size never" in summary) == (most > 0.4538)


def test_missing_runs_are_counted(made, save):
    results = save("small", itertools.islice(made("small"), 2))
    assert results.ok("SGD")[0].run.seed == 0
    assert "2 of 96 runs" in table1.table(results)
    assert "(2 of 3 runs)" in table1.table(results)
    assert verdicts(results)["`SGD / SGD`"] == MISSING


@pytest.mark.parametrize(
    ("have", "of", "text"),
    [
        ((3, 3), (3, 3), "3 seeds"),
        ((1, 1), (1, 1), "1 seed"),
        ((1, 3), (1, 3), "1 to 3 seeds"),
        ((1, 0), (1, 1), "1 seed, 1 of 2 runs"),
        ((3, 0), (3, 3), "3 seeds, 3 of 6 runs"),
        ((1, 1), (3, 3), "1 of 3 seeds, 2 of 6 runs"),
        ((1, 3), (3, 3), "1 to 3 of 3 seeds, 4 of 6 runs"),
        ((1, 1), (1, 3), "1 of up to 3 seeds, 2 of 4 runs"),
        ((0, 1), (1, 3), "1 of 3 seeds, 1 of 4 runs"),
        ((0, 0), (1, 3), "0 of up to 3 seeds, 0 of 4 runs"),
    ],
)
def test_the_seeds_that_are_on_record_are_said(have, of, text):
    records = {str(i): dict.fromkeys(range(n)) for i, n in enumerate(have)}
    planned = {str(i): n for i, n in enumerate(of)}
    assert extent(Results(STUDY, "small", records, planned)) == text


def test_other_data_test_nothing(made, save):
    assert set(verdicts(save("smoke", made("smoke"))).values()) == {NOT_TESTABLE}


def test_no_records_are_an_error_that_says_how_to_make_some(tmp_path):
    with pytest.raises(ExperimentError, match="python -m experiments run table1 --tier smoke"):
        load(STUDY, tmp_path)


def test_the_fullest_tier_is_taken(made, save):
    save("smoke", made("smoke"))
    assert save("small", made("small")).tier == "small"


def test_a_tier_without_a_whole_seed_gives_way_to_a_shorter_one_that_has_some(made, save):
    save("small", made("small"))
    records = list(made("paper"))
    last = next(r for r in reversed(records) if r.run.seed == 0)
    assert save("paper", [r for r in records if r.run.seed == 0 and r is not last]).tier == "small"
    found = save("paper", [last])
    assert found.tier == "paper"
    assert not found.begun


def test_what_is_not_shown_yet_is_said(made, save):
    save("small", made("small"))
    found = save("paper", itertools.islice(made("paper"), 3))
    note = "tier paper has 3 of 320 runs so far and isn't shown"
    assert table1.caption(found).endswith(f"; {note}.")


def test_it_does_not_give_way_to_other_data(made, save):
    save("smoke", made("smoke"))
    assert save("paper", itertools.islice(made("paper"), 3)).tier == "paper"


def test_bytes_depend_on_the_records_alone(made, save, tmp_path):
    results = save("small", made("small"))
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        table1.draw(results, folder)
        judged = claims_page.judge([(table1, results)])
        for page in (claims_page, report):
            page.write(judged, folder)
    names = sorted(path.name for path in folders[0].iterdir())
    assert names == [
        "CLAIMS.md", "REPORT.md", "small.md", "small.png", "small.svg", "small_trajectory.png",
        "small_trajectory.svg",
    ]  # fmt: skip
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes()


def test_the_readme_is_drawn_with_the_results_however_they_are_named(
    made, save, tmp_path, monkeypatch, capsys
):
    save("small", made("small"))
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    monkeypatch.setattr(readme, "write", lambda *about: "the readme")
    monkeypatch.setattr(readme, "write_performance", lambda *about: "its tables")
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr("sys.argv", ["paper_figures", "table1", "--results", tmp_path.name])
    assert command.main() == 0
    assert "the readme\nits tables\n" in capsys.readouterr().out


def test_who_reads_may_have_seen_enough(monkeypatch, capfd):
    """As in `python -m paper_figures --verdicts | head -1`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr("sys.stdout", output)
        monkeypatch.setattr("sys.argv", ["paper_figures", "--verdicts"])
        monkeypatch.setattr(command, "_judged", lambda *about: [])
        assert command.main() == 1
    assert capfd.readouterr().err == ""


def test_estimates():
    ours = estimate([1.0, 2.0, 3.0], of=4)
    assert (ours.mean, ours.n, ours.of) == (2.0, 3, 4)
    assert 1 <= ours.low < 2 < ours.high <= 3
    assert ours.text().endswith("(3 of 4 runs)")
    assert estimate([5.0], of=1).text() == "5.00"
    assert estimate([], of=3).text() == "0 of 3 runs"
    assert estimate([], of=1).text() == "0 of 1 run"
    assert tally([True, None, None], "towers") == "1 of 1 towers (1 of 3 has runs)"
    assert (
        paired({0: 5.0, 1: 7.0, 2: 0.0}, {0: 4.0, 1: 6.0}, of=3).text()
        == "1.00 [1.00, 1.00] (2 of 3 runs)"
    )


def benchmark_record(sizes):
    ratios = dict.fromkeys(readme.CONTENDERS, 1.234)
    times = {"ratio": ratios, "threads": 2, "torch": "2"}
    infos = [{"workload": name, **times} for name in readme.WORKLOADS]
    plain = {name: 0.5 for name in readme.CONTENDERS if "compiled" not in name}
    infos += [{"workload": name, "peak_ratio": plain} for name in readme.WORKLOADS]
    infos += [{"parameters": size, "ratio": {readme.CONTENDERS[0]: 2.0}} for size in sizes]
    return {
        "benchmarks": [{"extra_info": info} for info in infos],
        "machine_info": {"cpu": {"count": 2, "brand_raw": "p"}},
        "commit_info": {"id": "0123456789"},
    }


def test_the_table_of_benchmarks(tmp_path):
    path = tmp_path / readme.BENCHMARKS
    path.write_text(json.dumps(benchmark_record(readme.STEPS)))
    lines = readme.benchmarks(path).splitlines()
    assert lines[2] == "| ResNet-20, batch 128 | 1.23, 0.50 | 1.23 | 1.23, 0.50 | 1.23, 0.50 |"
    assert lines[5] == "| `step()` alone, 0.1 million parameters | 2.00 | - | - | - |"
    assert "2 cores of p, 2 threads, torch 2, commit 012345678 (`make bench`)." in lines[-1]
    older = benchmark_record([])
    path.write_text(json.dumps(older))
    assert "step()" not in readme.benchmarks(path)
    path.write_text(json.dumps(older | {"benchmarks": []}))
    with pytest.raises(ExperimentError, match="no training steps; make it anew with make bench"):
        readme.benchmarks(path)
    path.unlink()
    with pytest.raises(ExperimentError, match="is missing; make it with make bench"):
        readme.benchmarks(path)


@pytest.mark.parametrize("study", FIGURES)
def test_there_is_a_place_for_every_claim_before_anything_has_run(tmp_path, study):
    module, results = FIGURES[study], nothing(EXHIBITS[study])
    text = claims_page.write(claims_page.judge([(module, results)]), tmp_path).read_text()
    claims = module.claims(results)
    assert claims
    for claim in claims:
        assert (
            f"| {claim.text} | {claim.paper} | - | 0 | {results.tier} | **not yet run** |" in text
        )
    assert results.study.command("smoke") in text
    assert module.RULES in text
    judged = claims_page.judge([(module, results)])
    assert f"**{results.study.title}**: not yet run." in report.write(judged, tmp_path).read_text()


def test_every_study_has_its_part_of_the_report():
    assert sorted(FIGURES) == sorted(name for names in report.PARTS.values() for name in names)


def test_what_is_not_the_papers_says_so_and_comes_last():
    ours = [name for name in FIGURES if name in (*report.BESIDE, *report.GOALS)]
    assert list(FIGURES)[-len(ours) :] == ours
    for name in FIGURES:
        assert EXHIBITS[name].title.startswith("Beside the paper: ") == (name in ours)


def test_what_is_not_the_papers_is_counted_by_itself(tmp_path):
    judged = claims_page.judge([(FIGURES[name], nothing(EXHIBITS[name])) for name in FIGURES])
    count = {results.study.name: len(claims) for _, results, claims in judged}
    goals = sum(count[name] for name in report.GOALS)
    beside = sum(count[name] for name in report.BESIDE) + 1  # of heights2019
    claimed = sum(count.values()) - goals - beside
    text = report.write(judged, tmp_path).read_text()
    assert (
        f"Of {claimed} claims of the paper and its version of 2019: {claimed} not yet run. "
        f"Of {beside} things measured beside it: {beside} not yet run. "
        f"Of {goals} goals of the default: {goals} not yet run. [CLAIMS.md]"
    ) in text
    sums = [line for line in text.splitlines() if line.startswith("| **")]
    assert sums == [
        f"| **of the paper in all** |  | **{claimed}** |",
        f"| **beside it in all** |  | **{beside}** |",
        f"| **goals in all** |  | **{goals}** |",
    ]


def test_the_report_has_the_findings_of_each_study(made, save, tmp_path):
    results = save("small", made("small"))
    text = report.write(claims_page.judge([(table1, results)]), tmp_path).read_text()
    assert "(tier small, 3 seeds). All 18 test errors lie within 0.01 points" in text
    assert "under 14 of 14 towers" in text
    assert "[more](table1/small.md)" in text
    assert "| Table 1 | Adam's beta2 is 0.999" in text
    epochs = {
        name: find(name).tier("paper").epochs for name in ("figure2a", "figure2b", "figure4c")
    }
    assert (
        "4c: {figure4c}, where Figure 2a has {figure2a} and 2b {figure2b};".format(**epochs) in text
    )

    results = save("smoke", made("smoke"))
    results = load(STUDY, tmp_path, "smoke")
    text = report.write(claims_page.judge([(table1, results)]), tmp_path).read_text()
    assert "not yet run on MNIST. Tier smoke is of digits, which tests nothing" in text


def test_a_claim_that_fails_is_in_the_report(made, save, tmp_path):
    def worse(record):
        error = record.final["test_error"] + 3 * (record.run.tower == "Adam")
        return dataclasses.replace(record, final=record.final | {"test_error": error})

    results = save("small", map(worse, made("small")))
    text = report.write(claims_page.judge([(table1, results)]), tmp_path).read_text()
    assert "within 3.01 points of the paper's (the farthest: `Adam`)" in text
    assert "Not borne out: `Adam`" in text


def test_the_report_has_the_papers_limitations(made, save, tmp_path):
    text = report.write([], tmp_path).read_text()
    assert "## The paper's limitations" in text
    assert "no sweep has run" in text
