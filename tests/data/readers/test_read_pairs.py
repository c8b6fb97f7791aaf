"""NIfTI pairs and FreeSurfer's MGZ, against nibabel: values, geometry, what belongs together, and where a result is written."""

import gzip

import nibabel as nib
import numpy as np
import pytest

from medgan_pl.data.export.alike import frame_of
from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.gather import gather_volumes
from medgan_pl.data.readers.mgh import read_mgh
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.scan import ScanError

VALUES = np.random.default_rng(0).integers(-1000, 2000, (5, 6, 7)).astype(np.int16)
OBLIQUE = np.array([[0.0, 0.1, 2.0, 10.0], [-1.5, 0.0, 0.0, 20.0], [0.0, -0.8, 0.25, 30.0], [0, 0, 0, 1]])
OBLIQUE[:3, 2] = np.cross(OBLIQUE[:3, 0], OBLIQUE[:3, 1]) * 2.0 / 1.5 / np.linalg.norm(OBLIQUE[:3, 1])


def check(scan, path, truth):
    """The same value at the same place as nibabel says, at every voxel."""
    truth = nib.load(truth)
    assert sorted(scan.pixels.shape) == sorted(truth.shape)
    indices = np.indices(scan.pixels.shape).reshape(3, -1)
    places = scan.affine[:3, :3] @ indices + scan.affine[:3, 3:]
    back = np.linalg.inv(truth.affine)
    theirs = np.rint(back[:3, :3] @ places + back[:3, 3:]).astype(int)
    assert np.abs(back[:3, :3] @ places + back[:3, 3:] - theirs).max() < 1e-3
    assert np.array_equal(scan.pixels.reshape(-1), np.asarray(truth.dataobj, np.float32)[tuple(theirs)])
    frame = frame_of([path], scan.affine)
    assert np.array_equal(frame.own(scan.pixels).transpose(2, 1, 0), np.asarray(truth.dataobj, np.float32))


@pytest.mark.parametrize("kind", [nib.Nifti1Pair, nib.Nifti2Pair])
@pytest.mark.parametrize("packed", [False, True])
def test_a_pair(tmp_path, kind, packed):
    image = kind(VALUES, OBLIQUE)
    image.set_qform(None, 0)
    image.header.set_slope_inter(2, -5)
    nib.save(image, tmp_path / "a.img")
    if packed:
        for name in ("a.hdr", "a.img"):
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress((tmp_path / name).read_bytes()))
            (tmp_path / name).unlink()
    head = tmp_path / ("a.hdr.gz" if packed else "a.hdr")
    assert CT().takes(head)
    assert not CT().takes(tmp_path / ("a.img.gz" if packed else "a.img"))
    gathered = CT().gather([Item(head.name, (head,))])
    (item,) = gathered.items
    assert [path.name for path in item.paths] == [head.name, head.name.replace("hdr", "img")]  # both decide whether it has changed
    check(CT().read(item), head, head)


