import dataclasses
import json
import pickle
import resource
import signal
import subprocess
import sys
import textwrap

import pytest

from experiments import ExperimentError
from experiments.provenance import BITS
from experiments.run import SCHEMA
from experiments.store import Writer, read
from experiments.timing.measurement import load
from paper_figures.claims_page import MACHINE


@pytest.fixture
def records(run, make_record):
    return [make_record(dataclasses.replace(run, seed=seed)) for seed in range(3)]


def write(path, records):
    with Writer(path) as writer:
        for record in records:
            writer.append(record)
        return writer


def test_records_come_back_equal_in_any_order(path, records):
    write(path, records)
    assert read(path) == {record.key: record for record in records}
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(reversed(lines)))
    assert read(path) == {record.key: record for record in records}


def test_no_file_has_no_records(path):
    assert read(path) == {}


def test_a_torn_last_line_is_passed_over_then_cut_off(path, records):
    write(path, records[:2])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert list(read(path)) == [records[0].key]
    writer = write(path, records[1:2])
    assert writer.dropped == len(whole.splitlines()[1]) - 9
    assert path.read_bytes() == whole


def test_a_broken_line_is_named(path, records):
    write(path, records)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{nonsense\n" + lines[2])
    with pytest.raises(ExperimentError, match=r"tier\.jsonl, line 2 is not a record"):
        read(path)


def test_another_schema_is_named(path, records):
    write(path, records)
    line = json.loads(path.read_text().splitlines()[0])
    path.write_text(json.dumps(line | {"schema": SCHEMA - 1}) + "\n")
    with pytest.raises(ExperimentError, match=f"schema {SCHEMA - 1}, and this version reads"):
        read(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run": {"task": "nothing"}}, "there is no task 'nothing'"),
        ({"run": {"tower": "Prodigy(1)"}}, "is no rival"),
        ({"run": {"tower": "SGD("}}, "GdtuoError"),
        ({"run": {"tower": 5}}, "AttributeError"),
        ({"status": "bogus"}, "its status is 'bogus'"),
        ({"status": "diverged"}, "its status is 'diverged', and its final figures {"),
        ({"final": None}, "its status is 'ok', and its final figures None"),
        ({"final": {"test_error": ...}}, "its final test_error is None"),
        ({"provenance": {"finished": None}}, "'finished' of its provenance is no text"),
        ({"provenance": {"finished": ...}}, "its provenance lacks finished"),
        ({"provenance": {"device": ..., "torch": ...}}, "its provenance lacks device, torch"),
        ({"provenance": {"data": ...}}, "its provenance lacks data"),
        ({"provenance": {"clean": ...}}, "its provenance lacks clean"),
    ],
)
def test_a_line_that_is_json_but_no_record_is_named(path, records, changes, reason):
    write(path, records[:2])
    lines = path.read_text().splitlines(keepends=True)
    fields = json.loads(lines[1])
    for name, values in changes.items():
        if isinstance(values, dict):
            changed = fields[name] | values
            values = {key: value for key, value in changed.items() if value is not ...}
        fields[name] = values
    path.write_text(lines[0] + json.dumps(fields) + "\n")
    with pytest.raises(ExperimentError, match=r"tier\.jsonl, line 2 is not a record") as error:
        read(path)
    assert reason in str(error.value)


def test_all_that_pages_and_comparisons_ask_for_is_needed(path, records):
    write(path, records[:1])
    (line,) = path.read_text().splitlines()
    fields = json.loads(line)
    fields["provenance"] = {}
    path.write_text(json.dumps(fields) + "\n")
    with pytest.raises(ExperimentError, match="its provenance lacks ") as error:
        read(path)
    for name in (*BITS, *MACHINE, "data"):
        assert name in str(error.value)


def test_a_measurement_without_a_date_is_named(path, make_measurement):
    timing = make_measurement("mlp").first
    del timing.provenance["finished"]
    write(path, [timing])
    with pytest.raises(
        ExperimentError, match=r"line 1 is not a record \(ValueError: its .* lacks finished"
    ):
        load(path)


@pytest.mark.parametrize("order", [1, -1])
def test_a_result_beats_a_failure_and_a_newer_one_an_older(path, run, make_record, order):
    failed = make_record(run, status="failed", final=None)
    old, new = make_record(run), make_record(run, steps=2)
    dates = {"2030": failed, "2028": old, "2029": new}
    write(
        path,
        [
            dataclasses.replace(record, provenance=record.provenance | {"finished": date})
            for date, record in dates.items()
        ][::order],
    )
    assert read(path)[run.key].steps == 2


def test_a_second_writer_is_refused_until_the_first_ends(path, records):
    with Writer(path), pytest.raises(ExperimentError, match="is being written by another run"):
        Writer(path)
    write(path, records)


def test_a_folder_that_can_not_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "study" / "tier.jsonl"
    with pytest.raises(ExperimentError, match=r"cannot write to .*file/study.*: Not a directory"):
        Writer(path)
    assert read(path) == {}


def test_a_file_that_is_a_folder_is_named(path):
    path.mkdir(parents=True)
    with pytest.raises(ExperimentError, match=r"cannot write to .*tier\.jsonl: Is a directory"):
        Writer(path)
    with pytest.raises(ExperimentError, match=r"cannot read .*tier\.jsonl: Is a directory"):
        read(path)


def test_a_killed_writer_leaves_whole_records_and_no_lock(path, run, make_record, tmp_path):
    script = f"""
        import itertools, dataclasses, pickle, pathlib
        from experiments.store import Writer
        record = pickle.loads(pathlib.Path({str(tmp_path / "record")!r}).read_bytes())
        with Writer(pathlib.Path({str(path)!r})) as writer:
            for seed in itertools.count():
                run = dataclasses.replace(record.run, seed=seed)
                writer.append(dataclasses.replace(record, run=run, key=run.key))
                print(seed, flush=True)
    """
    (tmp_path / "record").write_bytes(pickle.dumps(make_record(run, message="x" * 100_000)))
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        while writer.stdout.readline().strip() != "20":
            assert writer.poll() is None
        writer.send_signal(signal.SIGKILL)
    path.write_bytes(path.read_bytes()[:-7])  # whatever the moment of the kill, a torn line
    before = read(path)
    assert len(before) >= 20
    write(path, [make_record(run, provenance=make_record(run).provenance | {"finished": "3000"})])
    assert read(path).keys() == before.keys()


def test_a_full_disk_is_reported_and_loses_nothing(path, records):
    write(path, records[:1])
    whole = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Writer(path) as writer:
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 100, limits[1]))
        try:
            with pytest.raises(ExperimentError, match=r"cannot write .* records before .* safe"):
                writer.append(records[1])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert path.read_bytes() == whole
        writer.append(records[1])
    assert len(read(path)) == 2
