"""Frames that are no anatomy, or in no HU, by their own headers; enhanced files of one frame; copies of files and of slices."""

import shutil

import numpy as np
import pydicom
import pytest
from dicom_files import write_series
from test_volumes_told_apart import VOLUMES, group, same, write_frames

from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT, MRI
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.gather import gather_volumes

NAMES = {
    "phase": (["ORIGINAL", "PRIMARY", "P", "NONE"], "phase, real or imaginary images (by ImageType)"),
    "adc": (["DERIVED", "PRIMARY", "DIFFUSION", "ADC"], "maps computed from images (ADC, perfusion, subtraction, by ImageType)"),
}


def typed(k, i, other=("ORIGINAL", "PRIMARY", "P", "NONE")):
    return {"MRImageFrameTypeSequence": {"FrameType": list(other if k else ("ORIGINAL", "PRIMARY", "M", "NONE"))}}


@pytest.mark.parametrize(("other", "reason"), NAMES.values(), ids=NAMES)
def test_frames_that_are_no_anatomy_are_passed_over(tmp_path, other, reason):
    """The first volume is a magnitude, the other two, told apart by time, are not."""

    def content(k, i):
        return typed(k, i, other) | {"FrameContentSequence": {"TemporalPositionIndex": k}}

    items = write_frames(tmp_path / "e", content)
    found = gather_volumes(items, "MR")
    assert same([MRI().read(item).pixels for item in found.items], VOLUMES[:1])
    assert found.skipped == {reason: 2}
    chosen = gather_volumes(items, "MR", Choice(image_type=other[3] if "ADC" in other else r"\\P\\", volume="all"))
    assert same([MRI().read(item).pixels for item in chosen.items], VOLUMES[1:])


@pytest.mark.parametrize(("unit", "taken"), [("HU", 1), ("US", 1), ("Z_EFF", 0), ("MGML", 0)])
def test_frames_of_ct_state_their_unit_themselves(tmp_path, unit, taken):
    def edit(ds):
        del ds.PerFrameFunctionalGroupsSequence[3:]
        ds.SOPClassUID, ds.Modality, ds.NumberOfFrames, ds.PixelData = "1.2.840.10008.5.1.4.1.1.2.1", "CT", 3, ds.PixelData[: 3 * 60]
        ds.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence = group(
            RescaleSlope=1, RescaleIntercept=-1024, RescaleType=unit
        )

    items = write_frames(tmp_path / "e", lambda k, i: {}, lambda k, i: 10.0 * i + k)
    ds = pydicom.dcmread(tmp_path / "e")
    edit(ds)
    ds.save_as(tmp_path / "e")
    found = gather_volumes(items, "CT", Choice(volume="first"))
    assert len(found.items) == taken
    assert not found.unusable
    assert taken or found.skipped == {f"CT series in {unit} (RescaleType) and not in HU": 1}


def test_enhanced_files_of_one_frame_are_a_volume_together(tmp_path):
    write_frames(tmp_path / "e", lambda k, i: {})
    for n, place in enumerate((4.0, 0.0, 2.0)):
        ds = pydicom.dcmread(tmp_path / "e")
        del ds.PerFrameFunctionalGroupsSequence[1:]
        ds.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient = [0.0, 0.0, place]
        ds.NumberOfFrames, ds.InstanceNumber = 1, n + 1
        ds.PixelData = VOLUMES[0, int(place / 2)].tobytes()
        ds.save_as(tmp_path / str(n))
    (item,) = gather_volumes([Item(str(n), (tmp_path / str(n),)) for n in range(3)], "MR").items
    assert np.array_equal(MRI().read(item).pixels, VOLUMES[0])


def test_a_copy_of_a_multi_frame_file_is_dropped(tmp_path):
    items = write_frames(tmp_path / "e", lambda k, i: {"FrameContentSequence": {"TemporalPositionIndex": k}})
    shutil.copy(tmp_path / "e", tmp_path / "f")
    found = gather_volumes([*items, Item("f", (tmp_path / "f",))], "MR", Choice(volume="all"))
    assert same([MRI().read(item).pixels for item in found.items])
    assert found.skipped == {"copies of slices (the same values at the same place)": 1}


def test_slices_exported_twice_under_new_uids_are_dropped_by_their_values(tmp_path):
    """The copies of two slices differ in a value: they are no copies, and the series is refused."""
    one = write_series(tmp_path / "a", VOLUMES[0])
    two = write_series(tmp_path / "b", VOLUMES[0], intercept=-24, edit=lambda i, ds: setattr(ds, "InstanceNumber", i + 1))
    items = [Item(str(path), (path,)) for path in (*one, *two)]
    found = gather_volumes(items, "CT")
    assert found.skipped == {"copies of slices (the same values at the same place)": 3}
    assert same([CT().read(item).pixels for item in found.items], VOLUMES[:1])
    ds = pydicom.dcmread(two[1])
    ds.PixelData = bytes(60)
    ds.save_as(two[1])
    found = gather_volumes(items, "CT")
    assert found.skipped == {"copies of slices (the same values at the same place)": 2}
    assert len(found.items[0].paths) == 4


def test_a_scout_at_the_place_of_a_slice_is_no_copy_of_it(tmp_path):
    """It has the same number, place and values as the first slice, and another direction and kind."""
    scout = {"orientation": (1, 0, 0, 0, 0, -1), "ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"], "SOPInstanceUID": "1.7"}
    paths = [*write_series(tmp_path / "a", VOLUMES[0, :1], **scout), *write_series(tmp_path / "b", VOLUMES[0], SOPInstanceUID="1.7")]
    found = gather_volumes([Item(str(path), (path,)) for path in paths], "CT")
    assert found.skipped == {"localizers (scouts, by ImageType)": 1}
    assert same([CT().read(item).pixels for item in found.items], VOLUMES[:1])
