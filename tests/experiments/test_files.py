"""Files that are replaced at once: what is drawn, and the pages about it."""

import pytest

from experiments import ExperimentError, files
from experiments.store import writing
from paper_figures.style import figure


def page(path):
    files.write_text(path, "new")


def picture(path):
    with figure(path.with_suffix(""), (2, 1)):
        pass


@pytest.mark.parametrize(("name", "write"), [("a.md", page), ("a.svg", picture)])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, name, write):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    path = tmp_path / name
    path.write_text("old")
    with monkeypatch.context() as disk:
        disk.setattr(files.os, "fsync", full)
        with pytest.raises(ExperimentError, match=r"cannot write to .*: No space"), writing(path):
            write(path)
    assert [each.name for each in tmp_path.iterdir()] == [name]
    assert path.read_text() == "old"
    write(path)
    assert "old" not in path.read_text(encoding="utf-8")
    assert not list(tmp_path.glob("*.new"))
