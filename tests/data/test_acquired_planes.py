"""Slices are cut as they were acquired: the plane of each scan from every reader, that of the set, and the choice of the user."""

from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from dicom_files import AXIAL, CORONAL, SAGITTAL, write_series

from medgan_pl.data.companion import Companion
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import Percentiles, Window
from medgan_pl.data.modalities import CT, MRI
from medgan_pl.data.prepare.layouts import Slices, Whole
from medgan_pl.data.prepare.patches import SlicePatches
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.prepare.planes import PLANES
from medgan_pl.data.readers.itk import read_itk
from medgan_pl.data.readers.mgh import read_mgh
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.scan import Scan, ScanError
from medgan_pl.data.readers.series import read_series
from medgan_pl.models.fits import check_fits

STEP, PIXEL = 3.5, 0.5
ORIENTATIONS = {"axial": AXIAL, "coronal": CORONAL, "sagittal": SAGITTAL}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def stack(seed=0, shape=(4, 12, 10)):
    """Slices as they are displayed: head or front up, the patient's left or back on the right."""
    return np.random.default_rng(seed).integers(-900, 300, shape).astype(np.int16)


def displayed(plane):
    """The affine, slice, row, column -> RAS mm, of such slices."""
    affine = np.eye(4)
    affine[:3, :3] = np.array(PLANES[plane][1]).T * [STEP, PIXEL, PIXEL]
    return affine


def write_nifti(path, slices, plane, step=STEP):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(slices, displayed(plane) @ np.diag([step / STEP, 1, 1, 1])).to_filename(path)
    return path


def from_dicom(folder, slices, plane):
    order = slices[::-1] if plane == "sagittal" else slices  # along the normal, to the right
    return read_series(write_series(folder, order.astype(float), spacing_mm=(STEP, PIXEL, PIXEL), orientation=ORIENTATIONS[plane]))


def from_nifti(folder, slices, plane):
    return read_nifti(write_nifti(folder / "a.nii", slices, plane))


def from_mgh(folder, slices, plane):
    folder.mkdir(exist_ok=True)
    nib.MGHImage(slices, displayed(plane)).to_filename(folder / "a.mgh")
    return read_mgh(folder / "a.mgh")


def from_meta(folder, slices, plane):
    columns = (LPS @ displayed(plane))[:3, :3]
    spacing = np.linalg.norm(columns, axis=0)
    header = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": "True", "BinaryDataByteOrderMSB": "False", "CompressedData": "False",
        "TransformMatrix": " ".join(f"{n:g}" for n in (columns / spacing).T.ravel()), "Offset": "0 0 0",
        "ElementSpacing": " ".join(f"{n:g}" for n in spacing), "DimSize": " ".join(map(str, slices.shape)),
        "ElementType": "MET_SHORT", "ElementDataFile": "LOCAL",
    }  # fmt: skip
    text = "".join(f"{key} = {value}\n" for key, value in header.items())
    folder.mkdir(exist_ok=True)
    (folder / "a.mha").write_bytes(text.encode() + slices.tobytes(order="F"))
    return read_itk(folder / "a.mha")


def from_nrrd(folder, slices, plane):
    steps = " ".join("(" + ",".join(f"{n:g}" for n in column) + ")" for column in displayed(plane)[:3, :3].T)
    head = (
        f"NRRD0005\ntype: short\ndimension: 3\nspace: RAS\nsizes: {' '.join(map(str, slices.shape))}\nspace directions: {steps}\n"
        "endian: little\nencoding: raw\nspace origin: (0,0,0)\n\n"
    )
    folder.mkdir(exist_ok=True)
    (folder / "a.nrrd").write_bytes(head.encode() + slices.tobytes(order="F"))
    return read_itk(folder / "a.nrrd")


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("read", [from_dicom, from_nifti, from_mgh, from_meta, from_nrrd])
def test_each_reader_gives_the_slices_that_were_acquired(tmp_path, read, plane) -> None:
    slices = stack()
    scan = read(tmp_path / "in", slices, plane)
    assert scan.stacked == PLANES[plane][0]
    cut = Slices(size=(12, 10), spacing_mm=(PIXEL, PIXEL), crop=True, axis="acquired").cut(scan, 0.0)
    assert np.array_equal(cut.pixels, slices)
    assert cut.spacing_mm == (PIXEL, PIXEL)
    assert np.array_equal(SlicePatches(patch=(4, 4), spacing_mm=None, axis="acquired").cut(scan, 0.0).pixels, slices)
    assert SlicePatches(patch=(4, 4), spacing_mm=None, axis="acquired").fixed(scan).cut(scan, 0.0).pixels.shape == (4, 4, 4)


