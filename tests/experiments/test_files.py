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


def test_two_processes_that_write_one_file_are_in_nobodys_way(tmp_path, monkeypatch):
    path = tmp_path / "page.md"
    with files.replacing(path) as first:
        first.write(b"first")
        monkeypatch.setattr(files.os, "getpid", lambda: -1)
        with files.replacing(path) as second:
            second.write(b"2")
        assert path.read_bytes() == b"2"
    assert path.read_bytes() == b"first"
    assert [each.name for each in tmp_path.iterdir()] == ["page.md"]


def test_a_picture_is_the_same_wherever_it_is_drawn(tmp_path):
    """Names that are drawn at random, and the last digits of coordinates, are not in it."""
    for shift in (0.0, 1e-12):
        with figure(tmp_path / f"{shift:g}", (2 + shift, 1)) as canvas:
            axes = canvas.subplots()
            axes.plot([0, 1 / 3, 1], [0, 2 / 3, 1], marker="o")
            axes.imshow([[0, 1], [1, 0]])
            axes.scatter([0, 1], [1, 0], c=[0, 1])
    first, second = ((tmp_path / f"{shift:g}.svg").read_text() for shift in (0.0, 1e-12))
    assert first == second
    assert "url(#shared" in first
