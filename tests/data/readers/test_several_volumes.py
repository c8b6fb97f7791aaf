"""Enhanced multi-frame DICOM, series of several volumes, and 4-D NIfTI: values, places and order, and the choice among volumes."""

import nibabel as nib
import numpy as np
import pytest
from dicom_files import AXIAL, CORONAL, dataset, write_series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medgan_pl.data.export.alike import alike
from medgan_pl.data.files.digests import content_digests
from medgan_pl.data.files.records import Item, first_of
from medgan_pl.data.modalities import CT, MRI
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.gather import gather_volumes
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.readers.series import read_series
from medgan_pl.data.sources import FileSource

ENHANCED = {"MR": "1.2.840.10008.5.1.4.1.1.4.1", "CT": "1.2.840.10008.5.1.4.1.1.2.1"}
STORED = np.random.default_rng(3).integers(0, 900, (5, 6, 7)).astype(np.uint16)
SLOPES = np.array([1, 2, 0.5, 4, 1.5])


def group(**tags):
    one = Dataset()
    for name, value in tags.items():
        setattr(one, name, value)
    return Sequence([one])


def write_enhanced(path, stored, order=None, *, modality="MR", orientation=AXIAL, slopes=None, times=1, step=2.5, edit=None):
    """stored (times · D, H, W): volume after volume -> one file whose frames come in `order`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    order, depth = list(range(len(stored)) if order is None else order), len(stored) // times
    ds = dataset(stored[order], "P1", modality)
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = ENHANCED[modality]
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber, ds.NumberOfFrames = "1.2", "1.3", 1, len(stored)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    normal, shared = np.cross(*np.reshape(orientation, (2, 3))), Dataset()
    shared.PixelMeasuresSequence = group(PixelSpacing=[0.8, 0.5], SliceThickness=9)
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=list(orientation))
    frames = []
    for i in order:
        frame = Dataset()
        frame.PlanePositionSequence = group(ImagePositionPatient=[float(n) for n in [-30, 12, 55] + i % depth * step * normal])
        frame.FrameContentSequence = group(TemporalPositionIndex=i // depth + 1)
        slope = 1 if slopes is None else slopes[i % depth]
        frame.PixelValueTransformationSequence = group(RescaleSlope=slope, RescaleIntercept=-10, RescaleType="US")
        frames.append(frame)
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = Sequence([shared]), Sequence(frames)
    if edit:
        edit(ds)
    ds.save_as(path)
    return path


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("orientation", [AXIAL, CORONAL])
def test_an_even_stack_of_frames_is_a_volume(tmp_path, modality, orientation):
    path = write_enhanced(tmp_path / "e.dcm", STORED, [3, 0, 4, 1, 2], modality=modality, orientation=orientation, slopes=SLOPES)
    (item,) = gather_volumes([Item("e.dcm", (path,))], modality).items
    assert (item.paths, item.part, item.identity) == ((path,), None, "P1")
    scan = (MRI() if modality == "MR" else CT()).read(item)
    values = STORED * SLOPES[:, None, None] - 10
    across, down = np.reshape(orientation, (2, 3))
    for at in ((0, 0, 0), (1, 4, 2), (4, 5, 6)):
        lps = [-30, 12, 55] + at[0] * 2.5 * np.cross(across, down) + at[1] * 0.8 * down + at[2] * 0.5 * across
        index = np.rint(np.linalg.solve(scan.affine, [*(lps * [-1, -1, 1]), 1]))[:3].astype(int)
        assert np.allclose((scan.affine @ [*index, 1])[:3], lps * [-1, -1, 1])
        assert scan.pixels[tuple(index)] == values[at]
    assert sorted(scan.spacing_mm) == [0.5, 0.8, 2.5]
    assert scan.acquired == (0 if orientation == AXIAL else 1)


def test_frames_are_read_as_simpleitk_reads_them(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    path = write_enhanced(tmp_path / "e.dcm", STORED)
    image, scan = sitk.ReadImage(str(path)), read_series([path])
    assert np.array_equal(scan.pixels, sitk.GetArrayFromImage(image))
    assert np.allclose(scan.affine @ [0, 0, 0, 1], [-image.GetOrigin()[0], -image.GetOrigin()[1], image.GetOrigin()[2], 1])
    assert np.allclose(scan.spacing_mm, image.GetSpacing()[2::-1])


def test_several_volumes_in_a_file_are_refused_or_chosen(tmp_path):
    stored = np.concatenate([STORED, STORED + 1, STORED + 2])
    order = np.random.default_rng(0).permutation(15).tolist()
    items = [Item("e.dcm", (write_enhanced(tmp_path / "e.dcm", stored, order, times=3),))]
    refused = gather_volumes(items, "MR")
    assert not refused.items
    assert "3 volumes" in refused.unusable["e.dcm"]
    assert "data.modality.volume=first, all or a number from 1" in refused.unusable["e.dcm"]
    found = gather_volumes(items, "MR", Choice(volume="all")).items
    assert [item.name for item in found] == ["e.dcm [1]", "e.dcm [2]", "e.dcm [3]"]
    for k, item in enumerate(found):
        assert np.array_equal(MRI().read(item).pixels, STORED + k - 10.0)
    assert len(set(content_digests(found, tmp_path))) == 3
    for volume, k in (("first", 0), (3, 2)):
        (item,) = gather_volumes(items, "MR", Choice(volume=volume)).items
        assert np.array_equal(MRI().read(item).pixels, STORED + k - 10.0)
    assert "must hold volume 4 (data.modality.volume), got 3" in gather_volumes(items, "MR", Choice(volume=4)).unusable["e.dcm"]
    written = alike(found[1], MRI().read(found[1]), (1, 1, 1), {})
    assert len(written.headers) == 5


def test_frames_without_places_or_pixels_are_refused(tmp_path):
    def fewer(ds):
        ds.PerFrameFunctionalGroupsSequence = ds.PerFrameFunctionalGroupsSequence[:4]

    def cut(ds):
        ds.PixelData = ds.PixelData[:-80]

    path = write_enhanced(tmp_path / "a.dcm", STORED, edit=fewer)
    assert "must state the place of each of its 5 frames" in gather_volumes([Item("a", (path,))], "MR").unusable["a"]
    with pytest.raises(ScanError, match="pixel data must be 420 bytes as in the header, got 340"):
        read_series([write_enhanced(tmp_path / "b.dcm", STORED, edit=cut)])


def test_several_volumes_in_a_series_of_files_are_refused_or_chosen(tmp_path):
    """Echoes at the same places, numbered slice by slice."""
    paths = []
    for echo in (1, 2):

        def number(i, ds, echo=echo):
            ds.EchoNumbers, ds.InstanceNumber = echo, 2 * i + 3 - echo  # the second echo has the lower number

        paths += write_series(tmp_path / str(echo), STORED + echo, modality="MR", slope=None, intercept=None, edit=number)
    items = [Item(str(path.relative_to(tmp_path)), (path,)) for path in paths]
    (item,) = gather_volumes(items, "MR").items
    with pytest.raises(ScanError, match=r"other pixels: echoes, times or b-values\? choose by data\.modality\.volume=first"):
        MRI().read(item)
    for volume, echoes in (("first", [1]), (2, [2]), ("all", [1, 2])):
        found = gather_volumes(items, "MR", Choice(volume=volume)).items
        assert [int(MRI().read(item).pixels[0, 0, 0] - STORED[0, 0, 0]) for item in found] == echoes
        assert all(len(item.paths) == 5 for item in found)
    with pytest.raises(ValueError, match=r"data\.modality\.volume must be first, all, a number from 1, or null, got 0"):
        Choice(volume=0)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_volumes_of_a_4d_nifti(tmp_path, ending):
    pixels = np.random.default_rng(0).integers(0, 900, (4, 5, 6, 3)).astype(np.int16)
    path = tmp_path / f"x{ending}"
    image = nib.Nifti1Image(pixels, np.diag([-1.0, -2.0, 3.0, 1.0]))
    image.header.set_slope_inter(2, 7)
    nib.save(image, path)
    with pytest.raises(ScanError, match=r"4-D, 3 volumes .* data\.modality\.volume=first"):
        read_nifti(path)
    theirs = nib.load(path).get_fdata()
    found = gather_volumes([Item(path.name, (path,))], "MR", Choice(volume="all")).items
    assert [first_of(item.name) for item in found] == [path.name] * 3
    for k, item in enumerate(found):
        scan = MRI().read(item)
        assert np.array_equal(scan.pixels, theirs[..., k].T)
        assert scan.spacing_mm == (3, 2, 1)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ScanError, match="truncated"):
        read_nifti(path, 0)


def test_the_volumes_of_a_file_have_one_patient_and_are_remembered(tmp_path):
    for name in ("a", "b"):
        pixels = np.random.default_rng(ord(name)).integers(0, 900, (4, 5, 6, 3)).astype(np.int16)
        nib.save(nib.Nifti1Image(pixels, np.eye(4)), tmp_path / f"{name}.nii")
    options = {"folder": tmp_path / "cache", "patient_pattern": None, "classes": False, "splits": False}
    for _ in ("read", "remembered"):
        source = FileSource(tmp_path, MRI(volume="all"), **options)
        records = source.table()
        assert [record.name for record in records] == [f"{name}.nii [{k}]" for name in "ab" for k in (1, 2, 3)]
        patients = [record.patient for record in records]
        assert (len(set(patients[:3])), len(set(patients[3:])), len(set(patients))) == (1, 1, 2)
        assert len({task.read().pixels.tobytes() for task in source.tasks(records)}) == 6
