"""DICOM without preamble, without file meta, or with both cut off roughly: read by value, as the same file with its head."""

import io

import numpy as np
import pydicom
import pytest
from dicom_files import write_film, write_series
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgan_pl.data.files.headless import headless_start
from medgan_pl.data.files.records import is_dicom
from medgan_pl.data.readers.dicom import read_film
from medgan_pl.data.readers.header import read_header
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.readers.series import read_series

FILM = np.arange(12 * 9, dtype=np.uint16).reshape(12, 9) * 500 + 7
HU = np.random.default_rng(0).integers(-1000, 2000, (4, 5, 6)).astype(np.float32)


def behead(path, syntax=ExplicitVRLittleEndian, keep_meta=False, stray=b""):
    """Write the file again without preamble, and without file meta unless `keep_meta`."""
    ds = pydicom.dcmread(path)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
    elif syntax == ImplicitVRLittleEndian:
        ds["PixelData"].VR = "OW"
    meta, ds.file_meta = ds.file_meta, None
    buffer = io.BytesIO()
    implicit, little = syntax.is_implicit_VR, syntax.is_little_endian
    plain = pydicom.Dataset(ds)
    plain.save_as(buffer, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    head = io.BytesIO()
    if keep_meta:
        meta.TransferSyntaxUID = syntax
        pydicom.filewriter.write_file_meta_info(head, meta)
    path.write_bytes(stray + head.getvalue() + buffer.getvalue())
    return path


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("keep_meta", [False, True])
def test_a_film_without_its_head(tmp_path, syntax, keep_meta):
    path = behead(write_film(tmp_path / "IM0001", FILM, RescaleSlope=2, RescaleIntercept=-5), syntax, keep_meta)
    assert path.read_bytes()[128:132] != b"DICM"
    assert is_dicom(path)
    assert np.array_equal(read_film(path).pixels, FILM.astype(np.float32) * 2 - 5)
    assert read_header(path).has_pixels


def test_bytes_left_over_in_front_are_passed(tmp_path):
    path = behead(write_film(tmp_path / "a.dcm", FILM), stray=b" ")
    assert np.array_equal(read_film(path).pixels, FILM)


def test_a_series_without_heads_is_the_same_volume(tmp_path):
    whole = read_series(write_series(tmp_path / "a", HU))
    cut = read_series([behead(path) for path in write_series(tmp_path / "b", HU)])
    assert np.array_equal(whole.pixels, cut.pixels)
    assert np.array_equal(whole.affine, cut.affine)
    assert np.array_equal(cut.pixels, HU)


def test_a_truncated_one_is_refused(tmp_path):
    path = behead(write_film(tmp_path / "a.dcm", FILM))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ScanError, match="pixel data must be 216 bytes"):
        read_film(path)


@pytest.mark.parametrize("first", [b"", b"\x89PNG\r\n\x1a\n" + bytes(200), b"some text, then more text" * 9, bytes(300), b"\x08\x00"])
def test_other_files_are_none(tmp_path, first):
    assert headless_start(first) is None
    (tmp_path / "x").write_bytes(first)
    assert not is_dicom(tmp_path / "x")
