"""Files that are made again unless they are as they were written."""

import logging
from pathlib import Path

import pytest

from medgan_pl.core.sealed import read_sealed, recall, remember, write_sealed


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x"
    assert read_sealed(path) is None
    for content in (b"", b"\n", bytes(range(256))):
        write_sealed(path, content)
        assert read_sealed(path) == content
    remember(path, {"a": "é", "b": [1]})
    assert recall(path) == {"a": "é", "b": [1]}


def test_every_changed_byte_and_every_cut_is_noticed(tmp_path: Path) -> None:
    path, other = tmp_path / "x", tmp_path / "y"
    remember(path, {"a": 12})
    whole = path.read_bytes()
    torn = [whole[:n] for n in range(len(whole))] + [whole + b" ", b"\xff" + whole, bytes(len(whole))]
    for content in torn + [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(len(whole))]:
        path.write_bytes(content)
        assert recall(path) is None, content
    other.write_bytes(whole)
    assert recall(other) is None  # the file of another name


def test_a_memory_that_cannot_be_written_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    with caplog.at_level(logging.WARNING):
        remember(tmp_path / "file" / "x.json", 1)
    assert "x.json cannot be written (File exists): the same is found anew at each start" in caplog.text
