"""A trained generator on films: their depth, their size, and holes to fill."""

import json
from pathlib import Path

import numpy as np
from apply.shifting import (
    FILMS,
    OF_FILMS,
    shifted,
)
from data.dicom_files import write_film
from data.export import dicom_check as check
from PIL import Image, ImageFilter
from pydicom import dcmread


def test_films_come_back_in_their_depth(trained, applied, tmp_path) -> None:
    generator = np.random.default_rng(1)
    (tmp_path / "in").mkdir()
    eight, sixteen = generator.integers(0, 256, (16, 20), np.uint8), generator.integers(0, 65536, (17, 16), np.uint16)
    Image.fromarray(eight).save("in/a.png")
    Image.fromarray(sixteen).save("in/b.tif")
    write_film(tmp_path / "in" / "c.dcm", (sixteen % 4096).astype(np.uint16), BitsStored=12, HighBit=11, ImagerPixelSpacing=[0.2, 0.2])
    code, said = applied(f"checkpoint={trained(*FILMS, **OF_FILMS)}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    with Image.open("out/a.png") as a, Image.open("out/b.png") as b:
        assert np.abs(np.asarray(a).astype(float) - shifted(eight, 0, 255)).max() <= 0.51
        assert np.abs(np.asarray(b).astype(float) - shifted(sixteen, 0, 65535)).max() <= 0.6
    one = dcmread("out/c.dcm")
    assert np.abs(one.pixel_array * one.RescaleSlope + one.RescaleIntercept - shifted(sixteen % 4096, 0, 4095)).max() <= 0.51
    assert (one.Modality, one.ImagerPixelSpacing, one.PatientID) == ("CR", [0.2, 0.2], "SECRET-ID-77")
    assert not [*check.presence(one), *check.values(one), *check.sound(one)]


def test_holes_are_filled_and_told_of(trained, applied, tmp_path) -> None:
    for folder in ("in", "holes"):
        (tmp_path / folder).mkdir()
    film, hole = np.full((16, 16), 200, np.uint8), np.zeros((16, 16), np.uint8)
    film[0, 0], hole[4:8, 4:8] = 10, 255
    Image.fromarray(film).save("in/a.png")
    Image.fromarray(hole).save("holes/a.png")
    checkpoint = trained(*FILMS, "degrade@data.degrade=inpainting", "model.source_channels=2", **OF_FILMS)
    assert "needs a folder of masks" in applied(f"checkpoint={checkpoint}", "input=in", "output=out")[1]
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "holes=holes", "device=cpu")
    assert code == 0, said
    film[hole > 0] = 0
    with Image.open("out/a.png") as made:
        assert np.abs(np.asarray(made) - shifted(film, 0, 255)).max() <= 0.51
    Image.fromarray(hole).filter(ImageFilter.BoxBlur(1)).save("holes/a.png")  # a soft edge; half of 255 is crossed at its middle
    assert applied(f"checkpoint={checkpoint}", "input=in", "output=soft", "holes=holes", "device=cpu")[0] == 0
    film[[3, 8], 4:8] = film[4:8, [3]] = film[4:8, [8]] = 200
    film[[4, 4, 7, 7], [4, 7, 4, 7]] = 200  # corners: 4/9 of 255
    with Image.open("soft/a.png") as made:
        assert np.abs(np.asarray(made) - shifted(film, 0, 255)).max() <= 0.51
    Image.fromarray(0 * hole).save("holes/a.png")
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=none", "holes=holes", "device=cpu")
    assert code == 1
    assert "1 have a mask in `holes` that marks nothing, so nothing was filled: a.png (values 0 (1 masks))" in said


def test_what_is_known_stays_through_another_size(trained, applied, tmp_path) -> None:
    for folder in ("in", "holes"):
        (tmp_path / folder).mkdir()
    film, hole = np.random.default_rng(2).integers(0, 256, (32, 32), np.uint8), np.zeros((32, 32), np.uint8)
    hole[5:9, 5:9] = 255  # of pixels twice as wide those of its rim are holes in part
    Image.fromarray(film).save("in/a.png")
    Image.fromarray(hole).save("holes/a.png")
    checkpoint = trained(*FILMS, "degrade@data.degrade=inpainting", "model.source_channels=2", "game.keep_known=true", **OF_FILMS)
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "holes=holes", "device=cpu", "resample=true")
    assert code == 0, said
    with Image.open("out/a.png") as image:
        made = np.asarray(image)
    assert np.array_equal(made[hole == 0], film[hole == 0])
    assert np.abs(made[hole > 0] - shifted(np.zeros(1), 0, 255)).max() <= 0.51  # by the fill alone


def test_what_stands_in_a_hole_has_no_say_in_the_levels(trained, applied, tmp_path) -> None:
    for folder in ("in", "holes"):
        (tmp_path / folder).mkdir()
    hole = np.zeros((16, 16), np.uint8)
    hole[4:8, 4:8] = 255
    film = np.random.default_rng(3).integers(50, 150, (16, 16), np.uint8)
    checkpoint = trained("data=chest_xray", "degrade@data.degrade=inpainting", "model.source_channels=2", **OF_FILMS)
    for name, value in (("a", 0), ("b", 255)):
        film[hole > 0] = value
        Image.fromarray(film).save(f"in/{name}.png")
        Image.fromarray(hole).save(f"holes/{name}.png")
    assert applied(f"checkpoint={checkpoint}", "input=in", "output=out", "holes=holes", "device=cpu")[0] == 0
    for name in ("a", "b"):
        levels = json.loads(Path(f"out/{name}.png.json").read_text())["levels"]
        assert np.allclose(levels[0], np.percentile(film[hole == 0], (0.5, 99.5)))
    with Image.open("out/a.png") as a, Image.open("out/b.png") as b:
        assert np.array_equal(np.asarray(a), np.asarray(b))


def test_levels_that_fog_moves_are_told_of(trained, applied, tmp_path) -> None:
    Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save("a.png")
    for films, count in ((("data=chest_xray",), 1), (FILMS, 0)):
        checkpoint = trained(*films, "degrade@data.degrade=dehaze", **OF_FILMS)
        code, said = applied(f"checkpoint={checkpoint}", "input=a.png", "output=out", "device=cpu")
        assert (code, said.count("note: this generator was trained with the levels")) == (0, count)


def test_films_without_spacing_go_by_their_size(trained, applied, tmp_path) -> None:
    Image.fromarray(np.arange(24 * 32, dtype=np.uint16).reshape(24, 32)).save("a.png")
    checkpoint = trained(*FILMS, **OF_FILMS)
    code, said = applied(f"checkpoint={checkpoint}", "input=a.png", "output=out", "device=cpu")
    assert code == 1
    assert "its size must be within 10% of that of training, 16 × 16 pixels, got 24 × 32 pixels" in said
    assert applied(f"checkpoint={checkpoint}", "input=a.png", "output=out", "device=cpu", "resample=true")[0] == 0
    with Image.open("out/a.png") as made:
        assert made.size == (32, 24)
