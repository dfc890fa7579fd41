"""What is said of a study while it still runs: nothing of what has no records."""

import re

import pytest

from experiments.studies import EXHIBITS
from paper_figures import claims_page, report
from paper_figures.__main__ import FIGURES
from paper_figures.results import look

# What is left of a file's lines.
KEPT = {
    "the first quarter": lambda lines: lines[: len(lines) // 4],
    "three": lambda lines: lines[:3],
    "every fourth": lambda lines: lines[::4],
}
RECORDED = [
    (name, tier)
    for name in FIGURES
    for tier in ("paper", "small")
    if tier in EXHIBITS[name].tiers and EXHIBITS[name].path(tier).exists()
]


@pytest.fixture
def part(tmp_path):
    """The results of a study of which only some records are left; None if that is too few."""

    def keep(name, tier, kept):
        study = EXHIBITS[name]
        lines = study.path(tier).read_text().splitlines(keepends=True)
        path = study.path(tier, tmp_path)
        path.parent.mkdir()
        path.write_text("".join(KEPT[kept](lines)))
        return look(study, tmp_path, tier)

    return keep


@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize(("name", "tier"), RECORDED)
def test_no_sentence_is_of_nothing(part, tmp_path, name, tier, kept):
    results, module = part(name, tier, kept), FIGURES[name]
    if results is None:
        pytest.skip("not one whole measurement is left")
    judged = claims_page.judge([(module, results)])
    for page in (claims_page, report):
        text = page.write(judged, tmp_path).read_text()
        assert not re.findall(r".*\b(?:nan|inf)\b.*", text)
