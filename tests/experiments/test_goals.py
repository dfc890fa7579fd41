"""The studies of optimizers that need no tuning: what they train, how made-up runs are judged."""

import itertools
import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments import data
from experiments.optimizers import RIVALS
from experiments.store import Writer
from experiments.studies import find
from experiments.studies import peers as peers_study
from experiments.studies import robustness as robustness_study
from experiments.studies.tuning import (
    HELD_OUT,
    LN10,
    MLP,
    RIVAL_NAMES,
    SEEN,
    TASKS,
    TINY_HELD_OUT,
    TINY_SEEN,
    optimizer,
)
from paper_figures import (
    claims_page,
    goal_figures,
    goals,
    heldout,
    ingredients,
    peers,
    report,
    robustness,
)
from paper_figures.__main__ import FIGURES
from paper_figures.claims import MISSING, NOT, NOT_TESTABLE, PARTLY, REPRODUCED, Estimate, estimate
from paper_figures.results import load, nothing

STUDIES = ("robustness", "peers", "ingredients", "heldout")


@pytest.fixture
def saved(tmp_path, make_record):
    """The results of a study whose cells end with the loss `loss(row)`; None: without a record."""

    def save(study, loss, tier="small", curve=()):
        study = find(study)
        with Writer(study.path(tier, tmp_path)) as writer:
            for cell in study.select(tier):
                if (value := loss(cell.row)) is not None:
                    value *= 1 + 0.001 * cell.run.seed
                    final = {"train_loss": value, "test_error": 5.0, "test_loss": 0.5,
                             "test_perplexity": 7.0}  # fmt: skip
                    curves = {"train_loss": [*curve, value], "hyperparameters": [{"lr": [0.1]}]}
                    writer.append(make_record(cell.run, final=final, curves=curves))
        return load(study, tmp_path, tier)

    return save


def well(row):
    """The loss where the default is as good as Adam at 1e-3, and all else is worse."""
    if ", default" in row and "without" not in row:
        return 0.5
    return 0.5 if row.endswith(", Adam from 0.001") else 0.6


def verdicts(study, results):
    return [claim.verdict for claim in FIGURES[study].claims(results)]


@pytest.mark.parametrize("study", STUDIES)
def test_the_goals_are_met(study, saved):
    assert set(verdicts(study, saved(study, well))) == {REPRODUCED}


@pytest.mark.parametrize("study", STUDIES)
def test_and_are_not_where_the_default_is_worse(study, saved):
    results = saved(study, lambda row: 0.7 if well(row) == 0.5 and "default" in row else well(row))
    assert set(verdicts(study, results)) == {NOT}


@pytest.mark.parametrize("study", STUDIES)
def test_other_data_and_no_data(study, saved):
    results = saved(study, well, "smoke")
    assert set(verdicts(study, results)) == {NOT_TESTABLE}
    assert "which the goals are not about; " in FIGURES[study].caption(results)
    assert set(verdicts(study, nothing(find(study)))) == {MISSING}


@pytest.mark.parametrize("study", STUDIES)
def test_what_there_is_is_drawn_and_judged(study, saved, tmp_path):
    """Two runs of three, and nothing of the last tasks."""
    count = itertools.count()

    def some(row):
        return well(row) if row.startswith("mlp") and next(count) % 3 else None

    results = saved(study, some)
    found = FIGURES[study].claims(results)
    assert PARTLY in {claim.verdict for claim in found}
    assert REPRODUCED not in {claim.verdict for claim in found[1:]}  # robustness: of the mlp alone
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        paths = FIGURES[study].draw(results, folder)
        judged = claims_page.judge([(FIGURES[study], results)])
        claims_page.write(judged, folder)
        text = report.write(judged, folder).read_text()
    assert "claims of the paper" not in text
    assert f"Of {len(found)} goals of the default: " in text
    done, planned = len(results.all()), sum(results.planned.values())
    assert f"{done} of {planned} runs" in (folders[0] / "small.md").read_text()
    for path in [*paths, *(path.with_suffix(".png") for path in paths)]:
        assert path.read_bytes() == (folders[0] / path.name).read_bytes()
    assert "nan" not in text + FIGURES[study].summary(results)


