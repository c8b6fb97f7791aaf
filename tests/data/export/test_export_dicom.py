"""DICOM out: SimpleITK and pydicom read it by value and in its place, and the check passes it."""

from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import SimpleITK
import torch
from dicom_check import check_dicom
from dicom_files import write_series

from medgan_pl.data.export import Facts, Provenance, write_dicom, write_sidecar
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.prepare.planes import PLANES
from medgan_pl.data.readers.scan import ScanError, centered_affine
from medgan_pl.models.load import Origin
from medgan_pl.sample.draw import Writer

ORIGIN = Provenance(
    model="resnet_gan", checkpoint_sha256="ab" * 32, seed=7, images_seen=1000, created="2025-01-02T03:04:05+00:00", config={}
)
RNG = np.random.default_rng(0)
HU = RNG.uniform(-1024, 3071, (5, 7, 9)).astype(np.float32)
SIGNAL = RNG.normal(0, 1, (5, 7, 9)).astype(np.float32)
FILM = RNG.integers(0, 4096, (8, 6)).astype(np.float32)
CT, MR = Facts(3, "HU", -1024, 3071, label="lésion\\N"), Facts(3, "signal", -4, 4)
CR = Facts(3, "levels", 0, 4095, (0.143, 0.139))
SPACING = (2.5, 0.71, 0.83)
STRAIGHT = centered_affine(HU.shape, SPACING)


def turned(about, degrees):
    """STRAIGHT turned about one world axis and moved."""
    first, second = [axis for axis in range(3) if axis != about]
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn = np.eye(4)
    turn[first, first], turn[first, second], turn[second, first], turn[second, second] = c, -s, s, c
    turn[:3, 3] = 10.123456, -20, 30
    return turn @ STRAIGHT


PLACES = {"straight": STRAIGHT, "oblique": turned(2, 20), "coronal": turned(0, 90), "sagittal": turned(1, 90)}
PLACES["head first"] = STRAIGHT * [-1, 1, 1, 1]
PLACES["upside down"] = STRAIGHT * [1, -1, 1, 1]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("values", "facts", "modality", "step"), [(HU, CT, "CT", 1), (SIGNAL, MR, "MR", 8 / 65535 * 2)], ids=["CT", "MR"])
def test_simpleitk_reads_a_series_by_value_and_in_its_place(tmp_path, place, values, facts, modality, step):
    affine = PLACES[place]
    write_dicom(tmp_path / "series", values, facts, ORIGIN, modality=modality, affine=affine)
    reader = SimpleITK.ImageSeriesReader()
    (series,) = reader.GetGDCMSeriesIDs(str(tmp_path / "series"))
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path / "series"), series))
    image = reader.Execute()
    assert image.GetSize() == (9, 7, 5)
    assert np.allclose(image.GetSpacing(), SPACING[::-1], atol=1e-6)
    for index in np.argwhere(np.ones(values.shape))[::17]:
        world = (affine @ [*index, 1])[:3] * [-1, -1, 1]  # RAS -> LPS
        found = image.TransformPhysicalPointToContinuousIndex(world.tolist())
        assert np.abs(np.round(found) - found).max() < 1e-4
        assert abs(image[tuple(int(n) for n in np.round(found))] - values[tuple(index)]) <= step / 2


@pytest.mark.parametrize(("values", "facts", "modality"), [(HU, CT, "CT"), (SIGNAL, MR, "MR"), (FILM, CR, "CR")], ids=["CT", "MR", "CR"])
def test_the_check_passes_what_is_written_and_drawn_again_it_is_the_same(tmp_path, values, facts, modality):
    affine = None if modality == "CR" else STRAIGHT
    for name in ("a", "b"):
        write_dicom(tmp_path / name, values, facts, ORIGIN, modality=modality, affine=affine)
    files = sorted(path for path in (tmp_path / "a").rglob("*.dcm")) or [tmp_path / "a"]
    assert [path.name for path in files] == ([f"{k:04d}.dcm" for k in range(1, 6)] if modality != "CR" else ["a"])
    for path in files:
        assert check_dicom(path) == []
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    heads = [pydicom.dcmread(path) for path in files]
    assert len({head.SOPInstanceUID for head in heads}) == len(heads)
    assert len({(head.StudyInstanceUID, head.SeriesInstanceUID, head.PatientID) for head in heads}) == 1
    assert heads[0].PatientID.startswith("SYNTHETIC-")


