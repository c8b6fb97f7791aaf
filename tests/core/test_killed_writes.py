"""A kill at any moment leaves whole files: all are written beside their names first, and what is left of one goes with the next run."""

import ast
import os
from pathlib import Path

import pytest

import medgan_pl
from medgan_pl.core.files import write_together
from medgan_pl.core.lock import only_writer

PACKAGE = Path(medgan_pl.__file__).parent
WRITERS = ("write_text", "write_bytes", "savefig", "save", "save_file", "to_filename", "imsave")
# What is written into besides the temporary file of `atomically`: memory, and a file that is open. Tables and journals grow by
# whole lines, and their readers know a cut one.
INTO = ("temporary", "atomically", "buffer", "picture", "empty", "file", "written")
# Files that a kill may cut, and why that is no harm.
CUT = {
    "data/prepare/": "a cache that is being made: its journal says which parts are whole (tests/data/prepare)",
    "data/phantom/__main__.py": "a picture of the phantom for the docs, which is drawn again",
    "analyze/inversion.py: root": "a list in a temporary folder",
}


def names_in(node: ast.AST) -> set[str]:
    return {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}


def straight_writes(path: Path) -> list[str]:
    """The calls in a file that write to a path under its own name."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        own = node.func.value if isinstance(node.func, ast.Attribute) else node.func
        opens = name == "open" and any(isinstance(each, ast.Constant) and str(each.value)[:1] in "wx" for each in node.args)
        if not opens and name not in WRITERS:
            continue
        target = own if opens or name.startswith("write_") else ast.Tuple(list(node.args))
        named = names_in(target)
        ours = name == "save" and (not node.args or names_in(own) == {"self"})  # of a logger or a callback, which take no path
        if named & {*INTO} or ours:
            continue
        where = path.relative_to(PACKAGE).as_posix()
        if not any(f"{where}: {each}".startswith(known) for known in CUT for each in named or {""}):
            found.append(f"{where}:{node.lineno}: {ast.unparse(node)[:80]}")
    return found


def test_every_file_is_written_beside_its_name() -> None:
    found = [line for path in sorted(PACKAGE.rglob("*.py")) for line in straight_writes(path)]
    assert found == [], "write these by atomically, write_whole or write_together (medgan_pl.core.files)"


class Killed(BaseException):
    """A kill, after which no code of ours runs."""


@pytest.mark.parametrize("at", range(1, 10))
def test_a_kill_never_leaves_files_of_two_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The kill comes at each change of the folder in turn."""
    names, changes = ("metrics.json", "model_card.md", "report.html"), []

    def counted(change):
        def call(*arguments, **options):
            changes.append(change)
            if len(changes) >= at:
                raise Killed
            return change(*arguments, **options)

        return call

    write_together(tmp_path, dict.fromkeys(names, b"old"))
    with monkeypatch.context() as patch:
        for owner, name in ((os, "replace"), (Path, "unlink"), (Path, "write_bytes")):
            patch.setattr(owner, name, counted(getattr(owner, name)))
        with pytest.raises(Killed):
            write_together(tmp_path, dict.fromkeys(names, b"new"))
    assert len({(tmp_path / name).read_bytes() for name in names if (tmp_path / name).exists()}) <= 1
    assert at > 3 or (tmp_path / "metrics.json").read_bytes() == b"old"  # a full disk
    write_together(tmp_path, dict.fromkeys(names, b"new"))
    assert {(tmp_path / name).read_bytes() for name in names} == {b"new"}


def test_what_kills_left_goes_with_the_next_writer(tmp_path: Path) -> None:
    left = [tmp_path / f"{name}.0123abcd.part" for name in ("grid.png", "000001.png", "best.safetensors", "other.safetensors")]
    for path in (*left, tmp_path / "grid.png", tmp_path / "notes.part"):
        path.write_bytes(b"x")
    (tmp_path / "series.89abcdef.part").mkdir()
    with only_writer(tmp_path, "", name=".best.safetensors.lock"):
        assert not left[2].exists()
        assert all(path.exists() for path in (left[0], left[1], left[3]))
        (tmp_path / "best.safetensors.0123abce.part").touch()  # that of the one who writes now
        (tmp_path / ".other.safetensors.lock").touch()  # another one writes it, or did
        with only_writer(tmp_path, ""):
            kept = {path.name for path in tmp_path.iterdir() if not path.name.startswith(".")}
            assert kept == {"grid.png", "notes.part", "best.safetensors.0123abce.part", "other.safetensors.0123abcd.part"}