def test_robustness_by_first_guess(saved):
    def far(row):
        return 0.511 if row == "mlp, default from 10000" else well(row)

    mlp, *others = robustness.claims(saved("robustness", far))
    assert mlp.verdict == PARTLY
    assert mlp.ours.startswith("12 of 13 first guesses; at worst 2.2 [2.2, 2.2] % above, from 1000")
    assert mlp.finding == "Not from 10000."
    assert {claim.verdict for claim in others} == {REPRODUCED}


def test_what_lies_within_in_the_mean_alone_is_said_so():
    reaching = Estimate(-17.0, -56.0, 2.9, 3, 3)
    found = {"a": reaching, "b": Estimate(1.0, 0.5, 1.9, 3, 3), "c": Estimate(5.0, 3.0, 9.0, 3, 3)}
    assert goals.beyond(found) == "The interval reaches beyond 2 %: a."
    assert goals.beyond({"b": found["b"]}) == ""


def test_first_guesses_that_come_to_the_same_training_are_said_to(saved):
    results = saved("robustness", well)
    summary = robustness.summary(results)
    differ = ", ".join(f"1 ({task.title})" for task in TASKS)
    assert summary.endswith(
        f"of the trainings of a seed at most so many differ, by their losses: {differ}."
    )
    first, *_ = results.records["mlp, default from 10000"].values()
    first.curves["train_loss"] = [0.49]
    assert f"2 ({MLP.title}), 1 (" in robustness.summary(results)


@pytest.mark.parametrize(("best", "ends"), [("0.1", True), ("1e-05", True), ("0.01", False)])
def test_a_grid_whose_end_is_best_is_said_to_be_one(saved, best, ends):
    """Whatever the order in which its points are tried."""
    row = f"{MLP.name}, Adam from {best}"
    summary = peers.summary(saved("peers", lambda r: 0.4 if r == row else well(r)))
    said = (
        f"Adam, tuned was best at an end of its grid, beyond which nothing was tried: {MLP.title}."
    )
    assert (said in summary) == ends


def test_robustness_by_the_count_of_good_guesses(saved, tmp_path):
    results = saved("robustness", lambda row: 0.5 if "Prodigy" in row else well(row))
    counts = [sum(robustness.good(results, MLP, c)) for c in ("Prodigy", "default", "Adam")]
    assert counts == [13, 13, 1]
    most = robustness.claims(results)[-1]
    assert most.verdict == REPRODUCED
    assert most.ours.startswith(
        f"{MLP.title}: 13 of 13, of 12 others at most Prodigy with 13 of 13<br>{TASKS[1].title}: "
    )
    assert most.n == "3"
    assert robustness.fixed(results, TASKS[1]) == "lstm, Adam from 0.001"
    robustness.draw(results, tmp_path)
    assert "\n| Prodigy | 13 of 13 | 0.5" in (tmp_path / "small.md").read_text()


def test_contenders_are_compared_by_the_first_guesses_that_both_have_runs_from(saved):
    def some(row):
        if row == "mlp, default from 0.001":
            return 0.6
        return (0.5 if row.endswith("from 0.001") else None) if "Prodigy" in row else well(row)

    results = saved("robustness", some)
    assert robustness.good(results, MLP, "Prodigy").count(None) == 12
    most = robustness.claims(results)[-1]
    assert most.verdict == PARTLY
    assert most.finding == (
        "It holds beside 33 of 34 pairs of a task and a contender. "
        "Of 481 first guesses of a contender 36 have fewer runs than planned."
    )
    want = "12 of 13, of 12 others at most Prodigy with 1 of 1 (1 of 13 has runs)"
    assert want in most.ours
    for name, records in results.records.items():
        if name == "mlp, Prodigy from 0.001":
            records.clear()
    most = robustness.claims(results)[-1]
    assert most.verdict == PARTLY
    assert "33 of 33 pairs of a task and a contender (33 of 34 have runs)" in most.finding


def test_n_is_that_of_the_contender_with_fewest_runs(saved):
    results = saved("robustness", well)
    for name, records in results.records.items():
        if name.startswith("mlp, Prodigy"):
            del records[1], records[2]
    *others, most = robustness.claims(results)
    assert {claim.verdict for claim in others} == {REPRODUCED}
    assert (most.n, most.verdict) == ("1 of 3", PARTLY)
    for name, records in results.records.items():
        if ", default" in name:
            records.clear()
    assert robustness.claims(results)[-1].verdict == MISSING


