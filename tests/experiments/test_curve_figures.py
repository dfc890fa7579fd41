"""Figures 2 and 3, and the sweeps of the larger networks: what they train, how they are judged."""

import dataclasses

import pytest
from matplotlib.figure import Figure

from experiments.store import Writer
from experiments.studies import find
from paper_figures import __main__ as command
from paper_figures import (
    claims_page,
    curves,
    figure2a,
    figure2b,
    figure3,
    figure4c,
    figure4d,
    figure4e,
    report,
)
from paper_figures.claims import (
    MISSING,
    NOT,
    NOT_TESTABLE,
    PARTLY,
    REPRODUCED,
    TOO_FEW,
    TOO_SHORT,
)
from paper_figures.results import load, nothing

NAMES = ("figure2a", "figure2b", "figure3", "figure4c", "figure4d", "figure4e")
SWEEPS = {"figure4c": figure4c, "figure4d": figure4d, "figure4e": figure4e}


def printed(study, cell):
    """The paper's own number for a cell."""
    if study == "figure2b":
        return figure2b.ERRORS[cell.row]
    if study in SWEEPS:
        height, lr = cell.row.removeprefix("height ").split(", lr ")
        return SWEEPS[study].PAPER[int(height)][float(lr)]
    first, *_, kind = cell.row.split(", ")
    lr, column = float(first.removeprefix("lr ")), int(kind == "learned")
    if study == "figure3":
        return figure3.PAPER[lr][1 - column][0]
    momentum = float(cell.row.split("momentum ")[1].split(",")[0])
    return figure2a.PAPER[lr, momentum][column]


def decaying(epochs):
    """A learned step size that goes through the paper's values."""
    known = figure2b.DECAY
    return [
        known[max((e for e in known if e <= epoch), default=2)] for epoch in range(1, epochs + 1)
    ]


@pytest.fixture
def judged(tmp_path, make_record):
    """The claims of a study whose runs have the paper's numbers, changed by `change`."""

    def judge(study, tier="paper", change=lambda cell, value: value, seeds=None):
        metric = find(study).metric
        with Writer(find(study).path(tier, tmp_path)) as writer:
            for cell in find(study).select(tier, seeds=seeds):
                value = change(cell, printed(study, cell)) + 0.001 * cell.run.seed
                levels = [{"lr": decaying(cell.run.epochs)}]
                curves = {"train_loss": [1.0], metric: [value], "hyperparameters": levels}
                final = {"train_loss": 1.0, metric: value}
                provenance = make_record(cell.run).provenance | {"data_note": "a copy"}
                writer.append(
                    make_record(cell.run, curves=curves, final=final, provenance=provenance)
                )
        return command.FIGURES[study].claims(load(find(study), tmp_path))

    return judge


@pytest.mark.parametrize("study", NAMES)
def test_the_papers_own_numbers_bear_out_its_claims(judged, study):
    """Save one: the widths of its lines do not grow with every level, and the finding says so."""
    for claim in judged(study):
        narrow = "The widths of the paper's own lines, read off, do not grow" in claim.finding
        assert claim.verdict == (PARTLY if narrow else REPRODUCED), claim.text


@pytest.mark.parametrize(("lost", "verdict"), [(0, REPRODUCED), (1, PARTLY), (3, PARTLY), (4, NOT)])
def test_nearly_every_start_is_as_many_as_in_the_paper(judged, lost, verdict):
    """There it fails where both are too small, and where both are too large."""
    as_good = [at for at, (_, learned) in figure2a.PAPER.items() if learned < 13]
    worse = {figure2a.name(*at, "learned") for at in as_good[:lost]}

    def change(cell, value):
        return value + 5 if cell.row in worse else value

    *others, good = judged("figure2a", change=change)
    assert lost or {claim.verdict for claim in others} == {REPRODUCED}
    assert good.verdict == verdict
    assert good.paper == "6 of 9 cells"
    assert good.ours.startswith(f"{6 - lost} of 9")


@pytest.mark.parametrize(
    ("off", "verdict"), [((0.5, 0.6, 0.7), REPRODUCED), ((0, 0, 2), PARTLY), ((0, 2, 4), NOT)]
)
def test_to_match_is_to_be_worse_by_no_more_than_a_point(judged, off, verdict):
    """Seeds that are far apart prove nothing, though their interval reaches below a point."""

    def change(cell, value):
        known = {"schedule": 8.0, "learned": 8 + off[cell.run.seed]}
        return known.get(cell.row, value)

    _, matches, _ = judged("figure2b", change=change)
    assert matches.verdict == verdict


