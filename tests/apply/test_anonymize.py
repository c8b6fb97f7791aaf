"""apply anonymize=true: nothing that a DICOM header says of a patient is in its outputs, and series of a study stay together."""

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pydicom
import pytest
from apply.shifting import a_volume, oblique, shifted
from data.dicom_files import write_film, write_series
from data.export import dicom_check as check
from data.readers.test_volumes_told_apart import write_frames
from planted_patients import PERSONS, contents, derived, plant, planted, told
from pydicom.datadict import dictionary_VR

from medgan_pl.data.export import Facts, Provenance
from medgan_pl.data.export.alike import alike
from medgan_pl.data.export.anonymous import Alias
from medgan_pl.data.export.derived import KEPT
from medgan_pl.data.export.iods import TYPE_1, TYPE_2
from medgan_pl.data.export.origin import digest
from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import MRI, XRay
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.gather import gather_volumes

# All that may stand in an output and takes a text, besides what a reader needs.
NEEDED = ("Modality", "PhotometricInterpretation", "RescaleType", "ImageType", "SpecificCharacterSet", "BurnedInAnnotation")
TEXTS = {name for name in " ".join((KEPT, *TYPE_1.values(), *TYPE_2.values())).split() if dictionary_VR(name) in ("CS", "LO", "SH", "PN")}
TEXTS -= {*NEEDED, *PERSONS[0]}
WORDS, VOLUME = [*planted(), *derived()], a_volume(3, 18, 16)
SHARED = ("StudyInstanceUID", "PatientID", "FrameOfReferenceUID")


def fill(path: Path, i: int, **tags: str) -> None:
    """Fill a file with patient i: everywhere where a text fits, in a sequence, and in a private tag."""
    one = pydicom.dcmread(path)
    own = {name: one[name].value for name in ("SOPInstanceUID", "SeriesInstanceUID") if name in one}
    plant(one, i)
    for name in TEXTS:
        setattr(one, name, "OPERATEURIN")
    for name, value in {**own, "FrameOfReferenceUID": PERSONS[i]["FrameOfReferenceUID"], **tags}.items():
        setattr(one, name, value)
    one.save_as(path)


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """Two series of patient 0, one of patient 1 with text in a slice, a second of it, and a NIfTI, in folders of their names."""
    for k, (i, name) in enumerate([(0, "a"), (0, "b"), (1, "burned"), (1, "c")]):
        folder = tmp_path / "in" / PERSONS[i]["PatientName"] / name
        for n, path in enumerate(write_series(folder, VOLUME + k, series_uid=f"1.2.826.0.1.987654321.4.{k}", KVP="120")):
            burned = "YES" if name == "burned" and n == 1 else "NO"
            fill(path, i, PatientPosition="HFS", BodyPartExamined="CHEST" if k else "OPERATEURIN", BurnedInAnnotation=burned)
    oblique(tmp_path / "in" / f"{PERSONS[1]['PatientID']}.nii.gz", a_volume(18, 3, 16))
    return tmp_path / "in"


def by_values(folder: str) -> dict[str, list[pydicom.FileDataset]]:
    """The slices of each series in a folder, by the name of the one they were made of."""
    series = [[pydicom.dcmread(path) for path in sorted(each.iterdir())] for each in Path(folder).iterdir() if each.is_dir()]
    made = {name: shifted(VOLUME + k) for k, name in enumerate(("a", "b", "burned", "c"))}
    return {name: each for each in series for name in made if np.abs(each[0].pixel_array - made[name][0]).max() <= 0.51}


def faults(one: pydicom.Dataset) -> list[str]:
    """The faults of an anonymous file, as a DICOM and by what it says of a person, a time or a place."""
    personal = [fault for fault in check.nobody(one) if "PatientName" not in fault]
    return [*check.presence(one), *check.values(one), *check.sound(one), *personal]