def test_a_run_that_diverged_counts_as_a_guess(saved, make_record):
    results = saved("robustness", lambda row: 1e6 if row.startswith("mlp, SGD") else well(row))
    cell = "mlp, SGD from 10000"
    lost = make_record(results.records[cell][0].run, status="diverged", final=None)
    results.records[cell][0] = lost
    assert goals.losses(results, MLP, cell) == dict.fromkeys(range(3), LN10)
    assert goals.both(results, MLP, cell).endswith("(5)")


def test_one_rival_that_is_better(saved):
    results = saved("peers", lambda row: 0.48 if row == "lstm, DoG" else well(row))
    tuned, worse, mean = peers.claims(results)
    assert (tuned.verdict, worse.verdict, mean.verdict) == (REPRODUCED, PARTLY, REPRODUCED)
    assert "LSTM, War and Peace: 4.2 [4.2, 4.2] % above DoG" in worse.ours


def test_one_rival_that_is_better_in_the_mean(saved):
    results = saved("peers", lambda row: 0.48 if row.endswith(", DoG") else well(row))
    _, worse, mean = peers.claims(results)
    assert (worse.verdict, mean.verdict) == (NOT, PARTLY)
    assert "better than 6 of 7 rivals" in mean.finding


def test_one_run_of_each_has_run_and_is_too_few(saved):
    results = saved("peers", well)
    for records in results.records.values():
        del records[1], records[2]
    mean = peers.claims(results)[-1]
    assert mean.verdict == NOT_TESTABLE
    assert mean.finding == "It is below 7 of 7 rivals. There are too few runs to tell."


@pytest.mark.parametrize(
    ("lucky", "others", "best"),
    [
        ([0], [0, 1, 2], "0.001"),  # on seed 0 alone the lucky one is worse
        ([0], [1, 2], None),  # nothing in common, and none is complete
        ([0], [], "0.1"),
    ],
)
def test_one_lucky_seed_does_not_win(saved, lucky, others, best):
    """Seed 0 is easy: there all losses are low, and that of the better step size is lowest."""
    results = saved("peers", well)
    seeds = {"mlp, Adam from 0.1": lucky, "mlp, Adam from 0.001": others}
    for cell, kept in seeds.items():
        for seed, record in list(results.records[cell].items()):
            loss = (0.2 if seed == 0 else 0.9) + 0.01 * (cell == "mlp, Adam from 0.1")
            record.final["train_loss"] = loss
            if seed not in kept:
                del results.records[cell][seed]
    found = goals.best_cell(results, MLP, seeds)
    assert found == (best and f"mlp, Adam from {best}")


def test_a_complete_cell_is_best_where_no_seed_is_shared(saved):
    results = saved("peers", lambda row: {"mlp, Adam from 0.1": 0.1}.get(row, well(row)))
    for cell, seed in (("mlp, Adam from 0.1", 0), ("mlp, Adam from 0.01", 1)):
        results.records[cell] = {seed: results.records[cell][seed]}
    assert peers.cell(results, MLP, "Adam, tuned") == "mlp, Adam from 0.001"


def test_what_tuning_buys(saved):
    results = saved(
        "peers", lambda row: 0.4 if row == "mlp, Adam from 0.1" else well(row), curve=[0.9, 0.45]
    )
    assert peers.cell(results, MLP, "Adam, tuned") == "mlp, Adam from 0.1"
    assert peers.cell(results, MLP, "Adam, first of the grid") == "mlp, Adam from 0.001"
    assert peers.above(results, MLP, "default").text(1) == "25.0 [25.0, 25.0]"
    assert peers.worst(results, "default") == "25.0 % (perceptron, MNIST)"
    assert peers.reached(results, MLP, "default").text() == "0 of 3 runs"
    assert peers.reached(results, TASKS[1], "default").text(0) == "200 [200, 200]"


def test_a_part_that_does_harm(saved):
    def harm(row):
        if "without push" in row:
            return 0.4 if row == "mlp, default without push from 10000" else well(row)
        return 0.5 if "without trace" in row else well(row)

    found = dict(
        zip(ingredients.PARTS, ingredients.claims(saved("ingredients", harm)), strict=True)
    )
    assert found.pop("push").verdict == PARTLY
    assert found.pop("trace").verdict == NOT
    assert {claim.verdict for claim in found.values()} == {REPRODUCED}