@pytest.mark.parametrize("turned", [(0, 0.8, 0.6, 0, 0.6, -0.8), (0.6, 0.8, 0, 0, 0, -1), (0.8, 0.6, 0, 0, 0, -1)])
def test_oblique_slices_stay_whole(tmp_path, turned) -> None:
    slices = stack().astype(float)
    scan = read_series(write_series(tmp_path, slices, spacing_mm=(STEP, PIXEL, PIXEL), orientation=turned))
    images = Slices(size=(12, 10), spacing_mm=(PIXEL, PIXEL), crop=True, axis="acquired").cut(scan, 0.0).pixels.numpy()
    assert sorted(image.tobytes() for image in images) == sorted(image.astype(np.float32).tobytes() for image in slices)


def scan_of(spacing, shape=(6, 7, 8), **facts):
    return Scan(np.zeros(shape, np.float32), spacing, np.eye(4), **facts)


@pytest.mark.parametrize(
    ("scan", "axis"),
    [
        (scan_of((1.0, 1.0, 1.0)), None),
        (scan_of((1.0, 0.9, 1.2)), None),
        (scan_of((1.0, 1.0, 1.5)), 2),
        (scan_of((1.0, 1.0, 1.49)), None),
        (scan_of((1.0, 2.0, 2.0)), None),  # two axes alike
        (scan_of((5.0, 0.7, 0.7)), 0),
        (scan_of((0.5, 4.0, 0.5)), 1),
        (scan_of((0.5, 4.0, 0.5), acquired=1), 1),
        (scan_of((1.0, 2.0, 1.0), acquired=0), None),  # oblong pixels of axial slices
        (scan_of((1.0, 1.0, 1.0), acquired=2), None),
        (scan_of((1.0, 1.0, 1.0), acquired=2, loose="no thickness"), 2),
        (scan_of((1.0, 1.0, 1.0), shape=(6, 1, 8)), 1),
        (scan_of(None, acquired=1), 1),
        (Scan(np.zeros((4, 4), np.float32), (3.0, 1.0)), None),
    ],
)
def test_the_axis_that_stands_out(scan, axis) -> None:
    assert scan.stacked == axis
    if scan.pixels.ndim == 3:
        assert Slices(size=(4, 4), spacing_mm=None, crop=True, axis="acquired").of(scan).stacked_axis == (axis or 0)


def module(root, **options):
    own = {"modality": CT(), "intensity": Window([[-1000, 400]]), "size": [12, 10], "batch_size": 2, "spacing_mm": PIXEL}
    own |= {"cache": {"dir": str(Path(root).parent / "cache")}, "classes": "none", "fractions": [0.34, 0.33, 0.33]}
    data = ImageDataModule(**{**own, "root": str(root), **options})
    data.prepare_data()
    data.setup()
    return data


def all_images(data):
    return data.gather(np.arange(len(data.image_records)), np.zeros(len(data.image_records), int))


@pytest.mark.parametrize("plane", ["coronal", "sagittal"])
def test_a_set_of_one_plane_keeps_it_to_the_end(tmp_path, plane) -> None:
    for patient in range(3):
        write_nifti(tmp_path / "in" / f"p{patient}" / "a.nii", stack(patient), plane)
    data = module(tmp_path / "in")
    assert len(data.image_records) == 12
    assert f"slices: 3 scans {plane}" in data.describe()
    assert data.inverse.directions == PLANES[plane][1]  # of what sample writes
    assert data.inverse.spacing_mm == (PIXEL, PIXEL)
    stored = data.pipelines[""].plain()["layout"]
    assert stored["axis"] == plane  # apply cuts every scan as those of training
    assert Pipeline.from_plain(data.pipelines[""].plain()).layout.axis == plane
    chosen = module(tmp_path / "in", slices={"axis": plane})
    assert torch.equal(all_images(chosen), all_images(data))
    across = module(tmp_path / "in", slices={"axis": "axial"})
    assert across.inverse.directions == PLANES["axial"][1]
    said = across.describe()
    assert "slices: 3 scans axial" in said
    assert any(f"3 scans were acquired in {plane} slices and are cut across them" in line for line in said)


