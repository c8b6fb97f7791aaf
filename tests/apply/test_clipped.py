"""Values outside the intensity window: counted, printed and written down, and kept where a generator fills holes only."""

import json
from pathlib import Path

import nibabel
import numpy as np
from apply.shifting import FILMS, OF_FILMS, oblique, shifted
from data.dicom_files import write_series
from PIL import Image
from pydicom import dcmread

from medgan_pl.apply.detail import Clipped
from medgan_pl.data.readers.scan import Scan

WINDOW = ((-1000.0, 400.0),)


def test_the_count_by_value() -> None:
    values = np.array([[-1024, -1000, -500, 0], [400, 401, 900, 3000]], np.float32)
    scan = Scan(values, padding=values == -1024)
    clipped = Clipped.among(scan, WINDOW, "HU")
    assert (clipped.voxels, clipped.of, clipped.lowest, clipped.highest) == (3, 7, -1000, 3000)
    assert str(clipped) == (
        "3 of 7 values (42.86%) lie outside the window -1000 to 400 HU, as they reach from -1000 to 3000, and were set to its end"
    )
    assert Clipped.among(Scan(values), ((-2000.0, -500.0), (400.0, 3000.0)), "HU").voxels == 1  # 0 is in neither
    assert Clipped.among(Scan(values), ((-1024.0, 3000.0),), "HU") is None


def test_ct_outside_its_window_is_said_and_written(trained, applied, tmp_path) -> None:
    hu = np.random.default_rng(0).integers(-1000, 300, (3, 16, 16)).astype(float)
    write_series(tmp_path / "in" / "soft", hu, series_uid="1.2.7", spacing_mm=(2.5, 0.8, 0.5))
    hu[1, 2, 3], hu[2, 5, 5] = -1010, 2000
    write_series(tmp_path / "in" / "bone", hu, spacing_mm=(2.5, 0.8, 0.5))
    code, said = applied(f"checkpoint={trained()}", "input=in", "output=out", "device=cpu")
    assert (code, said.count("outside the intensity window")) == (0, 1)
    text = "2 of 768 values (0.26%) lie outside the window -1000 to 400 HU, as they reach from -1010 to 2000, and were set to its end"
    assert "1 of 2 have values outside the intensity window, the most bone/" in said
    assert text in said
    assert dcmread("out/bone/0001.dcm").DerivationDescription.endswith(f". Clipped: {text}")
    assert "Clipped" not in dcmread("out/soft/0001.dcm").DerivationDescription
    kept = {"voxels": 2, "of": 768, "lowest": -1010, "highest": 2000, "windows": [[-1000, 400]], "unit": "HU"}
    assert json.loads(Path("out/bone.json").read_text())["clipped"] == kept
    assert json.loads(Path("out/soft.json").read_text())["clipped"] is None


def test_films_clipped_by_their_percentiles_are_said(trained, applied, tmp_path) -> None:
    film = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(film).save("a.png")
    low, high = np.percentile(film, (0.5, 99.5))
    code, said = applied(
        f"checkpoint={trained('data=chest_xray', 'degrade@data.degrade=dehaze', **OF_FILMS)}", "input=a.png", "output=out", "device=cpu"
    )
    outside = int(((film < low) | (film > high)).sum())
    assert (code, f"{outside} of 256 values" in said) == (0, True)
    code, said = applied(f"checkpoint={trained(*FILMS, **OF_FILMS)}", "input=a.png", "output=all", "device=cpu")
    assert (code, "outside" in said) == (0, False)


def test_what_is_known_is_kept_beyond_the_window(trained, applied, tmp_path) -> None:
    """A generator of holes keeps bone of 2000 HU and air of -1024, though its window ends at 400 and -1000."""
    hu = np.random.default_rng(1).integers(-1024, 2001, (16, 2, 16)).astype(np.int16)
    hole = np.zeros((16, 2, 16), np.uint8)
    hole[4:8, :, 4:8] = 1
    for folder in ("in", "holes"):
        (tmp_path / folder).mkdir()
    oblique(tmp_path / "in" / "ct.nii.gz", hu)
    oblique(tmp_path / "holes" / "ct.nii.gz", hole)
    checkpoint = trained("degrade@data.degrade=inpainting", "model.source_channels=2", "game.keep_known=true")
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "holes=holes", "device=cpu")
    assert (code, "outside" in said) == (0, False), said
    made = nibabel.load("out/ct.nii.gz").get_fdata()
    assert np.array_equal(made[hole == 0], hu[hole == 0])
    assert np.abs(made[hole > 0] - shifted(np.full(1, -1000.0))).max() < 0.1
    assert json.loads(Path("out/ct.nii.gz.json").read_text())["clipped"] is None