def test_held_out_by_first_guess(saved):
    results = saved("heldout", lambda row: 0.7 if "default from 10000" in row else well(row))
    judged = [REPRODUCED, REPRODUCED, NOT, REPRODUCED, REPRODUCED, PARTLY]
    assert verdicts("heldout", results) == judged
    assert heldout.summary(results).startswith("The default ends within 2 % of Adam's best")


@pytest.mark.parametrize("worse", [SEEN, HELD_OUT])
def test_what_it_was_tried_on_is_judged_by_itself(saved, worse):
    names = {training.name for training in worse}

    def some(row):
        return 0.7 if row.partition(", ")[0] in names and "default" in row else well(row)

    *others, tried = heldout.claims(saved("heldout", some))
    assert {claim.verdict for claim in others} == {REPRODUCED if worse is SEEN else NOT}
    assert tried.verdict == (NOT if worse is SEEN else REPRODUCED)
    assert "on the tasks that it was tried on while it was designed" in tried.text
    assert all((t.title in tried.ours) == (t in SEEN) for t in (*HELD_OUT, *SEEN))


def test_what_was_tried_is_trained_last_and_shown_apart(saved, tmp_path):
    rows = [cell.row.partition(", ")[0] for cell in find("heldout").select("small")]
    assert list(dict.fromkeys(rows)) == [t.name for t in (*HELD_OUT, *SEEN)]
    heldout.draw(saved("heldout", well), tmp_path)
    page = (tmp_path / "small.md").read_text()
    places = [page.index(f"### {t.title}\n") for t in (*HELD_OUT, *SEEN)]
    assert places == sorted(places)
    tried = page.index("\n## Tasks that it was tried on")
    assert places[len(HELD_OUT) - 1] < tried < places[len(HELD_OUT)]


def test_an_excess_in_words():
    assert goals.said(estimate([4.0, 4.5], 2), "DoG") == "4.2 [4.0, 4.5] % above DoG"
    assert goals.said(estimate([-4.0, 1.0], 3)) == "1.5 [-1.0, 4.0] % (2 of 3 runs) below"
    assert goals.said(estimate([], 3), "nobody yet") == "0 of 3 runs"


def test_losses_by_how_many_percent_they_are_above_the_best():
    axes = Figure().subplots()
    axes.plot([1, 2, 3], [0.94, 1.0, 2.1])
    robustness._stretch(axes, 1.0)
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[:3] == ["0.95  -5 %", "0.98  -2 %", "1.00  best"]
    assert labels[-1] == "2.00  +100 %"
    low, high = axes.get_ylim()
    assert 0.9 < low < 0.94
    assert 2.1 < high < 2.6
    heights = axes.transData.transform([(1, y) for y in (0.98, 1.0, 1.02, 1.2, 1.8)])[:, 1]
    below, above, near, far = np.diff(heights)
    assert below == pytest.approx(above)  # linear there
    assert near > 2 * above
    assert far < 1.2 * near  # three times as many percent, in the logarithmic part


def test_an_axis_has_ticks_to_where_its_dots_end():
    axes = Figure().subplots()
    goal_figures.ruled(axes, ["one", "two"], "title", "% above")
    goal_figures.dots(axes, [estimate([-3.0], 1), estimate([180.0], 1)])
    assert list(axes.get_xticks()) == [-10, 0, 10, 200]
    assert axes.get_xlim()[1] > 1.2 * 180  # so that no dot is cut
    assert "logarithmic beyond 10" in axes.get_xlabel()


def test_guesses_are_those_of_one_who_knows_nothing():
    """Of classes and characters: each is as likely."""
    by_name = {training.name: training.guess for training in (*TINY_HELD_OUT, *TINY_SEEN)}
    values = data.load("low_rank").train_targets
    assert by_name["factorization"] == pytest.approx(values.var().item(), rel=1e-3)
    images = data.load("digits").train_inputs.flatten(1)
    squares = (images - images.mean(dim=0)).square().sum(dim=1)
    assert by_name["autoencoder"] == pytest.approx(squares.mean().item(), rel=2e-3)
    assert by_name["gru"] == by_name["gpt"] == math.log(data.load("sonnets").size)
    assert by_name["factorization"] == {t.name: t.guess for t in SEEN}["factorization"]