@pytest.mark.parametrize(("spread", "verdict"), [(0.8, REPRODUCED), (3, PARTLY)])
def test_a_start_that_may_be_worse_does_not_match(judged, spread, verdict):
    row = figure2a.name(0.1, 0.9, "learned")

    def change(cell, value):
        return 13.2 + spread * (cell.run.seed == 2) if cell.row == row else value

    *_, better, _ = judged("figure2a", change=change)
    assert better.verdict == verdict
    assert better.finding == ("" if verdict == REPRODUCED else "Not shown from (0.1, 0.9).")


@pytest.mark.parametrize("study", NAMES)
def test_other_numbers_do_not(judged, study):
    def worse(cell, value):
        return 3 * value if "learned" in cell.row or "height" in cell.row else value

    verdicts = [claim.verdict for claim in judged(study, change=worse)]
    assert NOT in verdicts or verdicts.count(PARTLY) > 1


@pytest.mark.parametrize("study", [name for name in NAMES if "small" in find(name).tiers])
def test_a_shortened_tier_says_so(judged, study):
    verdicts = {claim.verdict for claim in judged(study, "small")}
    assert TOO_SHORT in verdicts
    # From a bad start learning helps early on: that can be seen, where there are several seeds.
    assert (REPRODUCED in verdicts) == (study in {"figure3", "figure4d"})


@pytest.mark.parametrize(("lost", "verdict"), [(4, NOT), (3, TOO_SHORT)])
def test_divergence_is_final_at_any_length(tmp_path, make_record, lost, verdict):
    """Six points a line; at height 0 half of the paper's are near a guess themselves."""
    study = find("figure4d")
    starts = [f"lr {lr:g}" for lr in study.step_sizes[:lost]]
    with Writer(study.path("small", tmp_path)) as writer:
        for cell in study.select("small"):
            record = make_record(cell.run, final={"test_perplexity": printed("figure4d", cell)})
            if cell.row.endswith(tuple(starts)) and cell.run.seed != 1:  # two of three, or one
                record = dataclasses.replace(record, status="diverged", final=None)
            writer.append(record)
    plain, *towers = figure4d.FIGURE.claims(load(study, tmp_path))[:4]
    assert {claim.verdict for claim in towers} == {verdict}
    assert plain.verdict == TOO_SHORT
    assert ("4 of 6 points are lost" in towers[0].finding) == (verdict == NOT)


def test_what_is_too_low_may_rise_again(judged, tmp_path):
    """Runs have been seen to do so, late."""
    claims = judged("figure4d", "small", lambda cell, value: value / 3)
    assert {claim.verdict for claim in claims[:4]} == {TOO_SHORT}
    assert "Away from the paper's" in claims[0].finding
    learned, constant, expert, *_ = judged("figure3", "small", lambda cell, value: value / 2)
    assert {claim.verdict for claim in (learned, constant, expert)} == {TOO_SHORT}
    assert "All are lower than the paper's" in learned.finding
    summary = figure3.summary(load(find("figure3"), tmp_path))
    assert "are 6 of 6 means: what it leaves unsaid may be why" in summary


@pytest.mark.parametrize(("seeds", "verdict"), [(2, PARTLY), (1, TOO_SHORT)])
def test_a_level_under_which_runs_diverge_can_not_come_to_help(
    tmp_path, make_record, seeds, verdict
):
    """From both small starts that have three seeds."""
    study = find("figure4d")
    with Writer(study.path("small", tmp_path)) as writer:
        for cell in study.select("small"):
            record = make_record(cell.run, final={"test_perplexity": printed("figure4d", cell)})
            starts = ("height 3, lr 1e-07", "height 3, lr 0.0001")
            if cell.row in starts and cell.run.seed < seeds:
                record = dataclasses.replace(record, status="diverged", final=None)
            writer.append(record)
    *_, small, _ = figure4d.FIGURE.claims(load(study, tmp_path))
    assert small.text.startswith("From too small")
    assert small.verdict == verdict
    assert "Not shown for level 3" in small.finding


def test_a_level_that_does_not_help_yet_may_do_so_later(judged):
    def change(cell, value):
        return 20.0 if cell.row == "height 3, lr 1e-07" else value

    *_, small, _ = judged("figure4d", "small", change)
    assert small.verdict == TOO_SHORT
    assert "(1e-7 and 1e-4)" in small.text
    assert small.n == "3"


