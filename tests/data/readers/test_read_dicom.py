"""DICOM films: exactly what is stored, or a refusal that names no patient; compressions."""

import io
import struct
from unittest.mock import Mock, patch

import numpy as np
import pydicom
import pytest
from dicom_files import deflated, write_film, write_series
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless, JPEGExtended12Bit, JPEGLosslessSV1, RLELossless

from medgan_pl.data.readers.dicom import read_film
from medgan_pl.data.readers.scan import NoDecoder, ScanError
from medgan_pl.data.readers.series import read_series

RAMP16 = (np.arange(12 * 10, dtype=np.uint16) * 517 + 3).reshape(12, 10)
SMALL = np.arange(120, dtype=np.int16).reshape(12, 10)
HU = np.random.default_rng(0).integers(-1000, 2000, (6, 7, 8)).astype(np.float32)


def test_film_rescale_and_monochrome1(tmp_path):
    stored = RAMP16.astype(np.int16)
    two = read_film(write_film(tmp_path / "2.dcm", stored, RescaleSlope=2, RescaleIntercept=-1024, PixelSpacing=[0.2, 0.1]))
    assert np.array_equal(two.pixels, stored.astype(np.float32) * 2 - 1024)
    assert two.pixels.dtype == np.float32
    assert (two.bits, two.spacing_mm, two.affine, two.padding, two.synthetic) == (16, (0.2, 0.1), None, None, False)
    one = read_film(write_film(tmp_path / "1.dcm", stored, PhotometricInterpretation="MONOCHROME1", RescaleSlope=2, RescaleIntercept=-1024))
    assert np.array_equal(one.pixels, two.pixels.max() + two.pixels.min() - two.pixels)
    assert one.spacing_mm is None


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("padding", [{"PixelPaddingValue": -2000}, {"PixelPaddingValue": -2000, "PixelPaddingRangeLimit": -1990}])
def test_film_padding_becomes_the_darkest_value(tmp_path, photometric, padding):
    stored = np.arange(100, 220, dtype=np.int16).reshape(12, 10)
    stored[:, 0] = padding.get("PixelPaddingRangeLimit", -2000)
    path = write_film(tmp_path / "p.dcm", stored, PhotometricInterpretation=photometric, RescaleSlope=1, RescaleIntercept=-1024, **padding)
    film = read_film(path)
    inside = stored[:, 1:].astype(np.float32) - 1024
    expected = inside if photometric == "MONOCHROME2" else inside.max() + inside.min() - inside
    assert np.array_equal(film.pixels[:, 1:], expected)
    assert (film.pixels[:, 0] == expected.min()).all()
    assert np.array_equal(film.padding, stored < 0)


def test_film_spacing_of_the_detector_synthetic_and_grey_as_rgb(tmp_path):
    film = read_film(write_film(tmp_path / "a.dcm", RAMP16, ImagerPixelSpacing=[0.14, 0.15], ImageType=["DERIVED", "SYNTHETIC"]))
    assert film.spacing_mm == (0.14, 0.15)
    assert film.synthetic
    assert read_film(write_film(tmp_path / "b.dcm", RAMP16, SeriesDescription="SYNTHETIC chest")).synthetic
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    rgb = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    path = write_film(tmp_path / "c.dcm", grey, PixelData=np.repeat(grey[..., None], 3, 2).tobytes(), **rgb)
    assert np.array_equal(read_film(path).pixels, grey)


def lut_item(table, first, bits):
    item = Dataset()
    item.LUTDescriptor = [len(table), first, bits]
    item.add_new("LUTData", "US", [int(n) for n in table])
    return item


