"""Nothing of what a DICOM header says about a patient is in any file or line that a user gets: not after looking, training or sampling."""

import gzip
import hashlib
import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
from command_line import wandb_records
from hostile_files import SPACING_MM, write_film, write_series
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

TINY = (
    *("data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "total_images=32", "log_every=16"),
    *("validate_every=16", "data.batch_size=8", "callbacks.samples.n=4", "trainer=cpu", "data.max_corrupt=0.9", "hydra.run.dir=run"),
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


PERSONS = [person(i) for i in range(9)]


def plant(ds: Dataset, i: int) -> None:
    for name, value in {**TAGS, **PERSONS[i]}.items():
        setattr(ds, name, value)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.987654321.4.{i}"
    inner = Dataset()
    inner.PatientID, inner.RequestedProcedureDescription = "INNERIDENT-70333", "REQUESTUM"
    ds.RequestAttributesSequence = Sequence([inner])
    ds.private_block(0x0099, "MAKERSEN", create=True).add_new(1, "LO", "PRIVATUM-70334")


def write_set(kind: str, root: Path) -> None:
    """Sound scans of all persons but the last two, and what is wrong in ways that make libraries quote values."""
    random = np.random.default_rng(0)
    for i in range(len(PERSONS)):
        if kind == "ct":
            hu = random.integers(-900, 300, (3, 16, 16))
            write_series(root / f"{i}", hu, spacing_mm=SPACING_MM, edit=lambda _, ds, i=i: plant(ds, i))
        else:
            path = write_film(root / f"{i}.dcm", random.integers(0, 4000, (16, 16), np.uint16))
            ds = pydicom.dcmread(path)
            plant(ds, i)
            ds.save_as(path)
    for i, spoil in ((7, truncate), (8, misfill)):
        for path in sorted(root.glob(f"{i}/*.dcm" if kind == "ct" else f"{i}.dcm")):
            spoil(path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def misfill(path: Path) -> None:
    """Puts the patient where numbers, dates and names of character sets are expected."""
    ds = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for name in ("PatientBirthDate", "StudyDate", "StudyTime", "SpecificCharacterSet"):
            setattr(ds, name, "MISFILLED QUENDOLYN")
        for tag, vr in ((0x00281053, "DS"), (0x00281052, "DS"), (0x00200013, "IS"), (0x00280030, "DS"), (0x00200032, "DS"), (0x00280008, "IS")):
            ds.add_new(tag, "LO", "MISFILLED QUENDOLYN")
        ds.save_as(path)
