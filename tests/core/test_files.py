"""Files and folders are replaced whole or not at all."""

import json
import os
import threading
from pathlib import Path

import pytest

from medgan_pl.core.files import atomically, read_json, remove_leftovers, write_whole
from medgan_pl.core.table import Table


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def fill(path: Path, content: str, folder: bool) -> None:
    """Write a file, or a folder of one file."""
    if folder:
        path.mkdir()
    (path / "a" if folder else path).write_text(content)


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_the_new_content_replaces_the_old(tmp_path: Path, folder: bool, old: bool) -> None:
    path = tmp_path / "x.y"
    if old:
        fill(path, "old", folder)
        if folder:
            (path / "b").write_text("of the old one alone")
    with atomically(path) as temporary:
        fill(temporary, "new", folder)
        assert temporary.parent == tmp_path  # os.replace cannot move between disks
        assert path.exists() is old
    assert names(tmp_path) == (["x.y", "x.y/a"] if folder else ["x.y"])
    assert (path / "a" if folder else path).read_text() == "new"


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("place", ["in the block", "before the block writes", "fsync", "replace"])
def test_an_error_leaves_the_old_content_and_no_temporary_file(tmp_path, monkeypatch, folder, error, place) -> None:
    path = tmp_path / "x"
    fill(path, "old", folder)
    before = names(tmp_path)

    def fails(*arguments: object) -> None:
        raise error

    if place in ("fsync", "replace"):
        monkeypatch.setattr(os, place, fails)

    def write() -> None:
        with atomically(path) as temporary:
            if place == "before the block writes":
                raise error
            fill(temporary, "ne", folder)
            if place == "in the block":
                raise error

    with pytest.raises(error):
        write()
    assert names(tmp_path) == before
    assert (path / "a" if folder else path).read_text() == "old"


def test_a_file_does_not_replace_a_folder(tmp_path: Path) -> None:
    fill(tmp_path / "x", "old", folder=True)
    with pytest.raises(IsADirectoryError):
        write_whole(tmp_path / "x", b"new")
    assert names(tmp_path) == ["x", "x/a"]


@pytest.mark.parametrize("folder", [False, True])
def test_the_content_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: bool) -> None:
    calls = []
    for name in ("fsync", "replace"):
        act = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *arguments, name=name, act=act: (calls.append(name), act(*arguments)))
    with atomically(tmp_path / "x") as temporary:
        fill(temporary, "new", folder)
        assert calls == []
    assert calls == ["fsync", "replace"]


def test_two_writers_of_one_path_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with atomically(path) as first, atomically(path) as second:
        assert first != second
        second.write_text("second")
        first.write_text("first")
    assert names(tmp_path) == ["x"]
    assert path.read_text() == "first"  # whose block ended last


def test_readers_never_see_half_of_what_several_threads_write(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    threads = [
        threading.Thread(target=lambda n=n: [write_whole(path, json.dumps([n] * 2000).encode()) for _ in range(20)]) for n in range(3)
    ]
    path.parent.mkdir()
    write_whole(path, json.dumps([0] * 2000).encode())
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found = json.loads(path.read_text())
        assert len(found) == 2000
        assert len(set(found)) == 1
    assert names(tmp_path) == ["new", "new/x.json"]


def test_json_that_is_torn_or_missing_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert read_json(path) is None
    path.write_text('{"a": "é"}')
    assert read_json(path) == {"a": "é"}
    path.write_text('{"a"')
    assert read_json(path) is None


def test_what_kills_left_of_this_path_alone_is_removed(tmp_path: Path) -> None:
    (tmp_path / "x[1].00112233.part").touch()
    fill(tmp_path / "x[1].aabbccdd.part", "a folder", folder=True)
    others = ["x1.00112233.part", "x[1]", "x[1].json.00112233.part", "x[1].part"]
    for name in others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path / "x[1]")
    assert names(tmp_path) == others
    remove_leftovers(tmp_path / "nowhere" / "x")


def test_a_table_written_anew_removes_what_a_kill_left(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv.00112233.part").write_text("ima")
    table = Table(tmp_path / "metrics.csv")
    table.add({"images": 1, "loss": 2.0})
    assert names(tmp_path) == ["metrics.csv"]
    assert (tmp_path / "metrics.csv").read_text() == "images,loss\n1,2.0\n"