def test_film_modality_lut_is_that_of_pydicom(tmp_path):
    table = np.random.default_rng(0).integers(0, 65536, 100)
    path = write_film(tmp_path / "l.dcm", SMALL.astype(np.uint16), ModalityLUTSequence=Sequence([lut_item(table, 10, 16)]))
    header = pydicom.dcmread(path)
    assert np.array_equal(read_film(path).pixels, apply_modality_lut(header.pixel_array, header))


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
@pytest.mark.parametrize("signed", [True, False])
def test_film_as_displayed_by_its_window(tmp_path, function, signed):
    stored = (SMALL * 30).astype(np.int16 if signed else np.uint16)
    window = {"WindowCenter": [900, 40], "WindowWidth": [1500, 400], "VOILUTFunction": function}
    layout = {"BitsStored": 12, "HighBit": 11}
    stored = stored // 2
    path = write_film(tmp_path / "v.dcm", stored, **window, **layout)
    film, header = read_film(path, voi=True), pydicom.dcmread(path)
    expected = apply_voi_lut(header.pixel_array, header) + (2048 if signed else 0)
    assert np.allclose(film.pixels, expected, atol=1e-3)
    assert film.pixels.min() >= 0
    assert film.pixels.max() <= 4095
    path = write_film(tmp_path / "v1.dcm", stored, PhotometricInterpretation="MONOCHROME1", **window, **layout)
    assert np.allclose(read_film(path, voi=True).pixels, 4095 - expected, atol=1e-3)


def test_film_as_displayed_by_its_lut(tmp_path):
    """1024 entries of 8 bits: pydicom's own indices wrap around at 256."""
    table = np.linspace(0, 255, 1024).astype(int)
    stored = (SMALL * 15).astype(np.uint16)
    path = write_film(
        tmp_path / "t.dcm",
        stored,
        VOILUTSequence=Sequence([lut_item(table, 200, 8)]),
        WindowCenter=1,
        WindowWidth=2,
        BitsStored=12,
        HighBit=11,
    )
    expected = table[np.clip(stored.astype(int) - 200, 0, 1023)] / 255 * 4095
    assert np.allclose(read_film(path, voi=True).pixels, expected, atol=1e-3)


def write_elements(path, *elements):
    """A DICOM of raw explicit little-endian elements (group, element, vr, declared length, bytes)."""
    write_film(path, SMALL)
    content = path.read_bytes()
    start = content.index(b"\x08\x00\x08\x00CS")
    raw = b"".join(struct.pack("<HH2sHL", group, element, vr, 0, length) + data for group, element, vr, length, data in elements)
    path.write_bytes(content[:start] + raw)
    return path


def cut(path, content):
    path.write_bytes(content)
    return path


def swap(path, old, new):
    """What pydicom would not write."""
    content = path.read_bytes()
    assert content.count(old) == 1
    return cut(path, content.replace(old, new))


def whole(tmp_path):
    return write_film(tmp_path / "whole.dcm", SMALL).read_bytes()


HUGE = 0xFFFFFFF0
ITEM = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
J2K = {"transfer_syntax": JPEG2000Lossless}
RGB = {
    "SamplesPerPixel": 3,
    "PhotometricInterpretation": "RGB",
    "PlanarConfiguration": 0,
    "PixelData": np.arange(360, dtype=np.uint16).tobytes(),
}


def j2k(image):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG2000", irreversible=False, no_jp2=True)
    return buffer.getvalue()


