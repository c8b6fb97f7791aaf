"""One folder holds one draw, and its overview is no image of it."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from medgan_pl.data.files.folders import walk
from medgan_pl.data.files.layouts import list_files
from medgan_pl.data.files.listing import Wanted
from medgan_pl.data.modalities import XRay
from medgan_pl.sample.others import refuse_others, sidecars_in

OWN = {"checkpoint_sha256": "ab", "seed": 3, "covariates": {"age": 40.0}, "config": {"truncation": 0.7}}


def drawn(folder: Path, count: int, **changed) -> Path:
    """Write images 0 to count - 1 of classes a and b in turn, with sidecars, and a grid."""
    folder.mkdir()
    for i in range(count):
        Image.new("L", (4, 4), i).save(folder / f"{i:06d}.png")
        content = {"index": i, "label": "ab"[i % 2], **OWN, **changed}
        (folder / f"{i:06d}.png.json").write_text(json.dumps(content))
    Image.new("L", (8, 8)).save(folder / "grid.png")
    return folder


def refuse(folder: Path, n: int = 4) -> None:
    said = SimpleNamespace(said=lambda row: {"age": float(row[0])})
    config = {"model": {"classes": 2}, "truncation": 0.7}
    module = SimpleNamespace(origin=SimpleNamespace(sha256="ab"), config=config, classes=("a", "b"), covariates=said)
    refuse_others(folder, sidecars_in(folder), n, 3, module, torch.arange(9) % 2, np.full((9, 1), 40.0))


def test_the_same_draw_may_go_on(tmp_path) -> None:
    refuse(tmp_path / "absent")
    refuse(drawn(tmp_path / "more", 6))
    fewer = drawn(tmp_path / "fewer", 3)
    (fewer / "000002.png.json").unlink()  # stopped between the two
    refuse(fewer)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"checkpoint_sha256": "cd"}, "000000.png of another checkpoint;"),
        ({"seed": 4}, "another seed, 4 and not 3"),
        ({"label": "b"}, "000000.png of another label, b and not a"),
        ({"covariates": {"age": 41.0}}, "another covariates"),
        ({"config": {}}, "another truncation, None and not 0.7"),
    ],
)
def test_another_draw_is_refused_by_what_differs(tmp_path, changed, said) -> None:
    with pytest.raises(ValueError, match=said):
        refuse(drawn(tmp_path / "out", 2, **changed))


def test_an_image_of_no_known_origin_is_refused(tmp_path) -> None:
    folder = drawn(tmp_path / "out", 2)
    Image.new("L", (4, 4)).save(folder / "real.png")
    with pytest.raises(ValueError, match=r"with real.png, which has no sidecar of this program; name another folder with output=DIR"):
        refuse(folder)


def test_the_overview_is_no_image_of_any_command(tmp_path) -> None:
    folder = drawn(tmp_path / "out", 12)
    listing = list_files(folder, Wanted(XRay().takes, "films"))
    assert len(listing.items) == 12
    assert "1 grid of generated images" in listing.title
    assert folder / "grid.png" not in walk(folder)[0]
    other = tmp_path / "films"
    other.mkdir()
    for name in ("grid", "p1"):
        Image.new("L", (4, 4)).save(other / f"{name}.png")
    assert len(walk(other)[0]) == 2, "a film may have that name"