def test_a_film_keeps_its_grey_levels_exactly_and_its_spacing_at_the_detector(tmp_path):
    write_dicom(tmp_path / "x.dcm", FILM, CR, ORIGIN, modality="CR")
    one = pydicom.dcmread(tmp_path / "x.dcm")
    assert np.array_equal(one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept), FILM)
    assert one.ImagerPixelSpacing == [0.143, 0.139]
    assert "PixelSpacing" not in one


@pytest.mark.parametrize(
    ("low", "high"), [(0, 65535), (0, 1), (-3, 7), (-1e-12, 1e-12), (1e6, 1e6 + 1), (-5e20, 3e30), (0, 4095), (-0.7, 65534.2)]
)
def test_levels_cover_the_range_and_what_lies_beyond(tmp_path, low, high):
    film = np.linspace(low, high, 48).reshape(8, 6)
    film[0, 0], film[-1, -1] = low - (high - low) / 10, high + (high - low) / 10
    write_dicom(tmp_path / "x.dcm", film, Facts(0, "levels", low, high), ORIGIN, modality="CR")
    one = pydicom.dcmread(tmp_path / "x.dcm")
    back = one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)
    assert np.abs(back - film).max() <= (film.max() - film.min()) / 65535 * 1.001
    assert check_dicom(tmp_path / "x.dcm") == []


def test_whole_numbers_come_back_whole(tmp_path):
    film = np.arange(48.0).reshape(8, 6) * 1365
    write_dicom(tmp_path / "x.dcm", film, Facts(0, "levels", 0, 65535), ORIGIN, modality="CR")
    one = pydicom.dcmread(tmp_path / "x.dcm")
    assert (one.RescaleSlope, one.RescaleIntercept) == (1, 0)
    assert np.array_equal(one.pixel_array, film)


def test_one_slice_is_one_file(tmp_path):
    write_dicom(tmp_path / "x.dcm", HU[0], CT, ORIGIN, modality="CT", affine=STRAIGHT)
    one = pydicom.dcmread(tmp_path / "x.dcm")
    assert np.array_equal(one.pixel_array, np.rint(HU[0]))
    assert np.allclose(one.ImagePositionPatient, (STRAIGHT @ [0, 0, 0, 1])[:3] * [-1, -1, 1])
    assert (one.SliceThickness, list(one.PixelSpacing)) == (2.5, [0.71, 0.83])
    assert check_dicom(tmp_path / "x.dcm") == []


@pytest.mark.parametrize("change", ["label", "seed", "pixel", "affine"])
def test_another_image_shares_no_uid(tmp_path, change):
    write_dicom(tmp_path / "a.dcm", HU[0], CT, ORIGIN, modality="CT", affine=STRAIGHT)
    facts = Facts(3, "HU", -1024, 3071, label="another") if change == "label" else CT
    origin = Provenance(**(vars(ORIGIN) | {"seed": 8})) if change == "seed" else ORIGIN
    pixels = HU[0] + (np.eye(7, 9) * 2 if change == "pixel" else 0)
    write_dicom(tmp_path / "b.dcm", pixels, facts, origin, modality="CT", affine=PLACES["oblique"] if change == "affine" else STRAIGHT)
    a, b = (pydicom.dcmread(tmp_path / name) for name in ("a.dcm", "b.dcm"))
    for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert a[name].value != b[name].value


SHEARED = STRAIGHT.copy()
SHEARED[0, 1] += 0.002
BAD = [
    ({"modality": "DX"}, "must be CT, MR or CR, got DX"),
    ({"facts": MR}, "a CT must be in HU, got signal"),
    ({"affine": None}, "CT needs an affine"),
    ({"affine": SHEARED}, "rows and columns must be perpendicular"),
    ({"affine": np.zeros((4, 4))}, "singular"),
    ({"values": HU + 40000}, "int16 holds"),
    ({"values": np.where(HU > 0, np.nan, HU)}, "NaN or infinite"),
    ({"modality": "CR", "facts": CR, "affine": None}, "must be one film"),
    ({"modality": "CR", "facts": CR, "values": HU[0]}, "must be one film"),
    ({"modality": "CR", "facts": Facts(0, "levels", 0, 1, SPACING), "values": HU[0], "affine": None}, "must be two numbers"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message for _, message in BAD])
