"""Headers that state their geometry twice: what is used, and what the user is told."""

import nibabel as nib
import numpy as np
import pytest

from medgan_pl.data.prepare.prepared import facts_of
from medgan_pl.data.readers.itk import files_of, read_itk
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.scan import ScanError

VALUES = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)
STEPS = np.diag([-1.0, -1.0, 2.0, 1.0])


def written(path, sform=STEPS, qform=STEPS, codes=(1, 1), **fields):
    image = nib.Nifti1Image(VALUES, None)
    image.set_qform(qform, codes[1])
    image.set_sform(sform, codes[0])
    content = bytearray(image.to_bytes())
    for name, value in fields.items():
        place = image.header.template_dtype.fields[name][1]
        stored = np.asarray(value, "<f4").tobytes()
        content[place : place + len(stored)] = stored
    path.write_bytes(content)
    return path


def moved(axis, by, flip=False):
    other = STEPS.copy()
    other[axis, 3] = by
    if flip:
        other[axis, axis] *= -1
    return other


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        ({}, ()),
        (
            {"pixdim": [1, 5, 5, 5]},
            ("its sform and its pixdim disagree: voxels of 1 × 1 × 2 mm by the sform, which is used, and 5 × 5 × 5",),
        ),
        ({"pixdim": [1, 1, 1, 1.98]}, ()),  # rounded
        ({"pixdim": [1, 1, 1, 0]}, ()),  # not stated
        ({"pixdim": [-1, 1, 1, 1], "codes": (2, 0)}, ("its sform and its pixdim disagree: voxels of 1 × 1 × 2 mm",)),
        ({"pixdim": [1, 5, 5, 5], "codes": (0, 1)}, ()),  # pixdim is the only one
        ({"qform": moved(0, 30)}, ("its sform and its qform disagree by up to 30 mm; the sform is used",)),
        ({"qform": moved(0, 0, flip=True)}, ("its sform and its qform disagree by up to 2 mm",)),
        ({"qform": moved(0, 30), "codes": (4, 1)}, ()),  # a template and the scanner
        ({"qform": moved(0, 30), "codes": (1, 0)}, ()),
    ],
)
def test_an_sform_that_disagrees_is_used_and_said_so(tmp_path, options, notes):
    scan = read_nifti(written(tmp_path / "a.nii", **options))
    assert len(scan.notes) == len(notes)
    assert all(said.startswith(start) for said, start in zip(scan.notes, notes, strict=True))
    assert facts_of(scan)["notes"] == list(scan.notes)
    if options.get("codes") != (0, 1):
        assert scan.spacing_mm == (2, 1, 1)


@pytest.mark.parametrize("name", ["x.raw", "./x.raw", "././x.raw", ".\\x.raw", ".//x.raw"])
def test_a_data_file_in_the_folder_itself(tmp_path, name):
    (tmp_path / "x.raw").write_bytes(VALUES.T.astype("<i2").tobytes())
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\nspace: RAS\n"
    head += f"space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\ndata file: {name}\n\n"
    (tmp_path / "a.nhdr").write_text(head)
    meta = "NDims = 3\nDimSize = 2 3 4\nElementType = MET_SHORT\nElementSpacing = 1 1 2\nOffset = 0 0 0\nBinaryData = True\n"
    meta += f"TransformMatrix = 1 0 0 0 1 0 0 0 1\nBinaryDataByteOrderMSB = False\nElementDataFile = {name}\n"
    (tmp_path / "a.mhd").write_text(meta)
    for file, expected in (("a.nhdr", VALUES.T[:, ::-1, ::-1]), ("a.mhd", VALUES.T)):
        assert np.array_equal(read_itk(tmp_path / file).pixels, expected)
        assert files_of(tmp_path / file) == (tmp_path / file, tmp_path / "x.raw")


@pytest.mark.parametrize("name", ["../x.raw", "./../x.raw", "./sub/x.raw", "/etc/x.raw", "./", "./."])
def test_a_data_file_elsewhere_is_refused(tmp_path, name):
    head = "NRRD0004\ntype: short\ndimension: 3\nsizes: 2 3 4\nendian: little\nencoding: raw\nspace: RAS\n"
    head += f"space directions: (1,0,0) (0,1,0) (0,0,2)\nspace origin: (0,0,0)\ndata file: {name}\n\n"
    (tmp_path / "a.nhdr").write_text(head)
    with pytest.raises(ScanError, match="by its name alone"):
        read_itk(tmp_path / "a.nhdr")
