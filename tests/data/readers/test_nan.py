"""NaN outside the field: refused with the key to give, or padding that plays no part."""

from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Percentiles, ZScore
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.prepare.layouts import Slices, Whole
from medgan_pl.data.prepare.patches import SlicePatches
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.prepare.prepared import Prepare
from medgan_pl.data.readers.bias_field import even
from medgan_pl.data.readers.scan import ScanError

SHAPE = (6, 10, 8)  # (x, y, z)
RAS = np.diag([2.0, 2.0, 3.0, 1.0])
KINDS = ("a.nii", "a.nii.gz", "a.img", "a.mgz", "a.nrrd", "a.mha", "a.tif")


def written(path: Path, values: np.ndarray) -> Path:
    """Write float32 values (x, y, z) as the kind of file that the name says, a picture of the middle slice (y, x); return what to read."""
    values, kind = np.float32(values), path.suffix
    if kind in (".nii", ".gz"):
        nibabel.Nifti1Image(values, RAS).to_filename(path)
    elif kind == ".img":
        nibabel.Nifti1Pair(values, RAS).to_filename(path)
        return path.with_suffix(".hdr")
    elif kind == ".mgz":
        nibabel.MGHImage(values, RAS).to_filename(path)
    elif kind == ".tif":
        Image.fromarray(values[:, :, 0].T).save(path)
    else:
        sizes = " ".join(map(str, values.shape))
        nrrd = f"NRRD0004\ntype: float\ndimension: 3\nsizes: {sizes}\nspace: right-anterior-superior\nencoding: raw\nendian: little\n"
        nrrd += "space directions: (2,0,0) (0,2,0) (0,0,3)\nspace origin: (0,0,0)\n\n"
        meta = f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nDimSize = {sizes}\n"
        meta += "ElementType = MET_FLOAT\nElementSpacing = 2 2 3\nOffset = 0 0 0\nTransformMatrix = -1 0 0 0 -1 0 0 0 1\n"
        meta += "ElementDataFile = LOCAL\n"
        path.write_bytes((nrrd if kind == ".nrrd" else meta).encode() + values.tobytes(order="F"))
    return path


def holed() -> np.ndarray:
    values = np.random.default_rng(0).normal(500, 100, SHAPE)
    values[:2] = values[:, :, -1:] = np.nan
    values[3, 4, 2] = -7.5  # the smallest
    values[3, 4, 0] = -2.5  # the smallest of the first slice
    return values


def read(path: Path, nan: str = "padding"):
    modality = XRay(nan=nan) if path.suffix == ".tif" else MRI(nan=nan)
    return modality.read(Item("a", (path,)))


@pytest.mark.parametrize("name", KINDS)
def test_nan_is_padding_on_request_and_else_refused_with_the_key(tmp_path, name):
    values = holed()
    path = written(tmp_path / name, values)
    plain = values[:, :, 0].T if name == "a.tif" else np.flip(values, (0, 1)).transpose(2, 1, 0)  # as scan.canonical has it
    scan = read(path)
    assert np.array_equal(scan.padding, np.isnan(plain))
    assert np.array_equal(scan.pixels[~scan.padding], np.float32(plain[~np.isnan(plain)]))
    assert (scan.pixels[scan.padding] == (-2.5 if name == "a.tif" else -7.5)).all()
    count = int(np.isnan(plain).sum())
    with pytest.raises(ScanError, match=rf"got {count} NaN or infinite of {plain.size}, {count} of them NaN; .*data.modality.nan=padding"):
        read(path, "refuse")
    values[5, 5, 0] = np.inf
    with pytest.raises(ScanError, match=rf"got {count + 1} NaN or infinite of {plain.size}, {count} of them NaN"):
        read(written(tmp_path / name, values))
    with pytest.raises(ScanError, match="it must have voxels besides padding, got NaN in all"):
        read(written(tmp_path / name, np.full(SHAPE, np.nan)))
    whole = read(written(tmp_path / name, np.nan_to_num(holed())))
    assert whole.padding is None


def test_scaled_nan_and_the_setting(tmp_path):
    image = nibabel.Nifti1Image(np.float32(holed()), RAS)
    image.header.set_slope_inter(-2, 10)
    image.to_filename(tmp_path / "a.nii")
    stored = nibabel.load(tmp_path / "a.nii")
    scan = read(tmp_path / "a.nii")
    assert scan.pixels.min() == np.float32(np.nanmin(stored.get_fdata()))
    assert scan.padding.mean() == np.isnan(stored.get_fdata()).mean()
    with pytest.raises(ValueError, match=r"data\.modality\.nan must be refuse, or padding"):
        CT(nan="zero")
    assert MRI().settings.get("nan") is None
    assert MRI(nan="padding").choosing("t1").settings["nan"] == "padding"


LAYOUTS = (
    (Slices(size=(12, 9), spacing_mm=(1.7, 1.3), crop=False), 7),
    (SlicePatches(patch=(4, 4), spacing_mm=None), 7),
    (Whole(size=(6, 14, 14), spacing_mm=[2.9, 1.1, 3.1], crop=False), 1),
)


def test_it_spreads_into_no_voxel_that_is_image_and_into_no_level(tmp_path):
    values = holed()
    values[:, :3] = np.nan
    scan = read(written(tmp_path / "a.nii", values))
    other = replace(scan, pixels=np.where(scan.padding, np.float32(5000), scan.pixels))
    for layout, kept in LAYOUTS:
        here, there = (Prepare(layout, Percentiles())(each) for each in (scan, other))
        assert (len(here.images), len(there.images)) == (kept, kept)  # slices of nothing but padding are none
        assert 0 < here.inside.float().mean() < 0.7
        assert (here.images - there.images)[here.inside[:, None]].abs().max() < 1e-5
        assert here.levels == there.levels
    assert ZScore().levels(scan) == ZScore().levels(other)


def test_padding_is_no_doubt_about_the_unit_and_stays_the_smallest_in_an_even_field(tmp_path):
    values = holed()
    values[4, 4, 1] = -260.0  # one ring of interpolation, and so the value of all padding
    item = Item("a", (written(tmp_path / "a.nii", values),))
    scan = MRI(nan="padding").read(item)
    assert MRI(nan="padding").doubt(item, scan, 0.0) is None
    pytest.importorskip("SimpleITK")
    evened = even(scan)
    assert evened.pixels[scan.padding].max() == evened.pixels[~scan.padding].min()


def test_a_batch_says_where_it_is(tmp_path):
    for i in range(4):
        values = holed() + i
        written(tmp_path / f"{i}.nii", values)
    common = {"intensity": Percentiles(), "root": str(tmp_path), "size": 8, "split": "none", "classes": "none"}
    with pytest.raises(ValueError, match=r"data\.modality\.nan=padding"):
        opened(MRI(), common, tmp_path)
    data = opened(MRI(nan="padding"), common, tmp_path)
    batch = data.peek("train", 8)
    assert set(batch["inside"].unique().tolist()) == {0, 1}
    assert batch["image"][batch["inside"] == 0].min() == -1
    assert Pipeline.from_plain(data.pipeline.plain()).modality.nan == "padding"


def opened(modality, common, tmp_path):
    data = ImageDataModule(modality=modality, cache={"dir": str(tmp_path / "cache")}, **common)
    data.setup()
    return data