def test_what_cannot_be_written_right_is_not_written(tmp_path, changes, message):
    wanted = {"values": HU, "facts": CT, "provenance": ORIGIN, "modality": "CT", "affine": STRAIGHT} | changes
    with pytest.raises(ValueError, match=message) as caught:
        write_dicom(tmp_path / "x", **wanted)
    assert isinstance(caught.value, ScanError) == (message == "singular")
    assert not list(tmp_path.iterdir())


def test_a_series_drawn_before_is_replaced_and_a_killed_run_leaves_no_trace(tmp_path):
    leftover = tmp_path / "x.00112233.part"
    leftover.mkdir()
    (leftover / "0099.dcm").write_bytes(b"of a killed run")
    write_dicom(tmp_path / "x", HU, CT, ORIGIN, modality="CT", affine=STRAIGHT)
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert len(list((tmp_path / "x").iterdir())) == 5
    assert '"0005.dcm": "' in write_sidecar(tmp_path / "x", ORIGIN, CT).read_text()
    write_dicom(tmp_path / "x", HU[:2], CT, ORIGIN, modality="CT", affine=STRAIGHT)
    assert sorted(path.name for path in (tmp_path / "x").iterdir()) == ["0001.dcm", "0002.dcm"]  # of the first series nothing is left
    assert np.array_equal(pydicom.dcmread(tmp_path / "x" / "0002.dcm").pixel_array, np.rint(HU[1]))
    assert '"0005.dcm": "' not in write_sidecar(tmp_path / "x", ORIGIN, CT).read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "x.json"]


@pytest.mark.parametrize("foreign", ["a patient's slice", "a series of another generator with one slice unmarked", "notes", "no DICOM"])
def test_a_folder_that_holds_anything_else_is_left_alone(tmp_path, foreign):
    folder = tmp_path / "x"
    if foreign == "a patient's slice":
        write_series(folder, HU[:2])
    else:
        write_dicom(folder, HU, CT, ORIGIN, modality="CT", affine=STRAIGHT)
    if foreign.startswith("a series"):
        one = pydicom.dcmread(folder / "0003.dcm")
        del one.SyntheticData
        one.save_as(folder / "0003.dcm")
    elif foreign == "notes":
        (folder / "notes.txt").write_text("mine")
    elif foreign == "no DICOM":
        (folder / "0006.dcm").write_bytes(b"mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match=r"must be new or hold an earlier one, got .*x, which holds other files; choose another"):
        write_dicom(folder, HU, CT, ORIGIN, modality="CT", affine=STRAIGHT)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_sample_draws_volumes_into_the_same_folder_again(tmp_path):
    """Image after image as `sample format=[dicom,nifti]` writes them, twice, the second time by another checkpoint."""
    inverse = Inverse(((-1000.0, 400.0),), "HU", "CT", (2.5, 0.8, 0.8), PLANES["axial"][1])
    config = {"data": {"size": [4, 8, 8]}, "image": {"spatial_dims": 3}, "model": {"classes": 0, "generator": {"_target_": "a.B"}}}
    module = SimpleNamespace(inverse=inverse, classes=(), config=config, images=64)
    pixels = []
    for seed in range(2):
        module.origin = Origin(f"{seed:064x}")
        writer = Writer(module, tmp_path / "generated", ["dicom", "nifti"], seed)
        images = torch.rand((2, 1, 4, 8, 8), generator=torch.Generator().manual_seed(seed)) * 2 - 1
        for i, image in enumerate(images):
            writer.write(i, image, 0, {})
        pixels.append([pydicom.dcmread(path).pixel_array for path in sorted((tmp_path / "generated").glob("*/*.dcm"))])
        assert np.array_equal(pixels[-1], inverse(images[:, 0].reshape(1, 8, 8, 8)).round())
    assert len(list((tmp_path / "generated").glob("*/*.dcm"))) == 8
    assert sorted(path.name for path in (tmp_path / "generated").iterdir() if path.is_dir()) == ["000000", "000001"]