def test_a_pair_that_is_torn_and_a_header_of_another_program(tmp_path):
    nib.save(nib.Nifti1Pair(VALUES, OBLIQUE), tmp_path / "a.img")
    whole = (tmp_path / "a.img").read_bytes()
    (tmp_path / "a.img").write_bytes(whole[:-10])
    with pytest.raises(ScanError, match="truncated: the header claims"):
        read_nifti(tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    gathered = CT().gather([Item("a.hdr", (tmp_path / "a.hdr",))])
    assert gathered.unusable == {"a.hdr": "the .img file of this .hdr is not in its folder; copy both"}
    (tmp_path / "envi.hdr").write_text("ENVI\nsamples = 3\n" * 40)
    nib.save(nib.AnalyzeImage(VALUES, np.eye(4)), tmp_path / "old.img")
    assert not CT().takes(tmp_path / "envi.hdr")
    assert not CT().takes(tmp_path / "old.hdr")


@pytest.mark.parametrize("name", ["a.mgz", "a.mgh"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32, np.float32])
def test_freesurfer(tmp_path, name, dtype):
    nib.save(nib.MGHImage((VALUES % 200).astype(dtype), OBLIQUE), tmp_path / "truth.mgz")  # nibabel leaves an .mgh open
    content = (tmp_path / "truth.mgz").read_bytes()
    (tmp_path / name).write_bytes(content if name == "a.mgz" else gzip.decompress(content))
    assert CT().takes(tmp_path / name)
    scan = CT().read(Item(name, (tmp_path / name,)))
    check(scan, tmp_path / name, tmp_path / "truth.mgz")
    assert scan.bits == (None if dtype == np.float32 else 8 * np.dtype(dtype).itemsize)


def test_a_freesurfer_volume_that_is_no_whole_one(tmp_path):
    nib.save(nib.MGHImage(VALUES, OBLIQUE), tmp_path / "a.mgz")
    whole = gzip.decompress((tmp_path / "a.mgz").read_bytes())
    nib.save(nib.MGHImage(np.stack([VALUES, VALUES], -1), OBLIQUE), tmp_path / "frames.mgz")
    for content, why in (
        (whole[: 284 + 100], "truncated"),
        (b"\0\0\0\2" + whole[4:], "version 1"),
        (whole[:28] + b"\0\0" + whole[30:], "orientation unknown"),
        (whole[:20] + b"\0\0\0\7" + whole[24:], "of type 0, 1, 3 or 4"),
        ((tmp_path / "frames.mgz").read_bytes(), "4-D, 2 volumes"),
    ):
        (tmp_path / "b.mgh").write_bytes(content)
        with pytest.raises(ScanError, match=why):
            read_mgh(tmp_path / "b.mgh")


@pytest.mark.parametrize("name", ["a.hdr", "a.hdr.gz", "a.mgz", "a.mgh"])
def test_one_of_several_volumes(tmp_path, name):
    stored = np.stack([VALUES, VALUES + 1, VALUES + 2], -1)
    if "hdr" in name:
        nib.save(nib.Nifti1Pair(stored, OBLIQUE), tmp_path / "a.img")
        for part in ("a.hdr", "a.img") if name.endswith("gz") else ():
            (tmp_path / f"{part}.gz").write_bytes(gzip.compress((tmp_path / part).read_bytes()))
            (tmp_path / part).unlink()
    else:
        nib.save(nib.MGHImage(stored, OBLIQUE), tmp_path / "b.mgz")
        content = (tmp_path / "b.mgz").read_bytes()
        (tmp_path / name).write_bytes(content if name == "a.mgz" else gzip.decompress(content))
    items = [Item(name, (tmp_path / name,))]
    with pytest.raises(ScanError, match=r"4-D, 3 volumes .* data\.modality\.volume=first, all or a number from 1"):
        CT().read(gather_volumes(items, "CT").items[0])
    for volume, places in (("first", [0]), (3, [2]), ("all", [0, 1, 2])):
        found = gather_volumes(items, "CT", Choice(volume=volume)).items
        assert [item.part for item in found] == places
        for item in found:
            nib.save(nib.Nifti1Image(VALUES + item.part, OBLIQUE), tmp_path / "truth.nii")
            check(CT().read(item), tmp_path / name, tmp_path / "truth.nii")
    wrong = gather_volumes(items, "CT", Choice(volume=4)).unusable
    assert wrong == {name: "it must hold volume 4 (data.modality.volume), got 3"}


def test_a_deformation_field_is_no_set_of_volumes(tmp_path):
    image = nib.Nifti1Image(np.stack([VALUES, VALUES, VALUES], -1)[:, :, :, None], OBLIQUE)
    image.header.set_intent("vector")
    nib.save(image, tmp_path / "warp.nii")
    assert "got vectors or matrices" in gather_volumes([Item("w", (tmp_path / "warp.nii",))], "MR", Choice(volume="all")).unusable["w"]
