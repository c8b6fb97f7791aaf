"""What is written is read back by others, by value and in its place, marked in every format, and the same image gives the same bytes."""

import gzip
import hashlib
import json
import os

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_pl.data.export import Facts, Provenance, write_nifti, write_png, write_sidecar
from medgan_pl.data.readers.scan import ScanError, centered_affine

ORIGIN = Provenance(
    model="resnet_gan", checkpoint_sha256="ab" * 32, seed=7, images_seen=1000, created="2025-01-02T03:04:05+00:00", config={"seed": 7}
)
HU = np.random.default_rng(0).uniform(-1024, 3071, (5, 7, 9)).astype(np.float32)
SPACING = (2.5, 0.71, 0.83)


def turned(degrees=0.0):
    """The canonical affine, turned about the axis of the body and moved."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.array([[c, -s, 0, 10], [s, c, 0, -20], [0, 0, 1, 30], [0, 0, 0, 1]]) @ centered_affine(HU.shape, SPACING)
    return affine


def flipped():
    """Head first, mirrored: a left-handed affine."""
    affine = turned()
    affine[:, 0] *= -1
    return affine


@pytest.mark.parametrize("bits", [8, 16])
def test_a_png_keeps_every_level_and_says_it_is_synthetic(tmp_path, bits):
    ramp = np.linspace(0, 2**bits - 1, 13 * 11).round().reshape(13, 11)
    write_png(tmp_path / "x.png", ramp, bits=bits, low=0, high=2**bits - 1)
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == ("L" if bits == 8 else "I;16")
        assert image.text["Synthetic"] == "medgan_pl"
        assert np.array_equal(np.asarray(image), ramp)


def test_a_png_maps_low_to_black_and_clips(tmp_path):
    write_png(tmp_path / "x.png", np.array([[-2000, -1024, 1023.5, 3071, 9000]]), low=-1024, high=3071)
    assert np.asarray(Image.open(tmp_path / "x.png")).tolist() == [[0, 0, 128, 255, 255]]


def test_a_png_of_a_volume_shows_three_planes_head_up(tmp_path):
    volume = np.zeros((6, 4, 8))
    volume[5, 2, 4] = 255  # the head, in the middle of both other axes
    volume[3, 0, 0] = 100  # front right, in the middle slice
    write_png(tmp_path / "x.png", volume, low=0, high=255)
    look = np.asarray(Image.open(tmp_path / "x.png"))
    assert look.shape == (6, 8 + 8 + 4)
    assert {tuple(place): look[tuple(place)] for place in np.argwhere(look)} == {(0, 0): 100, (0, 8 + 4): 255, (0, 16 + 2): 255}


@pytest.mark.parametrize("affine", [turned(), turned(20), flipped()], ids=["straight", "oblique", "flipped"])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_nibabel_reads_a_nifti_by_value_and_in_its_place(tmp_path, affine, dtype):
    write_nifti(tmp_path / "x.nii.gz", HU, affine, dtype=dtype, description="no patient")
    image = nibabel.load(tmp_path / "x.nii.gz")
    assert image.get_data_dtype() == dtype
    assert np.abs(image.get_fdata() - HU.transpose()).max() <= (0 if dtype is np.float32 else 0.5)
    for code, form in ((image.header["sform_code"], image.get_sform()), (image.header["qform_code"], image.get_qform())):
        assert code == 2
        assert np.abs(form @ [8, 6, 4, 1] - affine @ [4, 6, 8, 1]).max() < 1e-4
    assert np.allclose(image.header.get_zooms(), SPACING[::-1], atol=1e-6)
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.header["descrip"].item() == b"SYNTHETIC medgan_pl no patient"
    raw = gzip.decompress((tmp_path / "x.nii.gz").read_bytes())
    assert np.frombuffer(raw[112:120], "<f4").tolist() == [1, 0]  # slope and intercept as they stand in the file


def test_a_film_becomes_a_nifti_of_one_slice(tmp_path):
    write_nifti(tmp_path / "x.nii.gz", HU[0], centered_affine((1, 7, 9), SPACING))
    assert nibabel.load(tmp_path / "x.nii.gz").shape == (9, 7, 1)


def test_centered_affine_has_its_centre_at_the_origin_and_points_as_a_scan_does():
    affine = centered_affine(HU.shape, SPACING)
    assert np.allclose(affine @ [2, 3, 4, 1], [0, 0, 0, 1])
    assert np.allclose(affine @ [1, 1, 1, 0], [-0.83, -0.71, 2.5, 0])  # left, back, head


def test_the_same_image_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        write_nifti(tmp_path / f"{name}.nii.gz", HU, turned())
        write_png(tmp_path / f"{name}.png", HU, low=-1024, high=3071)
        os.utime(tmp_path / f"{name}.png", (0, 0))
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not list(tmp_path.glob("*.part"))


def with_one(value):
    image = HU.copy()
    image[1, 2, 3] = value
    return image


BAD = [
    ("png", {"values": HU[0], "bits": 12}, "`bits` must be 8 or 16, got 12"),
    ("png", {"values": HU[0], "low": 5, "high": 5}, "`low` must lie below `high`"),
    ("png", {"values": HU[0], "high": np.nan}, "`low` must lie below `high`"),
    ("png", {"values": with_one(np.nan)}, "1 NaN or infinite of 315"),
    ("png", {"values": HU[None]}, r"must be \(H, W\) or \(D, H, W\)"),
    ("png", {"values": HU[:0]}, "not empty"),
    ("nifti", {"values": with_one(-np.inf)}, "1 NaN or infinite of 315"),
    ("nifti", {"path": "x.nii"}, r"must end in \.nii\.gz"),
    ("nifti", {"dtype": np.uint8}, "np.float32 or np.int16"),
    ("nifti", {"values": with_one(32767.6), "dtype": np.int16}, "int16 holds -32768 to 32767"),
    ("nifti", {"values": HU.astype(np.float64) * 1e300}, "float32 holds"),
    ("nifti", {"description": "ü" * 30}, "must fit 79 bytes, got 80"),
    ("nifti", {"affine": np.zeros((4, 4))}, "singular"),
    ("nifti", {"affine": np.full((4, 4), np.nan)}, "must be finite"),
]


@pytest.mark.parametrize(("kind", "changes", "message"), BAD, ids=[f"{kind}-{message[:20]}" for kind, _, message in BAD])
def test_what_cannot_be_written_right_is_not_written(tmp_path, kind, changes, message):
    usual = {"path": "x.png", "values": HU, "low": -1024, "high": 3071}
    if kind == "nifti":
        usual = {"path": "x.nii.gz", "values": HU.astype(np.float64), "affine": turned()}
    wanted = usual | changes
    wanted["path"] = tmp_path / wanted["path"]
    with pytest.raises(ValueError, match=message) as caught:
        (write_png if kind == "png" else write_nifti)(**wanted)
    assert isinstance(caught.value, ScanError) == ("affine" in changes)
    assert not list(tmp_path.iterdir())


def test_the_sidecar_names_file_origin_and_meaning(tmp_path):
    image = tmp_path / "000003.nii.gz"
    write_nifti(image, HU, turned())
    sidecar = write_sidecar(image, ORIGIN, Facts(3, "HU", -1024, 3071, SPACING, "pneumonia", {"age": 70.0, "sex": "F"}))
    assert sidecar == tmp_path / "000003.nii.gz.json"
    assert json.loads(sidecar.read_text()) == {
        "synthetic": True,
        "generator": "medgan_pl",
        "version": ORIGIN.version,
        "file": "000003.nii.gz",
        "file_sha256": hashlib.sha256(image.read_bytes()).hexdigest(),
        "index": 3,
        "unit": "HU",
        "low": -1024,
        "high": 3071,
        "spacing_mm": list(SPACING),
        "label": "pneumonia",
        "covariates": {"age": 70.0, "sex": "F"},
        "model": "resnet_gan",
        "checkpoint_sha256": "ab" * 32,
        "seed": 7,
        "images_seen": 1000,
        "created": "2025-01-02T03:04:05+00:00",
        "config": {"seed": 7},
    }


def test_facts_refuse_levels_upside_down():
    with pytest.raises(ValueError, match="`low` must lie below `high`"):
        Facts(0, "HU", 3071, -1024)


def test_a_sidecar_without_its_image_is_not_written(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_sidecar(tmp_path / "x.png", ORIGIN, Facts(0, "levels", 0, 255))
    assert not list(tmp_path.iterdir())
