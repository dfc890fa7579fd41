import subprocess

import pytest

from experiments import ExperimentError, provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository that the code seems to be in, all of it committed."""
    files = ("experiments/provenance.py", "README.md", "docs/performance.md", "docs/other.md")
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    who = ("-c", "user.name=n", "-c", "user.email=e")
    for words in (("init",), ("add", "."), (*who, "commit", "--no-verify", "-m", "all")):
        subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / files[0]))
    return tmp_path


@pytest.mark.parametrize(
    ("file", "clean"),
    [
        ("results/table1/small.jsonl", True),
        ("README.md", True),
        ("docs/performance.md", True),
        ("docs/other.md", False),
        ("experiments/provenance.py", False),
        ("experiments/another.py", False),
    ],
)
def test_what_is_drawn_from_records_is_no_part_of_the_code(repository, file, clean):
    assert provenance.source()["clean"] is True
    (repository / file).parent.mkdir(parents=True, exist_ok=True)
    (repository / file).write_text("changed")
    assert provenance.source()["clean"] is clean


def test_without_a_repository_nothing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "experiments" / "provenance.py"))
    assert provenance.source() == {"commit": None, "clean": None}


def test_a_repository_that_git_refuses_is_an_error(repository, monkeypatch):
    """As it does in one that another user owns."""
    (repository / ".git" / "HEAD").write_text("torn")
    with pytest.raises(ExperimentError, match=r"git doesn't say .* is: fatal: .*set GDTUO_COMMIT"):
        provenance.source()
    monkeypatch.setenv("GDTUO_COMMIT", "0123abc")
    assert provenance.source() == {"commit": "0123abc", "clean": True}


def test_a_processor_by_number_is_a_processor():
    assert provenance.environment("cpu:0") == provenance.environment("cpu")


@pytest.mark.parametrize("said", ["0123abc", "0123abc-dirty"])
def test_without_a_repository_the_commit_may_be_said(said, tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GDTUO_COMMIT", said)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "experiments" / "provenance.py"))
    assert provenance.source() == {"commit": "0123abc", "clean": said == "0123abc"}


def test_what_is_no_commit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("GDTUO_COMMIT", "v1-3-gabcdef0")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "experiments" / "provenance.py"))
    with pytest.raises(ExperimentError, match="GDTUO_COMMIT is 'v1-3-gabcdef0'; expected what git"):
        provenance.source()


def test_a_repository_knows_better_than_what_is_said(repository, monkeypatch):
    monkeypatch.setenv("GDTUO_COMMIT", "0123abc-dirty")
    assert provenance.source()["commit"] != "0123abc"
    assert provenance.source()["clean"] is True
