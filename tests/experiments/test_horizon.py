"""The study of short horizons: what it asks of made-up runs."""

import math

import pytest

from experiments.store import Writer
from experiments.studies import find
from experiments.studies.horizon import HORIZONS, STEP_SIZES
from paper_figures import horizon
from paper_figures.claims import MISSING, NOT, NOT_TESTABLE, REPRODUCED
from paper_figures.results import load, nothing

STUDY = find("horizon")


@pytest.fixture
def judged(tmp_path, make_record):
    """The claims where the best step size is `best[K]` and the tower learns `learned`."""

    def judge(best, learned, tier="paper", loss=1.0, between=0.8):
        with Writer(STUDY.path(tier, tmp_path)) as writer:
            for cell in STUDY.select(tier):
                steps = int(cell.row.split(" ")[0])
                off, curve = loss, [9.0, 9.0, learned, learned]
                if "from 1" in cell.row:
                    curve = [1.0, 1.0, between, between + 0.001 * cell.run.seed]
                if "lr" in cell.row:
                    lr = float(cell.row.split("lr ")[1])
                    off, curve = abs(math.log10(lr / best[steps])), []
                final = {"test_error": 5.0, "test_loss": off + 0.001 * cell.run.seed}
                writer.append(make_record(cell.run, final=final, lr_last_epoch=curve))
        return horizon.claims(load(STUDY, tmp_path))

    return judge


GROWING = dict(zip(HORIZONS, (0.1, 0.316, 1.0, 3.16), strict=True))


def test_a_greedy_step_size(judged):
    short, greedy, cost = judged(GROWING, learned=0.12)
    assert (short.verdict, greedy.verdict, cost.verdict) == (REPRODUCED,) * 3
    assert "1.50" in short.ours
    assert not short.finding  # one step size alone is near the best
    # The constant step size at the start is 1.5 decades off, and so is its loss.
    assert "That of its start, 0.1, held constant is 1.500 [1.500, 1.500] above it" in cost.finding
    assert "to that learning takes off 0.500 [0.500, 0.500]; to that of another" in cost.finding
    assert cost.finding.endswith(
        "takes off 1.500 [1.500, 1.500] from 0.01, and adds 0.500 [0.500, 0.500] from 1."
    )


def test_one_that_is_not(judged):
    short, greedy, cost = judged(GROWING, learned=2.0, loss=0.0, between=1.1)
    assert (short.verdict, greedy.verdict, cost.verdict) == (REPRODUCED, NOT, NOT)


def test_a_best_step_size_that_is_chance(tmp_path, make_record):
    with Writer(STUDY.path("smoke", tmp_path)) as writer:
        for cell in STUDY.select("smoke"):
            lr = float(cell.row.split("lr ")[1]) if "lr" in cell.row else 1.0
            final = {"test_error": 5.0, "test_loss": 1.0 if lr < 0.1 else 1.002}
            writer.append(make_record(cell.run, final=final, lr_last_epoch=[0.1, 0.1]))
    results = load(STUDY, tmp_path)
    finding = "from 0.001 to 0.0316 are within a thousandth of the least: which of them is best is"
    assert finding in horizon.summary(results)
    assert horizon.caption(results).endswith("Every run begins after 30 steps of SGD at 0.1.")


def test_no_bias(judged):
    assert judged(dict.fromkeys(HORIZONS, 1.0), learned=1.0)[0].verdict == NOT


def test_other_data_and_no_data(judged):
    assert {c.verdict for c in judged(GROWING, 0.1, "smoke")} == {NOT_TESTABLE}
    assert {c.verdict for c in horizon.claims(nothing(STUDY))} == {MISSING}


def test_it_is_drawn(judged, tmp_path):
    judged(GROWING, 0.1)
    (path,) = horizon.draw(load(STUDY, tmp_path), tmp_path / "horizon")
    assert path.exists()
    assert "| 1000 | 3.160 [3.160, 3.160] |" in path.with_suffix(".md").read_text()


def test_the_cells():
    cells = STUDY.select("paper")
    assert len({cell.run.key for cell in cells}) == len(cells) == (4 * (11 + 1) + 2) * 5
    assert (STEP_SIZES[0], STEP_SIZES[-1]) == (1e-3, 1e2)
