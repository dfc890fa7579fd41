"""Every study at its smoke tier, with the two seeds that a verdict takes: run, drawn, judged."""

import pytest

from experiments import ExperimentError, store, tasks
from experiments.batches import MEMBERS
from experiments.studies import STUDIES
from experiments.sweep import sweep
from paper_figures.__main__ import FIGURES
from paper_figures.claims import MISSING
from paper_figures.claims_page import judge
from paper_figures.results import load

#: Ten seconds to a minute each, of code that another study here runs too; their figures have tests
#: of their own.
SLOW = (
    "figure2a", "figure2b", "figure4a", "figure4b", "figure4c", "figure4d",
    "figure4c_adam", "figure4d_adam", "sensitivity2019", "heights2019", "horizon", "kappa",
    "choices", "figure3_choices", "robustness", "peers", "ingredients", "heldout",
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in STUDIES],
)
def test_from_nothing_to_a_figure_and_verdicts(name, tmp_path, executor, monkeypatch):
    monkeypatch.delenv("GDTUO_DATA", raising=False)
    study = STUDIES[name]
    runs = [cell.run for cell in study.select("smoke", seeds=2)]
    try:
        tasks.find(runs[0].task).require()
    except ExperimentError as error:
        pytest.skip(str(error))

    records = sweep(runs, study.path("smoke", tmp_path), executor, members=MEMBERS)
    assert records.keys() == {run.key for run in runs}
    assert not [record.message for record in records.values() if record.status == "failed"]
    assert store.read(study.path("smoke", tmp_path)) == records

    results = load(study, tmp_path)
    FIGURES[name].draw(results, tmp_path / name)
    drawn = [path for path in (tmp_path / name).iterdir() if path.suffix in {".svg", ".png"}]
    assert len(drawn) >= 2
    assert all(path.stat().st_size > 5_000 for path in drawn)

    [(_, _, verdicts)] = judge([(FIGURES[name], results)])
    assert verdicts
    assert not [each for each in verdicts if each.verdict == MISSING]
    assert FIGURES[name].summary(results)
