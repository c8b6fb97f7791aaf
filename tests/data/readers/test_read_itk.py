"""NRRD and MetaImage: exactly what SimpleITK wrote, turned, or an error that says what is wrong."""

import gzip
import os
import zlib

import numpy as np
import pytest

from medgan_pl.data.readers.itk import files_of, read_itk
from medgan_pl.data.readers.scan import ScanError

sitk = pytest.importorskip("SimpleITK")

SHAPE = (2, 3, 4)  # (z, y, x)
PIXELS = np.arange(24, dtype=np.int16).reshape(SHAPE) * 5 - 7
DATA = PIXELS.tobytes()
META = {
    "ObjectType": "Image",
    "NDims": "3",
    "BinaryData": "True",
    "BinaryDataByteOrderMSB": "False",
    "CompressedData": "False",
    "TransformMatrix": "1 0 0 0 1 0 0 0 1",
    "Offset": "10 20 30",
    "ElementSpacing": "0.5 0.75 2",
    "DimSize": "4 3 2",
    "ElementType": "MET_SHORT",
    "ElementDataFile": "LOCAL",
}
NRRD = {
    "type": "short",
    "dimension": "3",
    "space": "left-posterior-superior",
    "sizes": "4 3 2",
    "space directions": "(0.5,0,0) (0,0.75,0) (0,0,2)",
    "kinds": "domain domain domain",
    "endian": "little",
    "encoding": "raw",
    "space origin": "(10,20,30)",
}


def meta(data=DATA, **changes):
    """A MetaImage by hand; a change to None takes a field out."""
    lines = [f"{key} = {value}" for key, value in ({**META, **changes, "ElementDataFile": None}).items() if value is not None]
    last = changes.get("ElementDataFile", META["ElementDataFile"])
    return "\n".join([*lines, *([f"ElementDataFile = {last}"] if last is not None else []), ""]).encode() + data


def nrrd(data=DATA, **changes):
    """A NRRD by hand; `_` in a name stands for a blank."""
    fields = {**NRRD, **{key.replace("_", " "): value for key, value in changes.items()}}
    lines = ["NRRD0005", "# by hand", "patient:=SECRET-77", *(f"{key}: {value}" for key, value in fields.items() if value is not None)]
    return "\n".join([*lines, "", ""]).encode() + data


def read(tmp_path, data, name="SECRET-77.mha"):
    (tmp_path / name).write_bytes(data)
    return read_itk(tmp_path / name)


def image(pixels=PIXELS, direction=(1, 0, 0, 0, 1, 0, 0, 0, 1)):
    made = sitk.GetImageFromArray(pixels)
    made.SetSpacing((0.5, 0.75, 2.0))
    made.SetOrigin((10, 20, 30))
    made.SetDirection(direction)
    return made


@pytest.mark.parametrize("data", [meta(), nrrd()], ids=["meta", "nrrd"])
def test_canonical_by_hand(tmp_path, data):
    scan = read(tmp_path, data)
    assert np.array_equal(scan.pixels, PIXELS)  # LPS: y leads to the back and x to the left already
    assert (scan.pixels.dtype, scan.spacing_mm, scan.bits, scan.synthetic) == (np.float32, (2.0, 0.75, 0.5), 16, False)
    assert scan.pixels.flags.c_contiguous
    expected = [[0, 0, -0.5, -10], [0, -0.75, 0, -20], [2, 0, 0, 30], [0, 0, 0, 1]]
    assert np.array_equal(scan.affine, expected)


@pytest.mark.parametrize("suffix", ["nrrd", "nhdr", "mha", "mhd"])
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "packed"])
@pytest.mark.parametrize("codes", ["LPS", "RAS", "PIR", "SAL", "ILA", "RSP"])
def test_the_marked_voxel_stays_where_it_is(tmp_path, suffix, packed, codes):
    written = sitk.DICOMOrient(image(), codes)
    sitk.WriteImage(written, tmp_path / f"x.{suffix}", packed)
    scan = read_itk(tmp_path / f"x.{suffix}")
    assert np.array_equal(scan.pixels, PIXELS)
    for index in ((0, 0, 0), (1, 2, 3), (3, 1, 1)):  # (x, y, z) of the file
        if all(i < n for i, n in zip(index, written.GetSize(), strict=True)):
            place = np.argwhere(scan.pixels == written[index])[0]
            assert np.allclose((scan.affine @ [*place, 1])[:3], np.array(written.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1))


@pytest.mark.parametrize("suffix", ["nrrd", "mha"])
@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_types(tmp_path, suffix, dtype):
    pixels = np.arange(24).reshape(SHAPE).astype(dtype)
    sitk.WriteImage(image(pixels), tmp_path / f"x.{suffix}")
    scan = read_itk(tmp_path / f"x.{suffix}")
    assert np.array_equal(scan.pixels, pixels)
    assert scan.bits == (None if dtype[0] == "f" else 8 * pixels.dtype.itemsize)