@pytest.mark.parametrize("study", ["figure2a", "figure2b", "figure4c"])
def test_one_seed_is_short_and_not_missing(judged, study):
    """Of one run there is no interval, but more of these runs would not help."""
    assert find(study).tier("small").seeds == 1
    claims = judged(study, "small")
    assert {claim.verdict for claim in claims} == {TOO_SHORT}
    assert not any("Not shown" in claim.finding for claim in claims)


def test_one_seed_of_the_whole_length_is_too_few(judged):
    claims = judged("figure2b", change=lambda cell, value: 3 * value, seeds=1)
    assert {claim.verdict for claim in claims} == {NOT_TESTABLE}
    assert all(claim.finding == TOO_FEW for claim in claims)


def test_a_rule_goes_with_its_claim():
    for name, figure in (each for each in command.FIGURES.items() if each[0][:7] == "figure4"):
        if name != "figure4f":
            claims = figure.claims(nothing(find(name)))
            judged = any("still fails at every height" in claim.text for claim in claims)
            assert ("A step size fails at a height" in figure.RULES) == judged, name


def test_how_records_were_trained_is_said(make_record):
    run = find("figure2b").select("smoke")[0].run
    plain = make_record(run)
    further = {"ensemble": 4, "captured": True}
    record = make_record(run, provenance=plain.provenance | further)
    assert claims_page._company(plain) == "alone"
    assert claims_page._company(record) == "in ensembles of 4, steps replayed as CUDA graphs"


def test_the_report_says_what_length_it_takes(judged, tmp_path):
    judged("figure2b", "small")
    results = load(find("figure2b"), tmp_path)
    text = claims_page.write(claims_page.judge([(figure2b, results)]), tmp_path).read_text()
    assert "takes that of tier paper (CIFAR-10, 500 epochs, 3 seeds: for a GPU)" in text


def test_a_line_without_runs_is_not_too_short(tmp_path, make_record):
    study = find("figure4c")
    with Writer(study.path("small", tmp_path)) as writer:
        for cell in study.select("small", "height 0, *") + study.select("small", "height 1, lr 1"):
            writer.append(make_record(cell.run, final={"test_error": 90.0}))
    verdicts = [claim.verdict for claim in figure4c.FIGURE.claims(load(study, tmp_path))]
    assert verdicts == [TOO_SHORT, TOO_SHORT, MISSING, MISSING, TOO_SHORT, TOO_SHORT]


@pytest.mark.parametrize("study", NAMES)
def test_other_data_test_nothing(judged, study):
    assert {claim.verdict for claim in judged(study, "smoke")} == {NOT_TESTABLE}


