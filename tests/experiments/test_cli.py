"""The command line as a user has it, on the smallest part of the smoke tier."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments import checkpoints, cli, store
from experiments.cli import main
from experiments.execution import Pause, execute_all
from experiments.store import Writer
from experiments.studies import find
from experiments.train import Training
from paper_figures import __main__ as paper_figures

CELLS = ["table1", "--tier", "smoke", "--only", "Adam*", "--seeds", "1"]


@pytest.fixture(autouse=True)
def no_data(monkeypatch):
    monkeypatch.delenv("GDTUO_DATA", raising=False)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # What a shell starts in the background ignores interrupts, and so would its children.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_from_an_interrupted_run_to_figures(tmp_path, capsys):
    results = ["--results", str(tmp_path)]
    path = tmp_path / "table1" / "smoke.jsonl"
    chosen = ["table1", "--tier", "smoke", "--only", "Adam / *"]
    one_seed = [*chosen, "--seeds", "1"]

    # Each run alone: so seconds are left for the signal, on a busy machine too.
    alone = ["--jobs", "1", "--members", "1"]
    with start("experiments", "run", *one_seed, *alone, *results) as process:
        assert process.stdout.readline().startswith("[1/4] Adam / SGD(1e-05), seed 0: ok")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 130
    assert "The same command goes on from here" in rest
    done = len(path.read_text().splitlines())
    assert done < 4

    assert main(["run", *one_seed, "--jobs", "2", *results]) == 0
    assert f"{4 - done} done, {done} cached, 0 diverged, 0 failed" in capsys.readouterr().out
    assert main(["status", *chosen, *results]) == 0
    assert "in all 12: 4 cached, 8 to run" in capsys.readouterr().out

    with start("experiments", "plot", *results) as process:
        assert "1 of 3 seeds, 4 of 96 runs" in process.stdout.read()
    assert process.returncode == 0
    assert "4 of 96 runs" in (tmp_path / "CLAIMS.md").read_text()
    assert (tmp_path / "table1" / "smoke.svg").stat().st_size > 0


def test_a_dry_run_and_a_limit(tmp_path, capsys):
    command = ["run", *CELLS, "--results", str(tmp_path), "--limit", "2", "--dry-run"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert out.startswith(
        "Adam, seed 0: 5 epochs\nAdam / SGD(1e-05), seed 0: 5 epochs\n2 of 9 runs"
    )
    assert list(tmp_path.iterdir()) == []


def test_who_reads_may_have_seen_enough(tmp_path, monkeypatch, capfd):
    """As in `python -m experiments list | head`."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert main(["run", *CELLS, "--results", str(tmp_path), "--dry-run"]) == 1
    assert capfd.readouterr().err == ""


