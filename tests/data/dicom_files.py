"""Tiny DICOM files written on the fly, for every test that wants some."""

import io
import zlib
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, RLELossless, generate_uid

CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4", "PT": "1.2.840.10008.5.1.4.1.1.128"}
AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)


def dataset(stored, patient_id, modality):
    """stored (H, W) uint16, int16 or uint8 -> a DICOM in memory, monochrome, uncompressed."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = CLASSES.get(modality, "1.2.840.10008.5.1.4.1.1.1.1")
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.PatientID, ds.PatientName, ds.Modality = patient_id, "Doe^Jane", modality
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.Rows, ds.Columns = stored.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * stored.dtype.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(stored.dtype.kind == "i")
    ds.PixelData = stored.tobytes()
    return ds


def compress(ds, stored, transfer_syntax):
    """RLE by pydicom, JPEG 2000 by Pillow; any other syntax gets bytes that nobody reads."""
    if transfer_syntax == RLELossless:
        ds.compress(RLELossless, stored)
        return
    if transfer_syntax == JPEG2000Lossless:
        buffer = io.BytesIO()
        Image.fromarray(stored).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    else:
        buffer = io.BytesIO(b"\xff\xd8\xff\xd9")
    ds.file_meta.TransferSyntaxUID = transfer_syntax
    ds.PixelData = encapsulate([buffer.getvalue()])
    ds["PixelData"].VR = "OB"


def write_film(path: Path, stored, patient_id="SECRET-ID-77", transfer_syntax=None, **tags) -> Path:
    """One frame; `tags` are set as they are, by keyword (None deletes)."""
    ds = dataset(stored, patient_id, "DX")
    if transfer_syntax:
        compress(ds, stored, transfer_syntax)
    apply(ds, tags)
    ds.save_as(path)
    return path


def apply(ds, tags):
    for name, value in tags.items():
        if value is not None:
            setattr(ds, name, value)
        elif name in ds:
            delattr(ds, name)


def write_series(
    folder: Path,
    hu,
    *,
    spacing_mm=(2.5, 0.8, 0.5),
    origin=(-100.0, -120.0, 40.0),
    orientation=AXIAL,
    patient_id="SECRET-ID-77",
    series_uid="1.2.3.4",
    study_uid="1.2.3",
    modality="CT",
    slope=1.0,
    intercept=-1024.0,
    signed=True,
    transfer_syntax=None,
    prefix="",
    seed=0,
    edit=None,
    **tags,
) -> list[Path]:
    """hu (D, H, W): slices along the normal, rows, columns -> D files named in shuffled order, returned by position.

    slope, intercept: one for all or one a slice; None: no rescale in the header. spacing_mm (slices, rows, columns); origin LPS mm of the
    first pixel. tags: set in every file, by keyword (None deletes); edit(i, dataset) changes slice i last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    across, down = np.array(orientation, float).reshape(2, 3)
    normal = np.cross(across, down)
    names = np.random.default_rng(seed).permutation(len(hu))
    paths = []
    for i, image in enumerate(hu):
        slope_, intercept_ = (np.broadcast_to(1.0 if n is None else n, len(hu))[i] for n in (slope, intercept))
        if intercept is None:
            intercept_ = 0.0
        stored = np.rint((np.asarray(image, float) - intercept_) / slope_).astype(np.int16 if signed else np.uint16)
        ds = dataset(stored, patient_id, modality)
        ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.InstanceNumber = study_uid, series_uid, i + 1
        ds.ImagePositionPatient = [round(float(n), 6) for n in np.array(origin) + i * spacing_mm[0] * normal]
        ds.ImageOrientationPatient = list(orientation)
        ds.PixelSpacing, ds.SliceThickness = [spacing_mm[1], spacing_mm[2]], spacing_mm[0]
        if slope is not None:
            ds.RescaleSlope, ds.RescaleIntercept = f"{slope_:g}", f"{intercept_:g}"
        if transfer_syntax:
            compress(ds, stored, transfer_syntax)
        apply(ds, tags)
        if edit:
            edit(i, ds)
        paths.append(folder / f"{names[i]:03d}{prefix}.dcm")
        ds.save_as(paths[-1])
    return paths


def deflated(n):
    """A DICOM that says it is deflated, with `n` zeros behind its meta header."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = "1.2.840.10008.1.2.1.99", CLASSES["CT"]
    meta.MediaStorageSOPInstanceUID = "1.2"
    buffer = io.BytesIO()
    write_file_meta_info(buffer, meta)
    squeeze = zlib.compressobj(9, wbits=-15)
    return b"\0" * 128 + b"DICM" + buffer.getvalue() + squeeze.compress(b"\0" * n) + squeeze.flush()