def test_nothing_of_a_patient_is_in_the_outputs(patients, trained, applied) -> None:
    common = (f"checkpoint={trained()}", f"input={patients}", "device=cpu", "anonymize=true")
    code, said = applied(*common, "output=out")
    assert code == 1
    assert ".dcm: anonymize=true cannot remove text from pixels, and BurnedInAnnotation is YES" in said
    assert "4 of 5 are in" in said
    assert said.count(f"{PERSONS[0]['PatientName']}/") == 2  # the list of the user, on the screen alone
    assert told(contents(patients), WORDS) >= {"QUENDOLYN0", "ACCESSIO-1-8842", "19970613", "OPERATEURIN"}
    assert told(contents(Path("out")), WORDS) == set()
    made = by_values("out")
    assert made.keys() == {"a", "b", "c"}
    for series in made.values():
        for k, one in enumerate(series):
            assert not faults(one)
            assert (one.PatientIdentityRemoved, one.DeidentificationMethodCodeSequence[0].CodeValue) == ("YES", "113100")
            assert (one.KVP, one.PatientPosition, one.ImagePositionPatient[2]) == (120, "HFS", 40 + 2.5 * k)
        assert all(len({one[name].value for one in series}) == 1 for name in (*SHARED, "SeriesInstanceUID"))
        assert len({one.SOPInstanceUID for one in series}) == 3
    a, b, c = (made[name][0] for name in "abc")
    assert all(a[name].value == b[name].value != c[name].value for name in SHARED)
    assert a.SeriesInstanceUID != b.SeriesInstanceUID
    assert ("BodyPartExamined" in a, b.BodyPartExamined) == (False, "CHEST")
    sidecars = [json.loads(path.read_text()) for path in Path("out").glob("*.json")]
    slices = (patients / PERSONS[0]["PatientName"] / "a").iterdir()
    hashes = [digest([order]) for order in permutations(slices)]  # whoever has all else of the files finds the name by trying
    assert all(sidecar["anonymized"] and "input_sha256" not in sidecar for sidecar in sidecars)
    assert told(contents(Path("out")), hashes) == set()
    assert "4 of them from before" in applied(*common, "output=out")[1]


@pytest.mark.parametrize("kind", ["film", "enhanced"])
def test_films_and_frames_are_anonymous(tmp_path, kind: str) -> None:
    path = tmp_path / "e.dcm"
    if kind == "film":
        write_film(path, np.arange(272, dtype=np.uint16).reshape(17, 16), ImagerPixelSpacing=[0.2, 0.2])
    else:
        write_frames(path, lambda k, i: {"FrameContentSequence": {"TemporalPositionIndex": k}})
    fill(path, 0)
    items = [Item("e.dcm", (path,))]
    found = XRay().gather(items) if kind == "film" else gather_volumes(items, "MR", Choice(volume="all"))
    item = found.items[0]
    scan = (XRay() if kind == "film" else MRI()).read(item)
    facts, origin = Facts(0, "signal", 0, 4095), Provenance("unet", "ab" * 32, 0, 0, "", {})
    for name, alias in (("plain", None), ("anonymous", Alias()), ("other", Alias())):
        (tmp_path / name).mkdir()
        writer = alike(item, scan, (1,) * scan.pixels.ndim, {}, alias=alias)
        writer.image(tmp_path / name / "1", scan.pixels, facts, origin, "CR" if kind == "film" else "MR")
    assert told(contents(tmp_path / "plain"), WORDS)
    assert told(contents(tmp_path / "anonymous"), WORDS) == set()
    for path in (tmp_path / "anonymous").rglob("*.dcm"):
        one = pydicom.dcmread(path)
        assert not faults(one)
        assert kind == "enhanced" or one.ImagerPixelSpacing == [0.2, 0.2]
    one, other = (pydicom.dcmread(min((tmp_path / name).rglob("*.dcm"))) for name in ("anonymous", "other"))
    assert all(one[name].value != other[name].value for name in (*SHARED, "SeriesInstanceUID", "SOPInstanceUID"))
