"""What a step costs, from made-up measurements, and one that is measured."""

import pytest

import gdtuo
from experiments import ExperimentError
from experiments.store import Writer
from experiments.studies.cost import COMPILED_OWN, STUDY
from experiments.studies.peers import STUDY as PEERS
from experiments.studies.tuning import OWN, TASKS, TINY
from experiments.timing import measure as measuring
from experiments.timing import session as sessions
from experiments.timing.measurement import load as measurements
from experiments.timing.session import session
from experiments.timing.workload import FUSED, PLAIN, Contender, Trainer, contenders
from paper_figures import cost, peers
from paper_figures.claims import MISSING, NOT, NOT_TESTABLE, PARTLY, REPRODUCED, estimate
from paper_figures.figure4f_claims import FEWEST_ROUNDS
from paper_figures.results import load, nothing


@pytest.fixture
def save(tmp_path, make_measurement):
    """What is on record when the default takes so many percent longer than Adam."""

    def save(eager, compiled, **fields):
        with Writer(STUDY.path("paper", tmp_path)) as writer:
            for name in STUDY.workloads:
                texts = {OWN: eager, COMPILED_OWN: compiled, "Prodigy": 50}
                made = make_measurement(name, (), (), texts=texts, **fields)
                writer.append(*made.timings.values())
        return load(STUDY, tmp_path)

    return save


@pytest.mark.parametrize(
    ("eager", "compiled", "verdicts"),
    [
        (80, 5, [REPRODUCED] * 3),
        (5, 80, [REPRODUCED] * 3),
        (80, 20, [REPRODUCED, NOT, NOT]),
        (80, 30, [NOT] * 3),
    ],
)
def test_either_kind_may_reach_the_goal(save, eager, compiled, verdicts):
    assert [claim.verdict for claim in cost.claims(save(eager, compiled))] == verdicts


def test_an_interval_about_the_goal_is_partly(save, monkeypatch):
    monkeypatch.setattr(cost, "AT_MOST", dict.fromkeys(cost.AT_MOST, 1.1))
    results = save(80, 12)
    for each in results.measurements.values():  # every other round a quicker one
        each.timings[COMPILED_OWN].seconds[::2] = [1.05e-3] * 10
    assert {claim.verdict for claim in cost.claims(results)} == {PARTLY}


def test_few_rounds_and_none(save):
    few = cost.claims(save(0, 0, moods=(1,) * 19))
    assert {c.verdict for c in few} == {NOT_TESTABLE}
    assert {c.finding for c in few} == {"There are fewer than 20 rounds."}
    assert {c.verdict for c in cost.claims(nothing(STUDY))} == {MISSING}


def test_the_page(save, tmp_path):
    results = save(80, 5)
    (tmp_path / "cost").mkdir(exist_ok=True)
    assert cost.draw(results, tmp_path / "cost")[0].exists()
    page = (tmp_path / "cost" / "paper.md").read_text()
    assert "| default(compile=True) | 1.050 | 1.05 [1.05, 1.05] |" in page
    assert "1.80 [1.80, 1.80] eager, 1.05 [1.05, 1.05] compiled" in cost.summary(results)


def test_a_kind_that_was_not_timed_is_no_failure(save):
    results = save(80, 5)
    for each in results.measurements.values():
        del each.timings[COMPILED_OWN]
    assert {claim.verdict for claim in cost.claims(results)} == {NOT_TESTABLE}
    told = {claim.finding for claim in cost.claims(results)}
    assert told == {"It misses the limit eager; compiled it was not timed."}
    for each in results.measurements.values():
        del each.timings[OWN]
    assert {claim.ours for claim in cost.claims(results)} == {"not measured"}
    assert {claim.verdict for claim in cost.claims(results)} == {MISSING}


def test_the_papers_tier_can_be_judged():
    tier = STUDY.tier("paper")
    assert tier.rounds >= FEWEST_ROUNDS
    assert set(cost.AT_MOST) == set(tier.heights) == set(STUDY.workloads)


def test_the_time_of_steps_is_that_of_trainings_by_adam(save):
    costs = save(80, 5).at("cpu", "mlp")
    mlp, half = TASKS[0], estimate([TASKS[0].steps / 2] * 2, 2)
    assert peers.until(OWN, half, mlp, costs) == "0.90, compiled 0.53"
    assert peers.until("Prodigy", half, mlp, costs) == "0.75"
    assert peers.until("Adam, cosine, tuned", half, mlp, costs) == "0.50"
    assert peers.until("DoG", half, mlp, costs) == "-"  # not timed
    assert peers.until(OWN, estimate([], 2), mlp, costs) == "-"  # not reached
    assert peers.until(OWN, half, mlp, None) == "-"


def test_a_tiny_models_steps_are_not_those_that_were_timed(save, tmp_path):
    save(80, 5)
    paper = nothing(PEERS)
    assert peers.measured(paper, TASKS[0], tmp_path) is not None
    assert {t.name for t in TASKS} == set(STUDY.workloads)
    smoke = type(paper)(PEERS, "smoke", {}, {})
    assert peers.measured(smoke, TINY[0], tmp_path) is None


def test_nothing_is_compiled_where_that_is_left_out():
    texts = (OWN, COMPILED_OWN)
    names = [each.name for each in contenders((), compiled=False, texts=texts)]
    assert names == [PLAIN, FUSED, OWN]


def test_the_default_is_what_is_timed():
    workload = STUDY.workloads["mlp"]
    trainer = Trainer(workload, Contender(text=COMPILED_OWN), "cpu")
    assert trainer.optimizer._compiled is not None
    assert trainer.optimizer.rule == gdtuo.default(trainer.model.parameters()).rule


def test_a_missing_package_is_named_before_anything_is_timed(tmp_path, monkeypatch):
    def missing(text):
        raise ExperimentError(f"{text} is missing")

    monkeypatch.setattr(sessions.optimizers, "require", missing)
    monkeypatch.setattr(measuring, "interleaved", None)
    with pytest.raises(ExperimentError, match="default is missing"):
        session(STUDY, "smoke", tmp_path / "smoke.jsonl")


def test_the_smoke_tier(tmp_path):
    path = STUDY.path("smoke", tmp_path)
    session(STUDY, "smoke", path)
    (measurement,) = measurements(path)
    assert {OWN, "Prodigy", PLAIN} < set(measurement.timings)
    kept = {name: t.state_bytes / t.parameter_bytes for name, t in measurement.timings.items()}
    assert kept[PLAIN] == pytest.approx(2, abs=0.01)  # two moments
    assert kept[OWN] == pytest.approx(3, abs=0.01)  # second moment, offset, trace
