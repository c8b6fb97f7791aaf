"""The check fails on a copy with one thing wrong, and on any hostile file, soon and without quoting it."""

import zlib

import pydicom
import pytest
from dicom_check import check_dicom
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian
from test_export_dicom import CR, CT, FILM, HU, MR, ORIGIN, SIGNAL, STRAIGHT

from medgan_pl.data.export import write_dicom


def private(one):
    one.private_block(0x0099, "SOMEBODY", create=True).add_new(1, "LO", "SECRET-77")


def nested(one):
    one.RequestAttributesSequence = [pydicom.Dataset()]
    one.RequestAttributesSequence[0].ReferringPhysicianName = "SECRET-77"


def put(**values):
    def change(one):
        for name, value in values.items():
            setattr(one, name, value)

    return change


def lose(name):
    return lambda one: delattr(one, name)


def raw(name, vr, content):
    """Puts bytes there that pydicom would not write."""
    return lambda one: one.__setitem__(name, pydicom.DataElement(pydicom.datadict.tag_for_keyword(name), vr, content, validation_mode=0))


BROKEN = [
    ("CT", lose("RescaleSlope"), "RescaleSlope must be present"),
    ("CT", put(StudyInstanceUID=""), "StudyInstanceUID must be present and not empty"),
    ("CT", lose("ImagePositionPatient"), "ImagePositionPatient must be present"),
    ("CT", lose("KVP"), "KVP must be present, empty if unknown"),
    ("MR", lose("ScanningSequence"), "ScanningSequence must be present"),
    ("MR", lose("EchoTime"), "EchoTime must be present, empty"),
    ("CR", lose("ViewPosition"), "ViewPosition must be present, empty"),
    ("CT", lose("PixelData"), "PixelData must be present"),
    ("CT", put(PixelData=b"\0" * 10), "PixelData must hold Rows × Columns × 2 = 126 bytes and end the file, got 10 claimed"),
    ("CT", put(Rows=8), "= 144 bytes and end the file, got 126"),
    ("CT", put(BitsStored=10), "BitsStored 12 to 16"),
    ("CT", put(HighBit=11), "HighBit one less"),
    ("CT", put(BitsAllocated=8), "BitsAllocated must be 16"),
    ("CT", put(SamplesPerPixel=3), "SamplesPerPixel 1"),
    ("CT", put(PhotometricInterpretation="MONOCHROME1"), "must be MONOCHROME2"),
    ("CT", put(RescaleSlope=0), "RescaleSlope must be finite and not 0"),
    ("CT", put(ImageOrientationPatient=[1, 0, 0, 0.1, 1, 0]), "perpendicular unit vectors"),
    ("CT", put(ImageOrientationPatient=[1, 0, 0]), "ImageOrientationPatient must"),
    ("CT", put(PixelSpacing=[0, 1]), "PixelSpacing must be positive"),
    ("CT", put(ImageType=["DERIVED", "SECONDARY", "AXIAL"]), "end with SYNTHETIC"),
    ("CT", put(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "SYNTHETIC"]), "must be DERIVED"),
    ("CT", put(ImageType=["DERIVED", "SECONDARY", "SYNTHETIC"]), "third value must be AXIAL"),
    ("CT", put(Modality="MR"), "Modality must be CT"),
    ("CT", lose("SyntheticData"), "SyntheticData must be YES"),
    ("CT", put(PatientName="SECRET-77"), "PatientName must begin with SYNTHETIC"),
    ("CT", put(PatientID="SECRET-77"), "PatientID must begin with SYNTHETIC"),
    ("CT", lose("SeriesDescription"), "SeriesDescription must begin with SYNTHETIC"),
    ("CT", put(PatientBirthDate="19700101"), "PatientBirthDate must be empty"),
    ("CT", put(InstitutionName="SECRET-77"), "InstitutionName must be empty"),
    ("CT", nested, "ReferringPhysicianName must be empty"),
    ("CT", private, "no attribute may be private"),
    ("CT", raw("StudyInstanceUID", "UI", "1.02.SECRET-77"), "StudyInstanceUID must hold a valid UI"),
    ("CT", raw("StudyInstanceUID", "UI", "1." + "2" * 70), "StudyInstanceUID must hold a valid UI"),
    ("CT", raw("Laterality", "CS", "secret-77"), "Laterality must hold a valid CS"),
    ("CT", raw("StudyID", "SH", "S" * 17), "StudyID must hold a valid SH"),
    ("CT", raw("StudyID", "LO", "S"), "StudyID must have VR SH"),
    ("CT", raw("KVP", "SH", "SECRET-77"), "KVP must have VR DS"),
    ("CT", put(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "the SOP class must be"),
    ("CT", lambda one: one.file_meta.__setattr__("MediaStorageSOPInstanceUID", "1.2.3"), "MediaStorageSOPInstanceUID in the meta header"),
]