def test_what_other_studies_have_is_counted_as_cached(in_this_process, tmp_path, capsys):
    """Figures 4a and 4b share the runs without a tower."""
    chosen = ["--tier", "smoke", "--seeds", "1", "--only", "height 0, lr 1*"]
    rest = [*chosen, "--results", str(tmp_path)]
    assert main(["run", "figure4a", *rest, "--limit", "2"]) == 0
    total = len(find("figure4b").select("smoke", "height 0, lr 1*", 1))
    assert main(["run", "figure4b", *rest, "--limit", "1", "--dry-run"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    copied = "and 2 copied from other records if their data are those here, into"
    assert f"1 of {total} runs would be trained, {copied}" in last
    command = ["status", "figure4b", "--tier", "smoke", "--only", "height 0, lr 1e-0?"]
    assert main([*command, "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "lr 1e-08  1 to copy (trained for another study or tier), 2 to run (never" in out
    assert "in all 12: 2 to copy, 10 to run" in out
    assert main(["run", "figure4b", *rest, "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "[1/1] " in out
    assert "1 done, 2 cached, 0 diverged, 0 failed" in out
    assert len(store.read(find("figure4b").path("smoke", tmp_path))) == 3


def test_what_another_tier_has_is_counted_as_cached(tmp_path, make_record, capsys):
    """The tiers of `robustness` differ in the number of seeds."""
    study, only = find("robustness"), "mlp, default from 1"
    (cell,) = study.select("small", only, seeds=1)
    with Writer(study.path("small", tmp_path)) as writer:
        writer.append(make_record(cell.run))
    rest = ["--tier", "paper", "--only", only, "--seeds", "2", "--results", str(tmp_path)]
    assert main(["run", "robustness", *rest, "--dry-run"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    copied = "and 1 copied from other records if their data are those here, into"
    assert f"1 of 2 runs would be trained, {copied}" in last


def test_results_of_other_data_are_neither_copied_nor_added_to(
    in_this_process, tmp_path, make_record, capsys
):
    """Several copies of a data set may differ a little; made-up records are of one called "d"."""
    only = ["--tier", "smoke", "--seeds", "2", "--only", "height 0, lr 1", "--limit", "1"]
    cells = find("figure4a").select("smoke", "height 0, lr 1", 2)
    with Writer(find("figure4a").path("smoke", tmp_path)) as writer:
        writer.append(make_record(cells[0].run))
    assert main(["run", "figure4b", *only, "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "[1/1] height 0, lr 1, seed 0: ok" in out
    assert "1 done, 0 cached" in out
    assert main(["run", "figure4a", *only, "--results", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "has results of data called digits whose fingerprint is d; that of those here" in error
    assert len(store.read(find("figure4a").path("smoke", tmp_path))) == 1


def test_a_failure_of_another_study_hides_no_result(tmp_path, make_record, capsys):
    only = ["--tier", "smoke", "--seeds", "1", "--only", "height 0, lr 1"]
    (cell,) = find("figure4a").select("smoke", "height 0, lr 1", 1)
    for study, status in (("figure4a", "ok"), ("sensitivity2019", "failed")):
        with Writer(find(study).path("smoke", tmp_path)) as writer:
            writer.append(make_record(cell.run, status=status))
    assert main(["run", "figure4b", *only, "--results", str(tmp_path), "--dry-run"]) == 0
    assert "0 of 1 run would be trained, and 1 copied" in capsys.readouterr().out


def test_a_pattern_that_one_study_has_nothing_for_stops_all(in_this_process, tmp_path, capsys):
    rest = ["--tier", "smoke", "--only", "SGD", "--seeds", "1", "--results", str(tmp_path)]
    assert main(["run", "table1", "figure3", *rest]) == 1
    assert "figure3: no cell of 6 matches 'SGD'" in capsys.readouterr().err
    assert not find("table1").path("smoke", tmp_path).exists()


def test_only_failures_that_were_wanted_are_not_left(
    in_this_process, tmp_path, monkeypatch, capsys
):
    """A batch that was paused goes on whole, and what was not asked for in it may fail."""
    only = ["--tier", "smoke", "--only", "height 0, lr 1", "--results", str(tmp_path)]
    runs = [cell.run for cell in find("figure4a").select("smoke", "height 0, lr 1", 2)]
    path = find("figure4a").path("smoke", tmp_path)
    checkpoints.save(path, execute_all(runs, [None, None], pause=Pause(every=0))[0])

    def fail(self, until):
        raise RuntimeError("no memory")

    monkeypatch.setattr(Training, "run", fail)
    assert main(["run", "figure4a", *only, "--seeds", "1"]) == 1
    out = capsys.readouterr()
    assert "2 failed" in out.out
    assert "runs left" not in out.out
    assert "stays: the same command goes on from there" in out.out + out.err


def test_of_several_studies_those_that_have_the_tier_are_run(in_this_process, tmp_path, capsys):
    rest = ["--tier", "small", "--dry-run", "--results", str(tmp_path)]
    assert main(["run", "table1", "kappa", "figure4b", *rest]) == 0
    out = capsys.readouterr().out
    assert out.startswith("kappa is left out: it has no tier 'small'\nSGD, seed 0: ")
    assert str(find("table1").path("small", tmp_path)) in out
    assert str(find("figure4b").path("small", tmp_path)) in out
    chosen = ["--tier", "smoke", "--seeds", "1", "--limit", "1", "--results", str(tmp_path)]
    assert main(["run", "table1", "figure4b", *chosen]) == 0
    assert capsys.readouterr().out.count("1 done") == 2


def test_the_first_study_with_a_failure_is_the_last_that_is_run(monkeypatch):
    begun = []
    monkeypatch.setattr(cli, "_train", lambda study, *_: begun.append(study.name) or len(begun) - 1)
    assert main(["run", "table1", "kappa", "figure4b", "--tier", "paper"]) == 1
    assert begun == ["table1", "kappa"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "table9"], "no study 'table9'; known: table1"),
        (["run", "table1", "--tier", "huge"], "no tier 'huge'; it has smoke, small, paper"),
        (["run", "table1", "kappa", "--tier", "huge"], "no study has a tier 'huge'; there are"),
        (["verify", "--tier", "small", "--results", "nowhere"], "nothing was compared"),
        (["verify", "--tier", "huge"], "no study has a tier 'huge'; there are smoke, small, paper"),
        (["verify", "table1", "--tier", "huge"], "no tier 'huge'; it has smoke, small, paper"),
        (
            ["status", "table1", "--only", "Adamw"],
            "no cell of 32 matches 'Adamw'; the nearest are\n  Adam\n",
        ),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    assert main(arguments) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["run", *CELLS], ["time", "figure4f", "--tier", "smoke"]],
    ids=["run", "time"],
)
def test_results_that_can_not_be_written_are_an_error(in_this_process, tmp_path, command, capsys):
    (tmp_path / "file").touch()
    assert main([*command, "--results", str(tmp_path / "file")]) == 1
    message = capsys.readouterr().err
    assert message.startswith(f"error: cannot write to {tmp_path / 'file'}")
    assert "Not a directory" in message


@pytest.mark.parametrize("device", ["foo", "meta"])
@pytest.mark.parametrize(
    "command",
    [["run", *CELLS], ["time", "figure4f", "--tier", "smoke"]],
    ids=["run", "time"],
)
def test_a_device_that_is_none_is_an_error(in_this_process, tmp_path, command, device, capsys):
    assert main([*command, "--device", device, "--results", str(tmp_path)]) == 1
    assert f"can't use the device '{device}' here" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def plot(tmp_path, monkeypatch, make_record):
    """Draw what there is of one cell of `study`, as a user would; returns the exit status."""

    def draw(study, tier, *arguments):
        with Writer(find(study).path(tier, tmp_path)) as writer:
            writer.append(make_record(find(study).select(tier)[0].run))
        where = ["--results", str(tmp_path)]
        monkeypatch.setattr("sys.argv", ["paper_figures", *arguments, *where])
        return paper_figures.main()

    return draw


def test_what_is_measured_can_be_plotted(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command: called.append(command) or subprocess.CompletedProcess((), 0),
    )
    assert main(["plot", "figure4f", "--tier", "smoke", "--results", str(tmp_path)]) == 0
    assert called[0][-3:] == ["figure4f", "--tier", "smoke"]


def test_a_plot_of_a_tier_passes_over_studies_without_it(plot, tmp_path, capsys):
    assert plot("table1", "small", "--tier", "small") == 0
    assert f"{tmp_path / 'table1'}: Tier small: " in capsys.readouterr().out
    assert (tmp_path / "table1" / "small.svg").exists()


def test_a_plot_of_a_tier_that_has_nothing_is_an_error(plot, capsys):
    assert plot("table1", "small", "--tier", "huge") == 1
    assert "no study has a tier 'huge'; there are smoke, small, paper" in capsys.readouterr().err
    assert plot("table1", "small", "--tier", "smoke") == 1
    assert "has no records of tier smoke" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["table1/small.svg", "table1/small.md", "CLAIMS.md", "REPORT.md"])
def test_a_page_that_can_not_be_written_is_an_error(plot, tmp_path, name, capsys):
    (tmp_path / name).mkdir(parents=True)
    assert plot("table1", "small", "table1") == 1
    expected = f"error: cannot write to {tmp_path / name}: Is a directory"
    assert capsys.readouterr().err.startswith(expected)


@pytest.fixture
def in_this_process(monkeypatch):
    monkeypatch.setattr(cli, "processes", lambda jobs: ThreadPoolExecutor(1))


def test_verify_is_of_all_studies_that_have_records(in_this_process, tmp_path, capsys):
    results = ["--results", str(tmp_path)]
    for study, cell in {"table1": "Adam", "figure4b": "height 1, lr 1"}.items():
        chosen = ["--tier", "smoke", "--only", cell, "--seeds", "2"]
        assert main(["run", study, *chosen, *results]) == 0
    assert "2 done" in capsys.readouterr().out
    assert main(["verify", "--sample", "1", *results]) == 0
    out = capsys.readouterr().out
    # Both were trained as an ensemble of two.
    assert "Training 1 run again of table1" in out
    assert "Training 1 run again of figure4b" in out
    assert out.count("It agrees.") == 2
    assert out.count("equal within the spread of the seeds") == 2


def test_with_one_member_each_is_trained_alone(in_this_process, tmp_path, capsys):
    cell = ["table1", "--tier", "smoke", "--only", "Adam", "--results", str(tmp_path)]
    assert main(["run", *cell, "--members", "1"]) == 0
    assert main(["verify", "--sample", "1", "--results", str(tmp_path)]) == 0
    assert "equal to the bit" in capsys.readouterr().out


def test_list(capsys):
    assert main(["list"]) == 0
    out = capsys.readouterr().out
    assert "of 320 runs done" in out
    assert "of   1 workload measured" in out


def test_the_time_limit_is_kept(tmp_path, capsys):
    command = ["run", "table1", "--tier", "smoke", "--only", "SGD", "--results", str(tmp_path)]
    assert main([*command, "--time-limit", "0s", "--jobs", "1"]) == 0
    out = capsys.readouterr().out
    assert "The time is up, with 3 runs left. The same command goes on from here" in out


@pytest.mark.parametrize("text", ["90", "m", "1d", "1.5.2s"])
def test_a_time_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["run", "table1", "--time-limit", text])
    assert "expected such as 90s, 30m or 2h" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["x", "0", "-1", "1.5"])
def test_a_count_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["verify", "--jobs", text])
    assert f"argument --jobs: {text!r} is no count; expected 1 or more" in capsys.readouterr().err


def test_jobs_are_not_for_a_cluster(capsys):
    with pytest.raises(SystemExit):
        main(["run", *CELLS, "--dask", "tcp://127.0.0.1:9", "--jobs", str(os.cpu_count())])
    assert "--jobs: not allowed with argument --dask" in capsys.readouterr().err


def test_status_says_why_a_run_is_to_be_done(tmp_path, make_record, capsys):
    cells = find("table1").select("smoke", "SGD / SGD*")
    first, second, *_ = [cell.run for cell in cells if cell.run.parent is None]
    path = find("table1").path("smoke", tmp_path)
    with Writer(path) as writer:
        writer.append(make_record(first, status="failed", message="a fault", final=None))
    found = execute_all([second], [None], pause=Pause(every=0))
    checkpoints.save(path, found[0])
    command = ["status", "table1", "--tier", "smoke", "--only", "SGD / SGD*"]
    assert main([*command, "--results", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "1 to run (failed last time)" in out
    assert "1 to run (paused in epoch 1 of 30)" in out
    assert "1 to run (never trained)" in out
    assert "3 to run (waits for the run it starts from)" in out
    assert "failed: SGD / SGD, seed 0: a fault" in out


def test_long_runs_do_not_take_turns(in_this_process, tmp_path, monkeypatch):
    """One that is paused for a checkpoint goes on before another is begun."""
    seen = []

    class Spy(cli.Progress):
        def __call__(self, found):
            runs = getattr(found, "runs", None) or [found.run]
            seen.append(runs[0].seed)
            super().__call__(found)

    monkeypatch.setattr(cli, "Progress", Spy)
    monkeypatch.setattr(cli, "EVERY", 0.0)
    command = ["run", "table1", "--tier", "smoke", "--only", "Adam", "--seeds", "2"]
    assert main([*command, "--members", "1", "--jobs", "1", "--results", str(tmp_path)]) == 0
    assert len(seen) > 2  # there were pauses
    assert seen == sorted(seen)


def test_a_sweep_that_is_terminated_is_interrupted(in_this_process, tmp_path, monkeypatch, capsys):
    before = signal.getsignal(signal.SIGTERM)

    class Killed(cli.Progress):
        def __call__(self, found):
            super().__call__(found)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(cli, "Progress", Killed)
    command = ["run", *CELLS, "--members", "1", "--jobs", "1", "--results", str(tmp_path)]
    assert main(command) == 130
    assert "The same command goes on from here" in capsys.readouterr().err
    assert len((tmp_path / "table1" / "smoke.jsonl").read_text().splitlines()) == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("heeds_interrupts")
def test_a_run_that_is_interrupted_goes_on_from_that_step(
    number, in_this_process, tmp_path, monkeypatch, capsys, results
):
    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == 8:
            os.kill(os.getpid(), number)
        return step(*arguments)

    steps: list[int] = []
    step = Training._step
    command = ["run", "table1", "--tier", "smoke", "--only", "Adam", "--seeds", "1", "--results"]
    assert main([*command, str(tmp_path / "whole")]) == 0
    with monkeypatch.context() as patched:
        patched.setattr(Training, "_step", interrupted)
        assert main([*command, str(tmp_path / "parts")]) == 130
    captured = capsys.readouterr()
    assert "Stopped with 0 done" in captured.err
    path = tmp_path / "parts" / "table1" / "smoke.jsonl"
    ((epoch, batch),) = checkpoints.progress(path).values()
    assert main([*command, str(tmp_path / "parts")]) == 0
    (whole,), (parts,) = (
        store.read(tmp_path / name / "table1" / "smoke.jsonl").values()
        for name in ("whole", "parts")
    )
    assert results(whole) == results(parts)
    assert (epoch - 1) * whole.steps // whole.run.epochs + batch == len(steps)  # no step more


@pytest.mark.usefixtures("heeds_interrupts")
def test_an_interrupt_when_all_is_done_stops_what_would_follow(
    in_this_process, tmp_path, monkeypatch, capsys
):
    class Last(cli.Progress):
        def __call__(self, found):
            super().__call__(found)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(cli, "Progress", Last)
    rest = ["--tier", "smoke", "--only", "height 0, lr 0.001", "--seeds", "1"]
    for number, studies in enumerate((["figure4a"], ["figure4a", "figure4d"])):
        folder = tmp_path / str(number)
        status = main(["run", *studies, *rest, "--members", "1", "--results", str(folder)])
        captured = capsys.readouterr()
        assert status == (130 if number else 0)
        assert "1 done, 0 cached, 0 diverged, 0 failed" in captured.out
        assert ("Stopped with 0 done" in captured.err) is bool(number)
