"""Resolution that would be lost: refused beyond a factor of 1.5, or asked for, printed, and written down."""

import json
from pathlib import Path

import numpy as np
import pytest
from apply.shifting import FILMS, OF_FILMS, a_volume, oblique
from data.dicom_files import write_film, write_series
from PIL import Image
from pydicom import dcmread

from medgan_pl.apply.detail import Loss
from medgan_pl.data.prepare.layouts import Film, Slices
from medgan_pl.data.readers.scan import Scan


def test_the_loss_by_value() -> None:
    film, slices = Film(size=(16, 16), crop=True), Slices(size=(16, 16), spacing_mm=None, crop=False)
    ct = Scan(np.zeros((3, 40, 60)), spacing_mm=(2.5, 0.9, 0.6))
    assert Loss.of(ct, slices, None) is Loss.of(ct, slices, (1.0, 0.5)) is None
    loss = Loss.of(ct, slices, (0.5, 8.0))
    assert (loss.unit, loss.before, loss.after, loss.factor) == ("mm", (0.9, 0.6), (0.9, pytest.approx(4.8)), 8.0)
    assert str(loss) == "detail of 0.9 × 0.6 mm becomes detail of 0.9 × 4.8 mm, 8 times as coarse, on the old grid"
    loss = Loss.of(Scan(np.zeros((224, 224))), film, (7.0, 7.0))
    assert (loss.unit, loss.before, loss.after, loss.factor) == ("pixels", (224, 224), (32, 32), 7.0)


@pytest.mark.parametrize(("pixels", "loses"), [(24, False), (32, True)])  # 1.5 and 2 of its pixels are one of training
def test_more_than_a_factor_of_one_and_a_half_is_refused(trained, applied, tmp_path, pixels, loses) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (pixels, pixels), np.uint8)).save("a.png")
    common = (f"checkpoint={trained(*FILMS, **OF_FILMS)}", "input=a.png", "output=out", "device=cpu")
    assert ("resample=true coarser=true" in applied(*common)[1]) == loses  # it proposes what it does
    code, said = applied(*common, "resample=true")
    assert code == int(loses)
    lost = f"detail of {pixels} × {pixels} pixels becomes detail of 16 × 16 pixels, {pixels / 16:g} times as coarse"
    assert lost in said
    if loses:
        assert "train at its resolution (data.patches), or accept the loss with coarser=true" in said
        code, said = applied(*common, "resample=true", "coarser=true")
        assert (code, lost in said) == (0, True)
    kept = {"unit": "pixels", "before": [pixels] * 2, "after": [16, 16], "factor": pixels / 16}
    assert json.loads(Path("out/a.png.json").read_text())["lost"] == kept


def test_nothing_is_lost_where_an_image_is_made_finer_or_taken_as_it_is(trained, applied, tmp_path) -> None:
    oblique(tmp_path / "ct.nii.gz", a_volume(10, 3, 12), spacing=(1.5, 1.7, 3.0))
    common = (f"checkpoint={trained()}", "input=ct.nii.gz", "device=cpu")
    for output, ways in (("finer", ("resample=true",)), ("as_it_is", ("force=true",))):
        code, said = applied(*common, f"output={output}", *ways)
        assert (code, "detail" in said) == (0, False)
        assert json.loads(Path(f"{output}/ct.nii.gz.json").read_text())["lost"] is None


@pytest.mark.parametrize("way", [("resample=true",), ("resample=true", "coarser=true"), ("resample=true", "force=true")])
def test_what_is_to_be_enlarged_is_never_shrunk(trained, applied, tmp_path, way) -> None:
    sharp = np.random.default_rng(0).integers(0, 256, (20, 20), np.uint8)
    Image.fromarray(sharp).save("a.png")
    enlarging = ("model.factor=2", "degrade@data.degrade=super_resolution_x2", "data.size=32")
    checkpoint = trained(*FILMS, *enlarging, **OF_FILMS)
    common = (f"checkpoint={checkpoint}", "input=a.png", "output=out", "device=cpu")
    assert "resample=true" not in applied(*common)[1]
    code, said = applied(*common, *way)
    assert code == 1
    assert "a generator that enlarges must take the image as it is" in said
    assert "20 × 20 pixels becomes detail of 16 × 16 pixels" in said
    assert applied(*common, "force=true")[0] == 0
    with Image.open("out/a.png") as made:
        assert made.size == (40, 40)


def test_the_description_of_dicom_says_it(trained, applied, tmp_path) -> None:
    write_series(tmp_path / "in" / "ct", a_volume(3, 40, 40), spacing_mm=(2.5, 0.4, 0.4))
    common = (f"checkpoint={trained()}", "output=out", "device=cpu", "resample=true", "coarser=true")
    assert applied(*common, "input=in")[0] == 0
    said = "Resampled: detail of 0.4 x 0.4 mm becomes detail of 0.8 x 0.5 mm, 2 times as coarse, on the old grid"
    assert dcmread("out/ct/0001.dcm").DerivationDescription.endswith(said)
    film = np.random.default_rng(1).integers(0, 4096, (32, 32)).astype(np.uint16)
    write_film(tmp_path / "film.dcm", film, BitsStored=12, HighBit=11)
    common = (f"checkpoint={trained(*FILMS, **OF_FILMS)}", *common[1:])
    assert applied(*common, "input=film.dcm")[0] == 0
    assert "detail of 32 x 32 pixels becomes detail of 16 x 16 pixels" in dcmread("out/film.dcm").DerivationDescription


def test_coarser_alone_changes_nothing_and_is_refused(trained, applied) -> None:
    code, said = applied(f"checkpoint={trained()}", "input=.", "output=../out", "coarser=true")
    assert (code, "`coarser` must come with resample=true" in said) == (1, True)
