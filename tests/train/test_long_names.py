"""Long names of folders in the picture of a sweep, and folders that cannot be made."""

import warnings
from pathlib import Path

import pytest

from medgan_pl.train.own_folder import usable
from medgan_pl.train.sweeps.children import draw, shortened


def test_a_picture_has_room_for_long_names_and_signs() -> None:
    names = [f"optimizer_g.lr={'0' * 300}{i},model=$x_^{{" for i in range(6)]
    rows = [{"job": name, "status": "finished", "best": f"{i + 1}", "model": name} for i, name in enumerate(names)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert draw(rows, ["model"])[:4] == b"\x89PNG"
    assert shortened("a" * 50 + "b") == "a" * 9 + "…" + "a" * 8 + "b"
    assert shortened("short") == "short"


def test_a_run_folder_that_cannot_be_made_is_named_by_its_key(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"`hydra.run.dir` must be a folder that can be made and written, got .*/file/x: Not a directory"
    with pytest.raises(ValueError, match=said), usable("run", tmp_path / "file" / "x"):
        (tmp_path / "file" / "x").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="another writer"), usable("run", tmp_path):
        raise FileExistsError("another writer")
