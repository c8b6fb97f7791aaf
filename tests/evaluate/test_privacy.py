"""Nothing of what a DICOM header says about a patient is in any file or line that a user gets: not after looking, training or sampling."""

import gzip
import hashlib
import io
import re
import struct
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
from command_line import wandb_records
from hostile_files import SPACING_MM, meta, nifti, nrrd, write_film, write_series
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

DATA = ("data.size=16", "data.fractions=[0.5,0.3,0.2]", "data.max_corrupt=0.9", "data.batch_size=8")
TINY = (
    *("model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "total_images=32", "log_every=16"),
    *("validate_every=16", "callbacks.samples.n=4", "trainer=cpu"),
)
# All that is said of every patient; what is said of one, and the UIDs, come from `person`.
TAGS = {
    "StudyDate": "19970613",
    "SeriesDate": "19970614",
    "AcquisitionDate": "19970615",
    "ContentDate": "19970616",
    "StudyTime": "173941.775533",
    "AcquisitionDateTime": "19970617184253.112233",
    "InstitutionName": "SPITALOWSKI HOSPITAL",
    "InstitutionAddress": "VORDERGASSEL 93",
    "InstitutionalDepartmentName": "RADIOLOGIUM",
    "StationName": "SCANNERIX7",
    "DeviceSerialNumber": "SERIALUS-55012",
    "ReferringPhysicianName": "HAUSARZTIN^GRETELINA",
    "PerformingPhysicianName": "OPERATEURIN^HANNELOREN",
    "OperatorsName": "ASSISTENTIN^UTELINDE",
    "SeriesDescription": "THORAXIUM OF BEATRIXA",
    "StudyDescription": "FOLLOWUPSI FOR BEATRIXA",
    "ProtocolName": "PROTOKOLLUS",
    "ImageComments": "KOMMENTARIUS",
    "PatientComments": "ALLERGICUS",
    "PatientAddress": "HINTERWEGEL 17",
    "PatientTelephoneNumbers": "0815-4711-2358",
}


def person(i: int) -> dict[str, str]:
    return {
        "PatientName": f"QUENDOLYN{i}^ZXAVIERA{i}",
        "PatientID": f"PATIDENT-{i}-70331",
        "OtherPatientIDs": f"OTHERIDENT-{i}-70332",
        "PatientBirthDate": f"1953021{i}",
        "AccessionNumber": f"ACCESSIO-{i}-8842",
        "StudyID": f"STUDIUM-{i}-31",
        "StudyInstanceUID": f"1.2.826.0.1.987654321.1.{i}",
        "SeriesInstanceUID": f"1.2.826.0.1.987654321.2.{i}",
        "FrameOfReferenceUID": f"1.2.826.0.1.987654321.3.{i}",
    }


GOOD, PERSONS = 6, [person(i) for i in range(10)]
MISFILLED = "QUENDOLYN^JO"


def plant(ds: Dataset, i: int) -> None:
    for name, value in {**TAGS, **PERSONS[i]}.items():
        setattr(ds, name, value)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.987654321.4.{i}"
    inner = Dataset()
    inner.PatientID, inner.RequestedProcedureDescription = "INNERIDENT-70333", "REQUESTUM"
    ds.RequestAttributesSequence = Sequence([inner])
    ds.private_block(0x0099, "MAKERSEN", create=True).add_new(1, "LO", "PRIVATUM-70334")
    # what `spoilt` writes over
    ds.SpecificCharacterSet = "ISO_IR 100"
    if i == GOOD + 1:
        ds.RescaleSlope = ds.RescaleIntercept = "7.7777777777"
    if i == GOOD + 2 and "ImagePositionPatient" in ds:
        ds.ImagePositionPatient, ds.InstanceNumber = ["7.7777777777"] * 3, "1111111111"
    if i == GOOD + 3:
        ds.Modality = "ZXAVIERA"


def spoilt(content: bytes, i: int) -> bytes:
    """A file of a person whose files are not sound: cut off, or with the patient where numbers and character sets are expected."""
    if i == GOOD:
        return content[:-100]
    for old, new in ((b"7.7777777777", MISFILLED.encode()), (b"1111111111", b"QUENDOLYN9"), (b"ISO_IR 100", b"QUENDOLYN9")):
        content = content.replace(old, new)
    return content


def write_set(kind: str, root: Path) -> None:
    """Sound scans of the first persons; of each of the others one that makes libraries quote values."""
    random = np.random.default_rng(0)
    root.mkdir()
    name = PERSONS[0]["PatientName"].encode()
    if kind == "ct":
        (root / "text.nii").write_bytes(nifti(descrip=name, aux_file=name, db_name=name[:18]))
        (root / "cut.nii").write_bytes(nifti(descrip=name, aux_file=name)[:-9])
        (root / "text.mha").write_bytes(b"Comment = " + name + b"\n" + meta())
        (root / "text.nrrd").write_bytes(nrrd(space="space: LPS\npatient:=" + name.decode() + "\n"))
        (root / "cut.mhd").write_bytes(meta(b"", data_file=name.decode()))
    else:
        (root / "text.png").write_bytes(png_text(name))
    for i in range(len(PERSONS)):
        if kind == "ct":
            paths = write_series(root / f"{i}", random.integers(-900, 300, (3, 16, 16)), spacing_mm=SPACING_MM)
        else:
            paths = [write_film(root / f"{i}.dcm", random.integers(0, 4000, (16, 16), np.uint16))]
        for path in paths:
            ds = pydicom.dcmread(path)
            plant(ds, i)
            ds.save_as(path)
            if i >= GOOD:
                path.write_bytes(spoilt(path.read_bytes(), i))


def planted() -> list[str]:
    """Every value that was planted, and every word of 7 or more letters or digits in it."""
    values = {value for one in (TAGS, *PERSONS) for value in one.values()} | {"INNERIDENT-70333", "PRIVATUM-70334", "987654321.4."}
    return sorted(values | {word for value in values for word in re.findall(r"[A-Z]{7,}", value) + re.findall(r"[A-Z0-9.]{7,}", value)})


def derived() -> Iterator[str]:
    """Dates as people write them, and the usual hashes of what identifies, 12 hex digits of each: cut short they tell as much."""
    for date in (word for word in planted() if re.fullmatch(r"19\d{6}", word)):
        yield from (f"{date[:4]}{sep}{date[4:6]}{sep}{date[6:]}" for sep in "-./")
    makers = [hashlib.md5, hashlib.sha1, hashlib.sha256, hashlib.sha512, hashlib.blake2s]
    makers += [partial(hashlib.blake2b, digest_size=n) for n in (6, 8, 10, 12, 16, 20, 32, 64)]
    for one in (PERSONS[0], PERSONS[GOOD]):
        study, series = one["StudyInstanceUID"], one["SeriesInstanceUID"]
        for identity in (one["PatientID"], one["PatientName"], study, series, f"{study} {series}"):
            yield from (make(identity.encode()).hexdigest()[:12] for make in makers)


def layers(content: bytes) -> Iterator[bytes]:
    """The bytes, and what is packed in them: gzip, the members of a zip (a checkpoint is one), a PNG's texts, the records of wandb."""
    yield content
    if content[:2] == b"\x1f\x8b":
        yield from layers(gzip.decompress(content))
    elif content[:4] == b"PK\3\4":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from layers(archive.read(name))
    elif content[:4] == b"\x89PNG":
        with Image.open(io.BytesIO(content)) as image:
            image.load()
            yield repr(image.info).encode()
    elif content[:4] == b":W&B":
        yield b"".join(wandb_records(content))


def told(contents: Iterable[bytes], words: list[str]) -> set[str]:
    """Which of the words stand in any of the contents, large or small, in UTF-8, -16 or -32 (which are UTF-8 and zeros)."""
    text = b"\n".join(layer for content in contents for layer in layers(content)).lower()
    text += b"\n" + text.replace(b"\0", b"")
    return {word for word in words if word.lower().encode() in text}


def contents(*folders: Path) -> Iterator[bytes]:
    """Every file below the folders, and its name."""
    for folder in folders:
        for path in folder.rglob("*"):
            yield str(path.relative_to(folder)).encode()
            if path.is_file():
                yield path.read_bytes()


@pytest.fixture
def sealed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that everything is written to: the user's home, temporary files, the run."""
    place = tmp_path / "place"
    for name in ("home", "tmp", "work"):
        (place / name).mkdir(parents=True)
    monkeypatch.chdir(place / "work")
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("TMPDIR", str(place / "tmp"))
    monkeypatch.setenv("MEDGAN_CACHE", str(place / "cache"))
    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.setenv(name, str(place / "wandb-home"))
    return place


@pytest.mark.parametrize(("kind", "formats"), [("ct", "png,nifti,dicom"), ("xray", "png16,dicom")])
def test_no_file_and_no_line_tells_of_a_patient(kind: str, formats: str, tmp_path: Path, sealed: Path, here) -> None:
    write_set(kind, tmp_path / "set")
    assert told(contents(tmp_path / "set"), planted()) == {*planted()}  # what is searched for below is there
    words = [*planted(), *derived()]
    data = [f"data={kind}", f"data.root={tmp_path / 'set'}", *DATA]
    small = [word for word in TINY if not word.startswith("data.cohort")]
    printed = []
    for expected, command in (
        (0, ["inspect", *data, "output=looked"]),
        (1, ["inspect", *data, "output=judged", "data.max_corrupt=0"]),
        (1, ["train", *data, *small, "data.max_corrupt=0", "hydra.run.dir=stopped"]),
        (0, ["train", *data, *small, "hydra.run.dir=run"]),
        (0, ["sample", "checkpoint=run/checkpoints/last.ckpt", "n=2", f"format=[{formats}]", "device=cpu"]),
    ):
        code, said = here(*command)
        assert code == expected, said
        printed.append(said)
    for pattern in ("cache/*/values.bin", "work/run/checkpoints/*.ckpt", "work/run/wandb/*/*.wandb", "work/run/generated/*.json"):
        assert list(sealed.glob(pattern)), f"{pattern}: nothing was written, so nothing is tested"
    assert told((text.encode() for text in printed), words) == set()
    assert told(contents(sealed), words) == set()


def test_descriptions_are_for_the_screen_only(tmp_path: Path, sealed: Path, here) -> None:
    write_set("ct", tmp_path / "set")
    code, said = here("inspect", "data=ct", f"data.root={tmp_path / 'set'}", *DATA, "descriptions=true")
    assert code == 0
    assert said.count(TAGS["SeriesDescription"]) == 1
    assert told([said.replace(TAGS["SeriesDescription"], "").encode()], planted()) == set()
    assert told(contents(sealed), planted()) == set()


def zipped(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data.pkl", content)
    return buffer.getvalue()


def png_text(content: bytes) -> bytes:
    buffer, text = io.BytesIO(), PngInfo()
    text.add_text("Comment", content.decode(), zip=True)
    Image.new("L", (4, 4)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def wandb_run(content: bytes) -> bytes:
    """A record in two pieces."""
    return b":W&B\0\0\0" + b"".join(struct.pack("<IHB", 0, 4, kind) + part for kind, part in ((2, content[:4]), (4, content[4:8])))


@pytest.mark.parametrize(
    "pack",
    [bytes, bytes.lower, gzip.compress, zipped, lambda c: zipped(gzip.compress(c)), png_text, wandb_run]
    + [lambda c, code=code: c.decode().encode(code) for code in ("utf-16", "utf-16-be", "utf-32")],
)
def test_what_is_told_is_found(pack, tmp_path: Path) -> None:
    """The search above finds a word in whatever it is packed; a hash counts as a word."""
    (tmp_path / "run" / "deep").mkdir(parents=True)
    (tmp_path / "run" / "deep" / "innocent.txt").write_text("nothing")
    assert told(contents(tmp_path / "run"), [*planted(), *derived()]) == set()
    (tmp_path / "run" / "deep" / "file").write_bytes(b"\xff\x00" * (pack is bytes) + pack(b"KOMMENTARIUS"[:8]))
    assert told(contents(tmp_path / "run"), [*planted(), "KOMMENTA"]) == {"KOMMENTA"}


def test_hashes_and_file_names_are_found(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(hashlib.sha256(PERSONS[0]["PatientID"].encode()).hexdigest())
    (tmp_path / "1953-02-11.png").touch()
    (tmp_path / PERSONS[2]["AccessionNumber"]).mkdir()
    found = told(contents(tmp_path), [*planted(), *derived()])
    assert {hashlib.sha256(PERSONS[0]["PatientID"].encode()).hexdigest()[:12], "1953-02-11", PERSONS[2]["AccessionNumber"]} <= found