BAD_FILMS = [
    ("colour", lambda p, f: write_film(f, RAMP16, **RGB), "1 channel, got 3 that differ"),
    ("palette", lambda p, f: write_film(f, RAMP16, PhotometricInterpretation="PALETTE COLOR"), "must be MONOCHROME1"),
    ("frames", lambda p, f: write_film(f, np.stack([RAMP16, RAMP16]), NumberOfFrames=2), "one frame, got 2"),
    ("more frames than said", lambda p, f: write_film(f, np.stack([RAMP16, RAMP16])), "240 bytes as in the header, got 480"),
    ("hidden frames", lambda p, f: write_film(f, SMALL.astype(np.uint16), **J2K, PixelData=encapsulate([j2k(RAMP16)] * 2)), "got several"),
    ("other size", lambda p, f: write_film(f, RAMP16, **J2K, PixelData=encapsulate([j2k(RAMP16.T.copy())])), "12 × 10 as .* got 10 × 12"),
    ("cut", lambda p, f: cut(f, whole(p)[:-50]), "240 bytes as in the header, got 190"),
    ("cut in the header", lambda p, f: cut(f, whole(p)[:400]), "every side"),
    ("cut in the meta", lambda p, f: cut(f, whole(p)[:200]), "."),
    ("cut RLE", lambda p, f: cut(f, write_film(f, RAMP16, transfer_syntax=RLELossless).read_bytes()[:-40]), "corrupt|pixel data"),
    ("cut J2K", lambda p, f: write_film(f, RAMP16, **J2K, PixelData=encapsulate([j2k(RAMP16)[:120]])), "corrupt|pixel data"),
    ("no pixels", lambda p, f: write_film(f, RAMP16, PixelData=None), "pixel data, got none"),
    ("empty pixels", lambda p, f: write_film(f, RAMP16, PixelData=b""), "pixel data, got none"),
    ("text", lambda p, f: cut(f, b"this is not a film"), "not a DICOM"),
    ("empty", lambda p, f: cut(f, b""), "not a DICOM"),
    ("zeros", lambda p, f: cut(f, b"\0" * 4096), "not a DICOM"),
    ("claims", lambda p, f: write_film(f, RAMP16, Rows=65535, Columns=65535), "its header claims 65535 × 65535"),
    ("no rows", lambda p, f: write_film(f, RAMP16, Rows=0), "every side must be 1 or more"),
    ("rows absent", lambda p, f: write_film(f, RAMP16, Rows=None), "every side must be 1 or more"),
    ("overlay bits", lambda p, f: write_film(f, RAMP16, BitsStored=12, HighBit=11), r"0 … 4095 \(12 bits, unsigned\), got 3 … 61526"),
    ("high bit", lambda p, f: write_film(f, SMALL, BitsStored=12, HighBit=15), "high bit 15"),
    ("no bits", lambda p, f: write_film(f, SMALL, BitsStored=None), "0 stored"),
    (
        "slope nan",
        lambda p, f: swap(write_film(f, SMALL, RescaleSlope="123.5", RescaleIntercept=0), b"123.5 ", b"nan   "),
        "must be finite",
    ),
    (
        "slope inf",
        lambda p, f: swap(write_film(f, SMALL, RescaleSlope="123.5", RescaleIntercept=0), b"123.5 ", b"-inf  "),
        "must be finite",
    ),
    ("slope 0", lambda p, f: write_film(f, SMALL, RescaleSlope=0, RescaleIntercept=5), "slope not 0"),
    ("slope huge", lambda p, f: write_film(f, SMALL, RescaleSlope="1e30", RescaleIntercept=0), r"within ±1e\+09"),
    ("slope alone", lambda p, f: write_film(f, SMALL, RescaleSlope=2), "come together"),
    ("lut short", lambda p, f: write_film(f, SMALL, ModalityLUTSequence=[lut_of(9, [1, 2, 3])]), "the entries and bits"),
    ("all padding", lambda p, f: write_film(f, np.full((4, 4), -5, np.int16), PixelPaddingValue=-5), "padding in every pixel"),
    ("unknown syntax", lambda p, f: write_film(f, SMALL, transfer_syntax="1.2.3.4.5"), "compressed in an unknown way|corrupt"),
    ("huge tag", lambda p, f: write_elements(f, (0x28, 0x1053, b"UN", HUGE, b"1" * 2**21)), "must not have elements above"),
    ("huge length", lambda p, f: write_elements(f, (0x10, 0x20, b"UN", HUGE, b"1")), "every side"),
    ("huge pixels", lambda p, f: write_elements(f, (0x7FE0, 0x10, b"OW", HUGE, b"12")), "every side"),
    ("items", lambda p, f: write_elements(f, (0x8, 0x1111, b"SQ", 0xFFFFFFFF, ITEM * 10_000)), "corrupt|every side"),
    ("nesting", lambda p, f: write_elements(f, *[(0x8, 0x1111, b"SQ", 0xFFFFFFFF, ITEM[:4] + b"\xff" * 4)] * 5000), "corrupt"),
    ("deflated", lambda p, f: cut(f, deflated(2**24)), "must not be deflated"),
]


