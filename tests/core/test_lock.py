"""A folder has one writer at a time; the lock ends with its process, however that ends."""

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from medgan_pl.core import lock
from medgan_pl.core.lock import only_writer


def elsewhere(task: Callable[[], None]) -> str:
    """Return the message of the error that `task` raises in another process, "" for none."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        lock.held.clear()  # a process of its own holds nothing
        try:
            task()
            told = ""
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writing, told.encode())
        os._exit(0)
    os.close(writing)
    os.waitpid(child, 0)
    with os.fdopen(reading, "rb") as pipe:
        return pipe.read().decode()


def entered(folder: Path, name: str = lock.NAME) -> str:
    def enter() -> None:
        with only_writer(folder, "choose another", name):
            pass

    return elsewhere(enter)


def test_a_second_process_is_refused_and_told_who_writes(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with only_writer(folder, "choose another"):
        (folder / "metrics.csv").touch()
        refused = entered(folder)
        with only_writer(folder, "choose another"):  # the process itself may enter again, and still holds it afterwards
            pass
        assert entered(folder) == refused
        assert entered(folder / ".." / "run") == refused.replace(str(folder), str(folder / ".." / "run"))  # by another path
    assert refused.startswith(f"FileExistsError: {folder} must have one writer at a time, and process {os.getpid()} on '")
    assert refused.endswith("writes to it; choose another")
    assert entered(folder) == ""
    assert [path.name for path in folder.iterdir()] == ["metrics.csv"]


def test_the_holder_enters_again_by_another_path_and_keeps_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, link = tmp_path / "run", tmp_path / "link"
    folder.mkdir()
    link.symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    with only_writer(folder, ""):
        for other in (folder / ".." / "run", link, Path("run")):
            with only_writer(other, ""):
                pass
            assert "must have one writer" in entered(folder)
    assert entered(folder) == ""


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        lock.claim(tmp_path, "")
        os.write(writing, b"x")
        signal.pause()
    os.read(reading, 1)
    assert "must have one writer" in entered(tmp_path)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert (tmp_path / lock.NAME).exists()
    assert entered(tmp_path) == ""


def test_a_process_that_the_holder_started_does_not_keep_the_lock(tmp_path: Path) -> None:
    with only_writer(tmp_path, ""):
        child = os.fork()
        if not child:
            signal.pause()  # a loader that outlives its run
    try:
        assert entered(tmp_path) == ""
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_what_waited_for_a_removed_lock_takes_the_new_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken, path = [], tmp_path / lock.NAME

    def lockf(descriptor: int, how: int, real: Callable = fcntl.lockf) -> None:
        if not taken:
            path.unlink()  # as the one before does at its end
        taken.append(descriptor)
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    with only_writer(tmp_path, ""):
        assert len(taken) == 2
        assert path.exists()
        assert "must have one writer" in entered(tmp_path)


def test_other_files_of_one_folder_have_locks_of_their_own(tmp_path: Path) -> None:
    with only_writer(tmp_path, "wait", name=".a.safetensors.lock"):
        assert entered(tmp_path, ".b.safetensors.lock") == "" == entered(tmp_path)
        assert f"{tmp_path / 'a.safetensors'} must have one writer" in entered(tmp_path, ".a.safetensors.lock")


def test_a_disk_without_locks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with only_writer(tmp_path, ""):
        assert "cannot be locked (No locks available)" in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"", b"[1]", b"{}", b'{"pid": "\\u001b[2J", "host": "x", "since": "now"}', b"\xff"])
def test_the_words_of_a_damaged_lock_are_not_repeated(content: bytes) -> None:
    assert lock.described(content) == "another process"


def test_what_a_killed_holder_wrote_is_written_over(tmp_path: Path) -> None:
    (tmp_path / lock.NAME).write_text("{" + 500 * "x")
    with only_writer(tmp_path, ""):
        assert f"process {os.getpid()} on" in entered(tmp_path)


def test_a_long_name_of_a_host_is_cut() -> None:
    content = b'{"pid": 7, "host": "' + 1000 * b"h" + b'", "since": "2026-01-02 03:04:05"}'
    assert lock.described(content) == f"process 7 on {'h' * 64!r} since 2026-01-02 03:04:05"


def test_an_empty_folder_that_was_made_for_the_lock_goes_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("mine", "made"):
        with only_writer(tmp_path / name, ""):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("at", ["mkdir", "open"])
def test_a_folder_that_cannot_be_written_to_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    """The disk is read-only, or the folder is another user's; so is a file in its place."""

    def taken(name: str):
        return only_writer(tmp_path / name, "")

    def refused(*arguments, **options) -> None:
        raise PermissionError(errno.EACCES, "Permission denied") if at == "mkdir" else OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path if at == "mkdir" else os, at, refused)
    why = "Permission denied" if at == "mkdir" else "Read-only file system"
    with pytest.raises(OSError, match=rf"out must be a folder that can be made and written, and it is not: {why}; choose"), taken("out"):
        pass
    monkeypatch.undo()
    (tmp_path / "file").touch()
    with (
        pytest.raises(OSError, match=r"file must be a folder that can be made and written, and it is not: File exists"),
        taken("file"),
    ):
        pass
