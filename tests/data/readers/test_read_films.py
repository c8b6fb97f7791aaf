"""Which DICOM files are films: what lies beside them on a disc of a hospital is passed over and counted."""

from collections import Counter

import numpy as np
import pydicom
import pytest
from dicom_files import write_film

from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import CT, XRay

CAPTURE, STATE, REPORT = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.11.1", "1.2.840.10008.5.1.4.1.1.88.11"
PDF, RAW = "1.2.840.10008.5.1.4.1.1.104.1", "1.2.840.10008.5.1.4.1.1.1.1.1"
NO_PIXELS = dict.fromkeys(("Rows", "Columns", "PixelData"))
NOTHING, CAPTURED = "no image (a report, a plan, a directory)", "secondary captures (reports, screenshots)"
BOTH = "images for processing, beside the same for presentation"


def film(path, study="1.1", modality="DX", **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = np.random.default_rng(len(path.name)).integers(0, 4000, (8, 8), np.uint16)
    return write_film(path, stored, StudyInstanceUID=study, Modality=modality, **tags)


def found(modality, root):
    paths = sorted(path for path in root.rglob("*") if path.is_file() and modality.takes(path))
    return modality.gather([Item(path.relative_to(root).as_posix(), (path,)) for path in paths])


def test_what_holds_no_image_is_passed_over_and_a_film_without_its_pixels_is_bad(tmp_path):
    film(tmp_path / "a/film")
    film(tmp_path / "a/cut", PixelData=None)
    film(tmp_path / "a/cut_early", SOPClassUID=None, **NO_PIXELS)  # its file meta names an image
    for name, kind in (("state", STATE), ("report", REPORT), ("paper.dcm", PDF)):
        film(tmp_path / "a" / name, SOPClassUID=kind, **NO_PIXELS)
    film(tmp_path / "DICOMDIR", SOPClassUID=None, **NO_PIXELS)
    gathered = found(XRay(), tmp_path)
    assert [item.name for item in gathered.items] == ["a/cut", "a/cut_early", "a/film"]
    assert gathered.skipped == Counter({NOTHING: 3})
    assert not gathered.unusable
    assert not XRay().takes(tmp_path / "DICOMDIR")
    assert not CT().takes(tmp_path / "DICOMDIR")


def test_images_of_several_frames_beside_films_are_passed_over(tmp_path):
    film(tmp_path / "film", modality="MG")
    film(tmp_path / "tomo", modality="MG", NumberOfFrames=3, PixelData=bytes(3 * 128))
    gathered = found(XRay(), tmp_path)
    assert [item.name for item in gathered.items] == ["film"]
    assert gathered.skipped == {"images of several frames (tomosynthesis, fluoroscopy), which are no films": 1}
    assert not gathered.unusable


@pytest.mark.parametrize(
    ("files", "kept"),
    [
        ({"film": ("1", "CR", None), "dose": ("1", "CR", CAPTURE), "shot": ("2", "OT", CAPTURE)}, ["film"]),
        ({"film": ("1", "CR", None), "scanned": ("2", "CR", CAPTURE)}, ["film", "scanned"]),  # a study of its own
        ({"one": ("1", "CR", CAPTURE), "two": ("2", "DX", CAPTURE), "shot": ("1", "OT", CAPTURE)}, ["one", "two"]),
        ({"one": ("1", "OT", CAPTURE), "two": ("2", "", CAPTURE)}, ["one", "two"]),  # a set of nothing else
        ({"film": ("1", "MG", None), "dose": ("1", "RTDOSE", None), "photo": ("1", "XC", None)}, ["film"]),
    ],
)
def test_secondary_captures_beside_films_are_passed_over(tmp_path, files, kept):
    for name, (study, modality, kind) in files.items():
        film(tmp_path / name, study, modality, **({"SOPClassUID": kind} if kind else {}))
    gathered = found(XRay(), tmp_path)
    assert [item.name for item in gathered.items] == kept
    assert sum(gathered.skipped.values()) == len(files) - len(kept)
    assert not kept[2:]
    assert gathered.skipped[CAPTURED] == sum(f[2] == CAPTURE for f in files.values()) - sum(files[name][2] == CAPTURE for name in kept)


FRONT, SIDE = {"ViewPosition": "PA"}, {"ViewPosition": "LL"}
EVENT = {"IrradiationEventUID": "1.5"}


@pytest.mark.parametrize(
    ("raw", "shown", "dropped"),
    [
        (FRONT, FRONT, True),
        (FRONT, SIDE, False),
        (FRONT, {}, True),
        (FRONT | {"AcquisitionTime": "101112"}, FRONT | {"AcquisitionTime": "101112.250"}, True),
        (FRONT | {"AcquisitionTime": "101112"}, FRONT | {"AcquisitionTime": "101250"}, False),
        (FRONT | {"ImageLaterality": "L"}, FRONT | {"ImageLaterality": "R"}, False),
        (EVENT | {"AcquisitionTime": "101112"}, EVENT | {"AcquisitionTime": "101114"}, True),
        (EVENT, {"IrradiationEventUID": "1.6"}, False),
        ({"study": "1.2"}, {}, False),
    ],
)
def test_of_one_exposure_the_image_for_presentation_is_taken(tmp_path, raw, shown, dropped):
    film(tmp_path / "raw", PresentationIntentType="FOR PROCESSING", **raw)
    film(tmp_path / "shown", PresentationIntentType="FOR PRESENTATION", **shown)
    gathered = found(XRay(), tmp_path)
    assert [item.name for item in gathered.items] == (["shown"] if dropped else ["raw", "shown"])
    assert gathered.skipped == Counter({BOTH: 1} if dropped else {})


def test_an_image_for_processing_is_known_by_its_class_and_kept_alone(tmp_path):
    film(tmp_path / "raw", SOPClassUID=RAW)
    assert [item.name for item in found(XRay(), tmp_path).items] == ["raw"]
    film(tmp_path / "shown", PresentationIntentType="FOR PRESENTATION")
    assert [item.name for item in found(XRay(), tmp_path).items] == ["shown"]


def test_a_presentation_state_in_the_series_of_a_ct_takes_nothing_from_it(tmp_path):
    tags = {"SeriesInstanceUID": "1.9", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 1], "SliceThickness": 1}
    for z in range(3):
        place = {"ImagePositionPatient": [0, 0, z], "RescaleSlope": 1, "RescaleIntercept": -1024}
        film(tmp_path / f"{z}", modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2", **tags, **place)
    film(tmp_path / "state", modality="CT", SOPClassUID=STATE, SeriesInstanceUID="1.9", **NO_PIXELS)
    gathered = found(CT(), tmp_path)
    assert [item.name for item in gathered.items] == ["0 (+2)"]
    assert (gathered.unusable, gathered.skipped) == ({}, Counter({NOTHING: 1}))
    cut = pydicom.dcmread(tmp_path / "1")
    del cut.PixelData
    cut.save_as(tmp_path / "1")
    assert "some files of the series have no pixel data" in str(found(CT(), tmp_path).unusable)