@pytest.mark.parametrize(("modality", "change", "message"), BROKEN, ids=[f"{m}-{message}" for m, _, message in BROKEN])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_the_check_finds_one_thing_wrong_and_quotes_nothing(tmp_path, modality, change, message):
    values, facts, affine = {"CT": (HU[0], CT, STRAIGHT), "MR": (SIGNAL[0], MR, STRAIGHT), "CR": (FILM, CR, None)}[modality]
    write_dicom(tmp_path / "x.dcm", values, facts, ORIGIN, modality=modality, affine=affine)
    one = pydicom.dcmread(tmp_path / "x.dcm")
    change(one)
    pydicom.dcmwrite(tmp_path / "broken.dcm", one)
    found = check_dicom(tmp_path / "broken.dcm")
    assert any(message in line for line in found), found
    assert "SECRET" not in "".join(found).upper()


def deflated():
    """1 GiB of zeros behind a deflated transfer syntax, in 5 MB; never to be inflated."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = meta.MediaStorageSOPInstanceUID = "1.2.3"
    buffer = DicomBytesIO()
    buffer.write(b"\0" * 128 + b"DICM")
    write_file_meta_info(buffer, meta)
    packer = zlib.compressobj(1, wbits=-15)
    block = packer.compress(b"\0" * 2**22) + packer.flush(zlib.Z_FULL_FLUSH)
    return buffer.getvalue() + block * 256 + packer.flush()


PIXELS = b"\xe0\x7f\x10\x00OW\0\0"
LONG = b"\xe0\x7f\1\0OV\0\0\0\0\x20\0" + b"\0" * 2**21  # an offset table of 2 MiB
DEEPER = b"\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff\x40\0\x75\2SQ\0\0"


HOSTILE = {
    "empty": (lambda ours: b"", "not a DICOM file"),
    "text": (lambda ours: b"Dear colleague,\n" * 20, "not a DICOM file"),
    "cut after its mark": (lambda ours: ours[:132], "transfer syntax must be"),
    "cut in its header": (lambda ours: ours[:300], "SOP class must be"),
    "cut in its pixels": (lambda ours: ours[:-20], "126 claimed and 106 there"),
    "more behind its pixels": (lambda ours: ours + b"SECRET-77", "126 claimed and 135 there"),
    "a length of 4 GiB": (lambda ours: ours.replace(PIXELS + b"\x7e\0\0\0", PIXELS + b"\xfe\xff\xff\xff"), "4294967294 claimed and 126"),
    "65535 rows": (lambda ours: ours.replace(b"\x28\0\x10\0US\2\0\7\0", b"\x28\0\x10\0US\2\0\xff\xff"), "= 1179630 bytes"),
    "a header of 2 MiB": (lambda ours: ours.replace(PIXELS, LONG + PIXELS), "within the first MiB"),
    "a number that is none": (lambda ours: ours.replace(b"2.5 ", b"two "), "SliceThickness must hold a valid DS"),
    "deflated": (lambda ours: deflated(), "transfer syntax must be"),
    "40,000 sequences, each in the last": (
        lambda ours: ours[: ours.index(PIXELS)] + b"\x40\0\x75\2SQ\0\0" + DEEPER * 40000,
        "RecursionError",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_the_check_finds_fault_with_any_file(tmp_path, name):
    write_dicom(tmp_path / "x.dcm", HU[0], CT, ORIGIN, modality="CT", affine=STRAIGHT)
    make, message = HOSTILE[name]
    ours = (tmp_path / "x.dcm").read_bytes()
    assert make(ours) != ours
    (tmp_path / "hostile.dcm").write_bytes(make(ours))
    found = check_dicom(tmp_path / "hostile.dcm")
    assert any(message in line for line in found), found
    assert "SECRET" not in "".join(found)


def test_a_file_that_is_not_there_is_no_fault_of_its_content(tmp_path):
    with pytest.raises(FileNotFoundError):
        check_dicom(tmp_path / "x.dcm")
