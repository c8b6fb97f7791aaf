"""A command also starts as a file, `python medgan_pl/train/__main__.py`, from a run button or a debugger, and from any folder."""

import runpy
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import medgan_pl

PACKAGE = Path(medgan_pl.__file__).parent
DOORS = sorted(PACKAGE.glob("*/__main__.py"))


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.parent.name)
def test_a_door_started_as_a_file_prints_its_manual(door, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(door), "--help"])
    monkeypatch.setattr(sys, "path", [str(door.parent), *sys.path])  # as Python puts the folder of a script first
    runpy.run_path(str(door), run_name="__main__")
    assert f"python -m medgan_pl.{door.parent.name}" in capsys.readouterr().out


@pytest.mark.parametrize("door", DOORS, ids=lambda door: door.parent.name)
def test_no_module_of_a_verb_hides_another_package(door) -> None:
    own = {path.stem for path in door.parent.iterdir() if path.suffix == ".py" or path.is_dir()} - {"__main__", "__init__", "__pycache__"}
    others = sys.stdlib_module_names | packages_distributions().keys()
    assert not own & others, "the folder of a script comes first on sys.path, so these would be imported in place of the other package"