@pytest.mark.parametrize("study", NAMES)
def test_figures_are_drawn_from_gaps_too(tmp_path, make_record, study):
    cells = find(study).select("smoke")
    metric = find(study).metric
    with Writer(find(study).path("smoke", tmp_path)) as writer:
        for number, cell in enumerate(cells[: len(cells) // 2]):
            levels = [{"lr": [0.1, 0.09]}]
            curves = {"train_loss": [1.0, 0.5], metric: [9.0, 8.0], "hyperparameters": levels}
            final = {"train_loss": 0.5, metric: 8.0}
            record = make_record(cell.run, curves=curves, final=final)
            lost = dataclasses.replace(record, status="diverged", final=None)
            writer.append(lost if number == 1 else record)
    results = load(find(study), tmp_path)
    module = command.FIGURES[study]
    assert {claim.verdict for claim in module.claims(results)} <= {NOT_TESTABLE, MISSING}
    (path,) = module.draw(results, tmp_path / study)
    assert path.exists()
    page = path.with_suffix(".md").read_text()
    assert f"{len(cells) // 2} of {len(cells)} runs" in page
    assert "nan" not in page + module.summary(results)


def test_what_must_be_said_of_the_data_is_in_the_caption(judged, tmp_path):
    judged("figure2b")
    caption = figure2b.caption(load(find("figure2b"), tmp_path))
    about = "Tier paper: CIFAR-10; a copy; networks in mixed precision, bfloat16; 3 seeds."
    assert caption == f"{about} The schedule divides by ten after epochs 100 and 150."


@pytest.mark.parametrize(
    ("study", "length"),
    [
        ("figure2a", "trained for 5 or 15 of tier paper's 200 epochs"),
        ("figure3", "trained for 15,000 of tier paper's 50,000 steps"),
        ("figure4c", "trained for 3 of tier paper's 100 epochs"),
    ],
)
def test_how_short_runs_are_is_said_where_they_are_judged(judged, tmp_path, study, length):
    judged(study, "small")
    module, results = command.FIGURES[study], load(find(study), tmp_path)
    assert f"; {length}." in module.caption(results)
    found = claims_page.judge([(module, results)])
    text = report.write(found, tmp_path).read_text()
    assert f", {length}). " in text


@pytest.mark.parametrize(
    ("epochs", "counted"), [(1, 1), (2, 1), (5, 2), (15, 7), (20, 10), (200, 10)]
)
def test_a_final_figure_is_the_mean_of_the_end(epochs, counted):
    values = list(range(epochs))
    assert curves.end(values) == values[epochs - counted :]


@pytest.mark.parametrize(("low", "high"), [(1.15, 3.4), (3.5, 22), (14, 67), (0.3, 1.6), (0.04, 3)])
def test_there_are_numbers_near_both_ends_of_an_axis(low, high):
    axes = Figure().subplots()
    axes.plot([low, high])
    curves.logarithmic(axes)
    ticks = [*axes.get_yticks(), *axes.get_yticks(minor=True)]
    assert min(tick for tick in ticks if tick > 0.99 * low) < 1.3 * low
    assert max(tick for tick in ticks if tick < 1.01 * high) > high / 1.6


def test_the_schedule_is_scaled_to_the_length():
    by_tier = {
        tier: next(c.run for c in find("figure2b").select(tier) if c.row == "schedule").schedule
        for tier in ("small", "paper")
    }
    assert by_tier == {"small": (6, 9), "paper": (100, 150)}


def test_corners_are_trained_longer_in_the_shortened_grid():
    epochs = {cell.row: cell.run.epochs for cell in find("figure2a").select("small")}
    assert sorted(epochs.values()) == [5] * 10 + [15] * 8
    assert epochs["lr 0.01, momentum 0.09, learned"] == 15


def test_longer_runs_are_compared_where_the_shortest_end(tmp_path, make_record):
    """All start at 40 % and lose a point an epoch: at the same length nothing is better."""
    study = find("figure2a")
    with Writer(study.path("small", tmp_path)) as writer:
        for cell in study.select("small"):
            errors = [40.0 - epoch for epoch in range(cell.run.epochs)]
            if cell.row == figure2a.name(0.01, 0.09, "learned"):
                errors = [error + 3 for error in errors]
            curves = {"train_loss": errors, "test_error": errors}
            writer.append(make_record(cell.run, final={"test_error": errors[-1]}, curves=curves))
    results = load(study, tmp_path)
    *_, good = figure2a.claims(results)
    assert good.ours == "8 of 9 cells; the good setting: 36.5 %"
    assert "The best learned error (the mean of epochs 4 to 5) is 36.5 %" in figure2a.summary(
        results
    )
    assert figure2a.caption(results).endswith(
        "Those of 15 epochs: from (0.01, 0.09), (0.01, 0.99), (1, 0.09), (1, 0.99)."
    )
    figure2a.draw(results, tmp_path / "drawn")
    assert figure2a.caption(results) in (tmp_path / "drawn" / "small.md").read_text()


def test_the_ends_and_the_middle_have_more_seeds():
    cells = find("figure4d").select("small")
    assert len(cells) == 4 * (3 * 3 + 3)
    assert {cell.run.epochs * 500 for cell in cells} == {8000}


def test_the_step_size_is_the_one_taken(make_record):
    """A schedule divides what is constant in the hyperparameters."""
    run = find("figure2b").select("smoke", "schedule")[0].run
    assert run.schedule == (2, 3)
    record = make_record(run, curves={"hyperparameters": [{"lr": [0.1, 0.1, 0.1, 0.1, None]}]})
    found = curves.curve("lr")(record)
    assert found[:4] == pytest.approx([0.1, 0.1, 0.01, 0.001])
    assert found[4] is None


def test_too_small_a_step_size_of_figure4e(judged):
    """From 1e-4 the plain optimizer is at its best, and from 1e-6 a second level adds nothing."""
    *_, small, wider, _ = judged("figure4e")
    assert small.text == "From too small a step size (1e-6), a level lowers the error"
    assert small.paper == "height 0: 91.5 %<br>height 1: 10.7 %"
    assert wider.paper == "height 0: 2<br>height 1: 4<br>height 2: 4"  # decades, two apart