def test_the_usual_oddities_are_taken(tmp_path):
    swapped = PIXELS.astype(">i2").tobytes()
    (tmp_path / "x.raw").write_bytes(DATA)
    (tmp_path / "größe.raw.gz").write_bytes(gzip.compress(DATA))
    for data in (
        meta(swapped, BinaryDataByteOrderMSB="True"),
        nrrd(swapped, endian="big"),
        meta(zlib.compress(DATA), CompressedData="True"),
        nrrd(gzip.compress(DATA), encoding="gzip"),
        meta(b"", ElementDataFile="x.raw"),
        nrrd(b"", data_file="x.raw"),
        nrrd(b"", datafile="größe.raw.gz", encoding="gz"),
        nrrd(b"", data_file="x.raw")[:-1],  # no empty line at the end
        nrrd(space="LPS").replace(b"\n", b"\r\n", 12),
        nrrd(space="RAS", space_directions="(-0.5,0,0) (0,-0.75,0) (0,0,2)", space_origin="(-10,-20,30)"),
        nrrd(space="LAS", space_directions="(0.5,0,0) (0,-0.75,0) (0,0,2)", space_origin="(10,-20,30)"),
    ):
        scan = read(tmp_path, data)
        assert np.array_equal(scan.pixels, PIXELS)
        assert np.array_equal(scan.affine, [[0, 0, -0.5, -10], [0, -0.75, 0, -20], [2, 0, 0, 30], [0, 0, 0, 1]])
    assert read(tmp_path, meta(Comment="SYNTHETIC")).synthetic
    assert read(tmp_path, nrrd(content="SYNTHETIC")).synthetic


def changed(data, at, value):
    at %= len(data)
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