def test_axial_and_even_volumes_are_what_they_were(tmp_path) -> None:
    for patient, (plane, step) in enumerate([("axial", STEP), ("axial", 0.7), ("sagittal", 0.6)]):
        write_nifti(tmp_path / "in" / f"p{patient}" / "a.nii", stack(patient, (9, 12, 10)), plane, step)
    data, axial = module(tmp_path / "in"), module(tmp_path / "in", slices={"axis": "axial"})
    assert data.cache.folder != axial.cache.folder
    assert (data.cache.folder / "values.bin").read_bytes() == (axial.cache.folder / "values.bin").read_bytes()
    assert torch.equal(all_images(data), all_images(axial))
    assert data.inverse == axial.inverse
    assert data.pipelines[""].plain() == axial.pipelines[""].plain()
    assert not [line for line in data.describe() if line.startswith("WARNING: slices")]


def test_a_set_of_several_planes_is_told(tmp_path) -> None:
    for patient, plane in enumerate(["sagittal", "sagittal", "sagittal", "sagittal", "axial"]):
        write_nifti(tmp_path / "in" / f"p{patient}" / "a.nii", stack(patient), plane)
    data = module(tmp_path / "in", split="none")
    (line,) = [line for line in data.describe() if line.startswith("WARNING: slices of several planes")]
    assert "4 scans sagittal, 1 scans axial" in line
    assert "data.slices.axis=sagittal" in line
    assert data.inverse.directions == PLANES["sagittal"][1]
    assert data.pipelines[""].plain()["layout"]["axis"] == "acquired"


def test_companions_lie_in_the_plane_of_their_image() -> None:
    values = np.random.default_rng(0).random((2, 6, 5, 8)).astype(np.float32)
    other = Scan(values[1], (1.0, 1.0, 1.0), np.eye(4))
    scan = Scan(values[0], (1.0, 1.0, 1.0), np.eye(4), beside=(other,), loose="no thickness", acquired=1)
    source = Companion(modality=MRI(), intensity=Percentiles(0, 100))
    layout = Slices(size=(6, 8), spacing_mm=(1.0, 1.0), crop=True, axis="acquired")
    images = Pipeline(layout, Percentiles(0, 100), MRI(), {"source": source})(scan).images
    assert images.shape == (5, 2, 6, 8)
    for channel, (low, high) in enumerate((each.min(), each.max()) for each in values):
        native = (images[:, channel].numpy() + 1) / 2 * (high - low) + low
        assert np.allclose(native, values[channel].transpose(1, 0, 2)[:, ::-1], atol=1e-5)


def test_a_generator_sees_no_scan_cut_across_or_with_gaps() -> None:
    scan = scan_of((1.0, 1.0, 1.0), acquired=2, loose="a gap of 6 mm")
    for layout in (Slices(size=(4, 4), spacing_mm=None, crop=True, axis="axial"), Whole(size=(4, 4, 4), spacing_mm=None, crop=True)):
        with pytest.raises(ScanError, match="a gap of 6 mm"):
            Pipeline(layout, Percentiles()).source_images(scan)


def test_reals_of_another_plane_are_refused() -> None:
    def side(plane):
        inverse = SimpleNamespace(modality="CT", directions=PLANES[plane][1])
        config = {"data": {"size": 8, "channels": 1}, "image": {"spatial_dims": 2}, "model": {"classes": 0}}
        data = {"size": (8, 8), "channels": 1, "modality": SimpleNamespace(name="CT"), "check_model": lambda config: None}
        return SimpleNamespace(inverse=inverse, config=config, **data)

    check_fits(side("coronal"), side("coronal"))
    with pytest.raises(ValueError, match=r"its data\.slices\.axis is coronal, that of the reals axial"):
        check_fits(side("coronal"), side("axial"))