def lut_of(claimed, table):
    item = lut_item(table, 0, 8)
    item.LUTDescriptor = [claimed, 0, 8]
    return item


@pytest.mark.parametrize(("write", "words"), [row[1:] for row in BAD_FILMS], ids=[row[0] for row in BAD_FILMS])
def test_what_is_no_film_is_refused(tmp_path, write, words):
    path = write(tmp_path, tmp_path / "Doe^Jane.dcm")
    with pytest.raises(ScanError, match=words) as error:
        read_film(path)
    assert "SECRET" not in str(error.value)
    assert "Doe" not in str(error.value)


def test_a_display_that_nobody_gave_is_refused(tmp_path):
    with pytest.raises(ScanError, match="choose percentiles instead of VOI"):
        read_film(write_film(tmp_path / "x.dcm", RAMP16), voi=True)
    with pytest.raises(ScanError, match="VOI is corrupt"):
        read_film(write_film(tmp_path / "x.dcm", RAMP16, WindowCenter=3, WindowWidth=0), voi=True)


@pytest.mark.parametrize(
    ("syntax", "able", "advice"),
    [
        (JPEGLosslessSV1, (), "compressed as JPEG Lossless, .* needs a decoder .*; `pip install python-gdcm`"),
        (JPEGExtended12Bit, ("pillow", "gdcm"), "compressed as JPEG Extended .* with 16 bits needs .*; `pip install pylibjpeg"),
    ],
)
def test_a_missing_decoder_is_no_fault_of_the_file(tmp_path, syntax, able, advice):
    """Pillow and GDCM claim JPEG Extended, but read 8 bits of it only."""
    path = write_film(tmp_path / "j.dcm", RAMP16, transfer_syntax=syntax)
    installed = Mock(available_plugins=able, is_available=bool(able))
    with patch("medgan_pl.data.readers.dicom.get_decoder", lambda _: installed), pytest.raises(NoDecoder, match=advice):
        read_film(path)


@pytest.mark.parametrize("value", [None, 2])
def test_whether_values_are_signed_must_be_known(tmp_path, value):
    with pytest.raises(ScanError, match=r"PixelRepresentation must be 0 .* or 1") as error:
        read_film(write_film(tmp_path / "a.dcm", RAMP16, PixelRepresentation=value))
    assert "Error" not in str(error.value)


def test_the_order_of_three_samples_must_be_known(tmp_path):
    gray = np.repeat((RAMP16 >> 8).astype(np.uint8)[..., None], 3, axis=2)
    tags = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "Rows": gray.shape[0], "Columns": gray.shape[1]}
    assert np.array_equal(read_film(write_film(tmp_path / "b.dcm", gray, PlanarConfiguration=0, **tags)).pixels, gray[..., 0])
    with pytest.raises(ScanError, match="PlanarConfiguration must be 0 or 1"):
        read_film(write_film(tmp_path / "a.dcm", gray, **tags))


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_lossless_compression_is_lossless(tmp_path, syntax):
    assert np.array_equal(read_film(write_film(tmp_path / "c.dcm", RAMP16, transfer_syntax=syntax)).pixels, RAMP16)
    paths = write_series(tmp_path / "s", HU, signed=False, intercept=-2000, transfer_syntax=syntax)
    assert np.array_equal(read_series(paths).pixels, read_series(write_series(tmp_path / "t", HU)).pixels)
