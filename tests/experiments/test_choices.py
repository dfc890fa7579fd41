"""The studies of what Table 1 and Figure 3 leave open: what they train, how they are judged."""

import pytest
import torch

import gdtuo
from experiments import tasks
from experiments.store import Writer
from experiments.studies import figure3, figure3_choices, find, table1
from experiments.studies.choices import CHOICES
from paper_figures.choices import FIGURE
from paper_figures.claims import MISSING, NOT, PARTLY, REPRODUCED, TOO_SHORT
from paper_figures.figure3_choices import FIGURE as FIGURE3
from paper_figures.results import load, nothing
from paper_figures.table1_rows import PAPER

STUDY = find("choices")


@pytest.fixture
def judged(tmp_path, make_record):
    """The claims, where runs as in Table 1 end `ours` points from the paper's error."""

    def judge(ours, others):
        with Writer(STUDY.path("paper", tmp_path)) as writer:
            for cell in STUDY.select("paper"):
                row = next(row for row in PAPER if cell.row.startswith(f"{row}, "))
                off = ours(row) if cell.row.endswith("as in Table 1") else others
                final = {"test_error": PAPER[row].error[0] + off}
                writer.append(make_record(cell.run, final=final))
        return FIGURE.claims(load(STUDY, tmp_path))

    return judge


def test_the_nearer_choice_is_the_papers(judged):
    found = judged(lambda row: 0.1, -0.5)
    assert {claim.verdict for claim in found} == {REPRODUCED}
    assert len(found) == len(CHOICES.all)
    assert "(not squashed) the error changes by -0.60 [-0.60, -0.60] points" in found[0].finding


def test_the_farther_one_is_not(judged):
    assert {claim.verdict for claim in judged(lambda row: 0.6, 0.5)} == {NOT}


def test_in_some_rows_it_is(judged):
    output, beta2, *_ = judged(lambda row: 1.0 if row == "SGD" else 0.1, 0.5)
    assert output.verdict == PARTLY
    assert beta2.verdict == REPRODUCED  # it is not about SGD


def test_without_records_nothing_is_said():
    assert {claim.verdict for claim in FIGURE.claims(nothing(STUDY))} == {MISSING}


def test_runs_as_in_table_1_have_its_keys():
    known = {cell.run.key for cell in table1.STUDY.select("paper")}
    own = {c.run.key for c in STUDY.select("paper") if c.row.endswith("as in Table 1")}
    others = {c.run.key for c in STUDY.select("paper")} - own
    assert own < known
    assert len(others) == 5 * sum(len(choice.rows) for choice in CHOICES.all.values())
    assert not others & known


def test_each_choice_changes_what_it_says():
    runs = {c.row: c.run for c in STUDY.select("paper")}
    bottom = gdtuo.parse(runs["Adam / SGD(1e-05), beta2 0.99"].tower)
    assert (bottom.beta2, bottom.optimizer) == (0.99, gdtuo.SGD(1e-5))
    assert runs["AdaGrad, 5 epochs"].epochs == 5
    assert runs["SGD, not shuffled"].options == (("shuffled", False),)
    plain, squashed = (
        tasks.find("mlp")("digits", 0, "cpu", output_tanh=tanh) for tanh in (False, True)
    )
    outputs = [task.model[:-1](task.test_inputs) for task in (plain, squashed)]
    torch.testing.assert_close(outputs[0].tanh(), outputs[1])


def test_runs_as_in_figure_3_have_its_keys():
    for tier in ("small", "paper"):
        known = {cell.run.key for cell in figure3.STUDY.select(tier)}
        cells = figure3_choices.STUDY.select(tier)
        own = {cell.run.key for cell in cells if cell.row.endswith("as in Figure 3")}
        assert own == known & {cell.run.key for cell in cells}
        assert len(own) == 4 * figure3_choices.TIERS[tier].seeds
    runs = {cell.row: cell.run for cell in figure3_choices.STUDY.select("small")}
    above = runs["lr 0.002, learned, Adam with the same step sizes"]
    assert isinstance(gdtuo.parse(above.tower).optimizer, gdtuo.Adam)
    assert dict(gdtuo.parse(above.tower).optimizer.lr) == {"beta1": 1e-4, "beta2": 2e-4, "lr": 2e-5}
    alone = dict(runs["lr 0.002, constant, one sequence, from a state of zero"].options)
    assert alone == {"autocast": "bfloat16", "batch": 1, "carried": False, "tested": 50}


@pytest.mark.parametrize(("tier", "verdict"), [("small", TOO_SHORT), ("paper", REPRODUCED)])
def test_what_figure_3_s_choices_are_worth(tier, verdict, tmp_path, make_record):
    study = figure3_choices.STUDY
    with Writer(study.path(tier, tmp_path)) as writer:
        for cell in study.select(tier):
            off = 0.1 if cell.row.endswith("as in Figure 3") else -0.5
            row = next(row for row in FIGURE3.paper if cell.row.startswith(f"{row}, "))
            ended = {"test_perplexity": FIGURE3.paper[row] + off}
            writer.append(make_record(cell.run, final=ended))
    results = load(study, tmp_path, tier)
    found = FIGURE3.claims(results)
    assert [claim.verdict for claim in found] == [verdict] * 4
    changed = "Otherwise (from a state of zero) the perplexity changes by -0.60 [-0.60, -0.60] for"
    assert found[1].finding.startswith(f"{changed} `lr 0.002, learned`, -0.60")
    nearest = "Nearest to the paper's come: as in Figure 3, `lr 0.0001, learned` (6.61 for 6.51), "
    assert nearest in FIGURE3.summary(results)
    assert "Nearest" not in FIGURE3.summary(nothing(study))
