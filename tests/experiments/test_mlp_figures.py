"""The studies of kappa and of the 2019 version: what they train, and how they are judged."""

import dataclasses

import pytest

import gdtuo
from experiments.store import Writer
from experiments.studies import find, heights2019, kappa, sensitivity2019, table1
from paper_figures import __main__ as command
from paper_figures import kappa as kappa_figure
from paper_figures import sensitivity2019 as sensitivity_figure
from paper_figures.claims import MISSING, NOT, NOT_TESTABLE, PARTLY, REPRODUCED
from paper_figures.results import load

STUDIES = ("kappa", "sensitivity2019", "heights2019")


@pytest.fixture
def judged(tmp_path, make_record):
    """The claims of a study whose runs end with `error(cell)`, a little apart by seed."""

    def judge(study, error, tier="paper", change=lambda record: record):
        with Writer(find(study).path(tier, tmp_path)) as writer:
            for cell in find(study).select(tier):
                final = {"test_error": error(cell) + 0.001 * cell.run.seed}
                writer.append(change(make_record(cell.run, final=final)))
        results = load(find(study), tmp_path)
        return command.FIGURES[study].claims(results)

    return judge


def printed(cell):
    """The 2019 version's own error; its highest towers are as good as that of height 3."""
    height, lr = cell.row.removeprefix("height ").split(", lr ")
    line = sensitivity_figure.PAPER[min(int(height), 3)]
    return 100 - next(value for key, value in line.items() if f"{key:.3g}" == lr)


def test_its_own_numbers_bear_out_the_2019_version(judged):
    claims = judged("sensitivity2019", printed)
    assert {claim.verdict for claim in claims} == {REPRODUCED}
    levels = next(claim for claim in claims if "one order of magnitude" in claim.text)
    assert levels.finding == "On average 0.88 decades a level; in their figure 0.88."


def test_a_level_without_effect_moves_nothing(judged):
    """Its start is within a step of the grid of theirs all the same."""

    def as_two(cell):
        return printed(dataclasses.replace(cell, row=cell.row.replace("height 3", "height 2")))

    starts = judged("sensitivity2019", as_two)[4]
    assert starts.verdict == PARTLY
    assert starts.finding == "Not shown for level 3."


def test_points_that_are_off_count_against_a_line(judged):
    *lines, starts, _, _, large = judged("sensitivity2019", lambda cell: printed(cell) / 2)
    assert NOT in {c.verdict for c in lines}
    assert large.verdict != REPRODUCED
    assert starts.verdict != REPRODUCED


def test_a_tower_that_never_works_starts_beyond_the_grid():
    assert sensitivity_figure.start(dict.fromkeys(sensitivity2019.STEP_SIZES, 10)) > 3
    assert sensitivity_figure.start(sensitivity_figure.PAPER[0]) == pytest.approx(-1.74, abs=0.01)


@pytest.mark.parametrize(
    ("slope", "verdicts"),
    [(0, [REPRODUCED, REPRODUCED]), (-1, [NOT, REPRODUCED]), (1, [REPRODUCED, NOT])],
)
def test_heights(judged, slope, verdicts):
    def error(cell):
        return 40 + slope * 0.5 * cell.run.tower.count("/")

    assert [c.verdict for c in judged("heights2019", error)] == verdicts


def test_a_tall_tower_that_diverges_is_not_sound(judged):
    def change(record):
        lost = record.run.tower.count("/") == 50 and record.run.seed == 0
        return dataclasses.replace(record, status="diverged", final=None) if lost else record

    assert judged("heights2019", lambda cell: 40, change=change)[1].verdict == NOT


def of_others(cell):
    """The error that others found; where they have none, a good one."""
    if cell.row in kappa.BASELINES:
        return 50.0
    row, at = cell.row.split(", kappa ")
    return kappa_figure.SECONDARY.get(row, {}).get(float(at), 4.0)


def test_the_numbers_of_others_bear_them_out(judged):
    *rows, hangs = judged("kappa", of_others)
    assert {c.verdict for c in rows} == {REPRODUCED}
    assert hangs.verdict == REPRODUCED


def test_a_row_that_hangs_on_its_kappa_is_named(judged):
    def error(cell):
        return 60.0 if cell.row == "Adam / Adam, kappa 0.0001" else of_others(cell)

    *_, hangs = judged("kappa", error)
    assert hangs.verdict == PARTLY
    assert hangs.finding.startswith(
        "Not so for `Adam / Adam`: some kappa that near doesn't. Left out, as none but the paper's"
    )


def test_a_row_without_neighbours_says_nothing_of_its_kappa(judged):
    """Nor does one that is tried upwards alone say what less does."""
    *_, hangs = judged("kappa", of_others)
    left_out, upwards = hangs.finding.rstrip(".").split("; ")
    assert left_out.endswith(
        ": `AdaGrad / SGD`, `RMSProp^lr / SGD(0.0001)`, `RMSProp^{lr,gamma} / SGD(0.0001)`"
    )
    assert upwards.startswith("tried upwards only: `SGD / SGD`, `Adam / SGD(1e-05)`, ")
    assert "AdaGrad / SGD" not in hangs.ours
    assert hangs.ours.count("<br>") + 1 == len(kappa.TOWERS) - 3


def test_a_grid_has_the_papers_own_value():
    for row in kappa.TOWERS:
        towers = kappa.grid(row)
        assert towers[kappa_figure.own(row)] == row
        assert {gdtuo.parse(tower).learn for tower in towers.values()} == {gdtuo.parse(row).learn}
    assert set(kappa.TOWERS) | set(kappa.BASELINES) == {str(gdtuo.parse(r)) for r in table1.ROWS}


def test_runs_that_are_in_table1_have_its_keys():
    known = {cell.run.key for cell in table1.STUDY.select("paper")}
    own = [c for c in kappa.STUDY.select("paper") if c.row in kappa.BASELINES]
    assert {c.run.key for c in own} <= known


def test_the_2019_version_takes_the_images_as_they_come():
    for study in (sensitivity2019.STUDY, heights2019.STUDY):
        runs = [cell.run for cell in study.select("paper")]
        assert {dict(run.options)["shuffled"] for run in runs} == {False}
        assert {run.epochs for run in runs} == {1}
        assert all(len(set(run.tower.split(" / "))) == 1 for run in runs)


@pytest.mark.parametrize("study", STUDIES)
def test_other_data_test_nothing(judged, study):
    assert {c.verdict for c in judged(study, lambda cell: 5.0, tier="smoke")} == {NOT_TESTABLE}


@pytest.mark.parametrize("study", STUDIES)
def test_figures_are_drawn_from_gaps_too(tmp_path, make_record, study):
    cells = find(study).select("paper")
    with Writer(find(study).path("paper", tmp_path)) as writer:
        for cell in cells[: len(cells) // 3]:
            writer.append(make_record(cell.run))
    results = load(find(study), tmp_path)
    module = command.FIGURES[study]
    assert {MISSING, NOT_TESTABLE} & {c.verdict for c in module.claims(results)}
    (path,) = module.draw(results, tmp_path / study)
    assert path.exists()
    page = path.with_suffix(".md").read_text()
    assert f"{len(cells) // 3} of {len(cells)} runs" in page
    assert "nan" not in page + module.summary(results)