def test_runs_that_serve_two_studies_are_counted(saved, tmp_path):
    found = [saved(name, lambda row: well(row) if "DoG" in row else None) for name in STUDIES[:2]]
    assert report.shared(found[:1]) == ""
    keys = [{record.key for record in results.all()} for results in found]
    both = len(keys[0] & keys[1])
    assert 0 < both <= len(keys[1]) < len(keys[0])
    text = report.write(
        claims_page.judge([(FIGURES[r.study.name], r) for r in found]), tmp_path
    ).read_text()
    assert f"\n\nOf {len(keys[0] | keys[1])} runs, {both} serve more than one study, being" in text
    assert f"not independent of one another: {both} peers, robustness." in text


def test_the_report_says_of_how_many_goals_an_interval_reaches_beyond(saved, tmp_path):
    results = saved(
        "robustness", lambda row: 0.505 if row == "mlp, default from 10000" else well(row)
    )

    def written():
        return report.write(claims_page.judge([(robustness, results)]), tmp_path).read_text()

    assert "of 0 goals the interval reaches beyond 2 % somewhere" in written()
    first, *_ = results.records["mlp, default from 10000"].values()
    first.final["train_loss"] = 0.515
    assert "of 1 goal the interval reaches beyond 2 % somewhere" in written()


def test_goals_are_counted_by_themselves(saved, tmp_path):
    results = saved("heldout", well)
    rows = report.verdicts(claims_page.judge([(heldout, results)])).splitlines()
    assert rows[-1] == "| **goals in all** |  | **6** |"


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("tier", ["smoke", "small", "paper"])
def test_the_cells(study, tier):
    study = find(study)
    cells = study.select(tier)
    assert len({cell.run.key for cell in cells}) == len(cells)
    assert cells[0].row.startswith("mlp")
    assert ", default" in cells[0].row
    of = study.tier(tier)
    trainings = (*of.tasks, *of.seen)
    assert {cell.run.data for cell in cells} == {training.data for training in trainings}
    assert of.data == of.tasks[0].data
    for training in trainings:
        runs = [cell.run for cell in cells if cell.row.startswith(f"{training.name}, ")]
        assert {run.epochs for run in runs} == {training.epochs}


def test_the_last_hundred_steps_are_an_epoch():
    assert [training.steps for training in TASKS] == [1400, 1200, 300]
    assert [training.steps for training in HELD_OUT] == [1400, 1200, 600, 600]
    assert [training.steps for training in SEEN] == [1400, 1200, 600, 1000, 1000, 1000, 1000]
    assert {training.epoch_steps for training in (*TASKS, *HELD_OUT, *SEEN)} == {100}


def test_what_is_asked_first_is_trained_first():
    rows = [cell.row for cell in robustness_study.STUDY.select("small")]
    first = [", default" in row or ", Adam from" in row for row in rows]
    assert first == sorted(first, reverse=True)
    assert "height" in rows[first.count(True)]
    assert not any(", SGD " in row for row in rows if not row.startswith("mlp"))
    assert len(rows) == 3 * (3 * (12 * 13 + 4) + 13)  # SGD on the perceptron alone


def test_a_rival_starts_by_default_as_its_authors_recommend():
    for rival in RIVAL_NAMES:
        assert optimizer(rival, 1e-3, MLP) == rival
        assert optimizer(rival, 1e4, MLP) != rival
    assert optimizer("DoG", 1e-3, TASKS[2]) == "DoG(reps_rel=0.0001)"
    assert optimizer("default(push=False)", 0.1, MLP) == "default(lr=0.1, push=False)"
    assert set(RIVALS) == {"default", *RIVAL_NAMES}


def test_grids_and_runs_that_studies_share():
    assert peers_study.GRIDS["Adam"][:3] == (1e-3, 3.16e-3, 3.16e-4)
    assert sorted(peers_study.GRIDS["SGD"])[::8] == [1e-3, 10.0]
    keys = {name: {c.run.key for c in find(name).select("small")} for name in STUDIES}
    shared = keys["peers"] & keys["robustness"]
    assert len(shared) > 3 * (len(RIVAL_NAMES) + 5)
    tuned = peers_study.tuned(peers_study.STUDY.tier("small"), "Adam")
    assert {cell.run.key for cell in tuned} <= keys["robustness"]  # so that the best is the same
    assert len(keys["ingredients"] & keys["robustness"]) == 3 * 3 * 3
