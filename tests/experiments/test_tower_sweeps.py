import pytest

import gdtuo
from experiments.studies import find
from experiments.studies.figure4a import STUDY
from experiments.studies.presets import equal, scaled


def test_the_papers_step_sizes():
    assert len(STUDY.step_sizes) == 11
    assert (STUDY.step_sizes[0], STUDY.step_sizes[-1]) == (1e-8, 1e2)


@pytest.mark.parametrize(
    ("lr", "levels"),
    [
        (1e-8, [1e-8, 1e-6, 1e-8, 1e-10]),
        (1e-4, [1e-4, 1e-2, 1e-4, 1e-6]),
        (1e-3, [1e-3, 1e-6, 1e-7, 1e-8]),
        (1e2, [1e2, 1e-1, 1e-2, 1e-8]),
    ],
)
def test_the_scheme_is_the_papers_on_both_sides_of_its_switch(lr, levels):
    assert [scaled(lr, height) for height in range(4)] == [levels[: h + 1] for h in range(4)]
    assert equal(lr, 2) == [lr] * 3


@pytest.mark.parametrize("figure", ["figure4a", "figure4b"])
def test_every_tier_has_every_point(figure):
    study = find(figure)
    for tier, seeds in {"smoke": 3, "small": 2, "paper": 5}.items():
        cells = study.select(tier)
        assert len({cell.run.key for cell in cells}) == len(cells) == 4 * 11 * seeds
    for cell in study.select("paper"):
        rule = gdtuo.parse(cell.run.tower)
        assert cell.row == f"height {len(rule.levels) - 1}, lr {rule.lr:g}"
        assert all(isinstance(level, gdtuo.SGD) and level.momentum == 0 for level in rule.levels)


def test_the_scheme_reaches_the_runs():
    (cell,) = find("figure4b").select("smoke", "height 3, lr 0.001", seeds=1)
    assert cell.run.tower == "SGD(0.001) / SGD(1e-06) / SGD(1e-07) / SGD(1e-08)"