def bad_files():
    packed, zipped = zlib.compress(DATA), gzip.compress(DATA)
    real = np.ones(SHAPE, "f4")
    real[0, 1, 2] = np.nan
    far = np.full(SHAPE, 2**24 + 1, "i4")
    yield "empty", b"", "not a NRRD or MetaImage"
    yield "text", b"no volume at all\n" * 100, "not a NRRD or MetaImage"
    yield "no end of line", b"A" * (2**20 + 1), "header may have"
    yield "meta, cut in its header", meta()[:150], "not a NRRD or MetaImage|Key = Value"
    yield "meta, a field twice", b"DimSize = 4 3 3\n" + meta(), "given once"
    yield "meta, cut", meta()[:-3], "48 bytes of data, got 45"
    yield "meta, tail", meta() + b"junk", "more than 0 bytes follow"
    yield "meta, packed and cut", meta(packed[:-9], CompressedData="True"), "truncated"
    yield "meta, checksum", meta(changed(packed, -1, 1), CompressedData="True"), "corrupt"
    yield "meta, nonsense packed", meta(b"nonsense" * 10, CompressedData="True"), "corrupt"
    yield "meta, packed and tail", meta(packed + b"junk", CompressedData="True"), "corrupt"
    yield "meta, bomb", meta(zlib.compress(bytes(2**24)), CompressedData="True"), "more than 0 bytes follow"
    yield "meta, 2-D", meta(NDims="2", DimSize="4 3"), "NDims"
    yield "meta, -1-D", meta(NDims="-1"), "NDims"  # SimpleITK hangs
    yield "meta, 100-D", meta(NDims="100"), "NDims"
    yield "meta, channels", meta(ElementNumberOfChannels="3"), "ElementNumberOfChannels"
    yield "meta, text data", meta(BinaryData="False"), "BinaryData"
    yield "meta, type", meta(ElementType="MET_LONG"), "another type"  # 4 or 8 bytes, as the machine had it
    yield "meta, type of arrays", meta(ElementType="MET_SHORT_ARRAY"), "another type"
    yield "meta, byte order", meta(BinaryDataByteOrderMSB=None), "byte order"
    yield "meta, offset", meta(HeaderSize="-1"), "HeaderSize"
    yield "meta, slope", meta(ElementToIntensityFunctionSlope="2"), "Slope"
    yield "meta, metres", meta(DistanceUnits="m"), "DistanceUnits"
    yield "meta, no matrix", meta(TransformMatrix=None), "TransformMatrix or Rotation"
    yield "meta, two matrices", meta(Rotation="1 0 0 0 1 0 0 0 1"), "once, got 2"
    yield "meta, no spacing", meta(ElementSpacing=None), "ElementSpacing"
    yield "meta, no offset", meta(Offset=None), "Offset or Position"
    yield "meta, spacing below 0", meta(ElementSpacing="1 1 -1"), "above 0"
    yield "meta, spacing NaN", meta(ElementSpacing="1 1 nan"), "finite"
    yield "meta, matrix zero", meta(TransformMatrix="0 0 0 0 0 0 0 0 0"), "length 1"
    yield "meta, matrix singular", meta(TransformMatrix="1 0 0 1 0 0 0 0 1"), "singular"
    yield "meta, matrix of words", meta(TransformMatrix="SECRET-77"), "finite numbers"
    yield "meta, 30000 cubed", meta(DimSize="30000 30000 30000"), "may have"
    yield "meta, a list", meta(b"", ElementDataFile="LIST"), "not in its folder"
    yield "meta, a pattern", meta(b"", ElementDataFile="x%s%n%d.raw 1 10 1"), "not in its folder"  # SimpleITK crashes
    yield "meta, NaN", meta(real.tobytes(), ElementType="MET_FLOAT"), "1 NaN or infinite of 24"
    yield "meta, large", meta(far.tobytes(), ElementType="MET_INT"), "rounded in float32"
    for side in ("-4", "0", "4.5", "1e2", "9" * 30, "²", ""):
        yield f"meta, side {side}", meta(DimSize=f"{side} 3 2"), "whole numbers|1 or more"
        yield f"nrrd, side {side}", nrrd(sizes=f"{side} 3 2"), "whole numbers|1 or more"
    for name in (
        "../../etc/passwd",
        "/etc/passwd",
        "..\\x.raw",
        "C:\\x.raw",
        "..",
        ".",
        "",
        "sub/x.raw",
        "a\0b",
        "A" * 300,
        "SECRET-77.mha",
    ):
        yield f"meta, names {name[:20]!r}", meta(b"", ElementDataFile=name), "its name alone"
        yield f"nrrd, names {name[:20]!r}", nrrd(b"", data_file=name), "its name alone"
    yield "meta, names a folder", meta(b"", ElementDataFile="folder"), "regular file"
    yield "nrrd, cut in its header", nrrd()[:100], "truncated|must be `field"
    yield "nrrd, cut", nrrd()[:-3], "48 bytes of data, got 45"
    yield "nrrd, tail", nrrd() + b"junk", "more than 0 bytes follow"
    yield "nrrd, packed and cut", nrrd(zipped[:-5], encoding="gzip"), "truncated"
    yield "nrrd, CRC", nrrd(changed(zipped, -6, 1), encoding="gzip"), "corrupt"
    yield "nrrd, text data", nrrd(encoding="ascii"), "encoding"
    yield "nrrd, 4-D", nrrd(dimension="4", sizes="4 3 2 1"), "dimension"
    yield "nrrd, type", nrrd(type="block"), "another type"
    yield "nrrd, byte order", nrrd(endian=None), "byte order"
    yield "nrrd, skip", nrrd(byte_skip="-1"), "byteskip"
    yield "nrrd, quantized", nrrd(old_min="0"), "quantized"
    yield "nrrd, colours", nrrd(kinds="RGB-color domain domain"), "kinds"
    yield "nrrd, metres", nrrd(space_units='"m" "m" "m"'), "space units"
    yield "nrrd, sizes twice", nrrd(Sizes="4 3 2"), "given once"
    yield "nrrd, 30000 cubed", nrrd(sizes="30000 30000 30000"), "may have"
    for space in (None, "scanner-xyz", "3D-right-handed", "left-posterior-superior-time"):  # SimpleITK takes the first three for LPS
        yield f"nrrd, space {space}", nrrd(space=space), "orientation unknown"
    yield "nrrd, spacings only", nrrd(space_directions=None, spacings="1 1 1"), "orientation unknown"
    yield "nrrd, no origin", nrrd(space_origin=None), "orientation unknown"
    yield "nrrd, no direction", nrrd(space_directions="none (0,1,0) (0,0,1)"), "finite numbers"
    yield "nrrd, sheared", nrrd(space_directions="(1,0,0) (0,1,0) (0,0.5,1)"), "perpendicular"


@pytest.mark.parametrize(("data", "message"), [pytest.param(d, m, id=i) for i, d, m in bad_files()])
def test_what_cannot_be_used_is_refused_in_words(tmp_path, data, message):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ScanError, match=message) as caught:
        read(tmp_path, data)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (None, ("a.mhd",)),
        ("LOCAL", ("a.mhd",)),
        ("a.raw", ("a.mhd", "a.raw")),
        *((name, "not in its folder") for name in ("b.raw", "LIST", "%03d.raw", "folder")),
        *((name, "its name alone") for name in (".", "..", "/", "../x/a.raw", "C:\\a.raw", "a.mhd", "x" * 300, "a\0b")),
    ],
)
def test_the_files_of_a_header(tmp_path, name, expected):
    (tmp_path / "a.mhd").write_bytes(meta(ElementDataFile=name))
    (tmp_path / "a.raw").write_bytes(DATA)
    (tmp_path / "folder").mkdir()
    if isinstance(expected, tuple):
        assert files_of(tmp_path / "a.mhd") == tuple(tmp_path / one for one in expected)
        return
    with pytest.raises(ScanError, match=expected):
        files_of(tmp_path / "a.mhd")


def test_no_file_and_no_regular_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_itk(tmp_path / "none.mha")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ScanError, match="regular file"):
        read_itk(tmp_path / "pipe")
    with pytest.raises(ScanError, match="regular file"):
        read(tmp_path, meta(b"", ElementDataFile="pipe"))
