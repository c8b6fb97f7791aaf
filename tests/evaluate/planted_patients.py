"""Data sets whose headers are full of patients, and the search for what they say in whatever a program wrote."""

import gzip
import hashlib
import io
import re
import zipfile
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
from command_line import wandb_records
from hostile_files import SPACING_MM, meta, nifti, nrrd, write_film, write_series
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

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


def png_text(content: bytes) -> bytes:
    buffer, text = io.BytesIO(), PngInfo()
    text.add_text("Comment", content.decode(), zip=True)
    Image.new("L", (4, 4)).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


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
