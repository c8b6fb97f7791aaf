"""NIfTI: exactly what nibabel reads, turned, or an error that says what is wrong."""

import gzip
import os
import struct
import subprocess
import sys
import zlib

import nibabel as nib
import numpy as np
import pytest

from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.scan import ScanError

SHAPE = (4, 5, 6)
MARK = (1, 3, 2)
AFFINE = nib.affines.from_matvec(np.diag([0.5, 0.75, 2.0]), [-20.0, 7.0, 31.0])


def volume(dtype=np.int16):
    pixels = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    pixels[MARK] = 125
    return pixels


def fields(pixels=None, affine=AFFINE, kind=nib.Nifti1Header, order="<"):
    """A header for `pixels`, its sform set."""
    header = kind(endianness=order)
    pixels = volume() if pixels is None else pixels
    header.set_data_dtype(pixels.dtype)
    header.set_data_shape(pixels.shape)
    header.set_sform(affine, 1)
    header["magic"] = b"n+1" if kind is nib.Nifti1Header else b"n+2"
    header["vox_offset"] = header["sizeof_hdr"] + 4
    header["scl_slope"], header["scl_inter"], header["xyzt_units"] = 1, 0, 2
    return header


def content(pixels=None, header=None, **changes):
    """A file's bytes by hand: nibabel corrects what it writes. `changes` are raw fields of the header."""
    pixels = volume() if pixels is None else pixels
    header = fields(pixels) if header is None else header
    for name, value in changes.items():
        header[name] = value
    stored = pixels.astype(pixels.dtype.newbyteorder(header.endianness))
    return header.binaryblock + b"\0\0\0\0" + stored.tobytes(order="F")


def read(tmp_path, data, name="x.nii"):
    (tmp_path / name).write_bytes(data)
    return read_nifti(tmp_path / name)


def test_canonical_by_hand(tmp_path):
    scan = read(tmp_path, content())
    assert np.array_equal(scan.pixels, volume().transpose(2, 1, 0)[:, ::-1, ::-1])
    assert scan.pixels.dtype == np.float32
    assert scan.pixels.flags.c_contiguous
    assert scan.pixels.dtype.isnative
    assert scan.spacing_mm == (2.0, 0.75, 0.5)
    assert (scan.bits, scan.synthetic, scan.padding) == (16, False, None)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "PIR", "SAL", "IPL", "ASR", "LAS"])
@pytest.mark.parametrize("form", ["sform", "qform"])
def test_the_marked_voxel_stays_where_it_is(tmp_path, codes, form):
    turn = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), nib.orientations.axcodes2ornt(tuple(codes)))
    tilt = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.05, -0.08))
    affine = tilt @ AFFINE @ nib.orientations.inv_ornt_aff(turn, SHAPE)
    pixels = nib.orientations.apply_orientation(volume(), turn)
    image = nib.Nifti1Image(pixels, None)
    image.set_sform(affine, 1 if form == "sform" else 0)
    image.set_qform(affine, 1 if form == "qform" else 0)
    nib.save(image, tmp_path / "x.nii.gz")
    scan = read_nifti(tmp_path / "x.nii.gz")
    assert np.array_equal(scan.pixels, volume().transpose(2, 1, 0)[:, ::-1, ::-1])
    place = np.argwhere(scan.pixels == 125)[-1]
    assert np.allclose(scan.affine @ [*place, 1], tilt @ AFFINE @ [*np.argwhere(volume() == 125)[0], 1], atol=1e-4)
    assert np.allclose(scan.spacing_mm, (2.0, 0.75, 0.5), atol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header], ids=["1", "2"])
def test_types_versions_and_byte_orders(tmp_path, dtype, kind):
    pixels = volume(dtype)
    for order in "<>":
        scan = read(tmp_path, content(pixels, fields(pixels, kind=kind, order=order)))
        assert np.array_equal(scan.pixels, pixels.transpose(2, 1, 0)[:, ::-1, ::-1])
        assert scan.bits == (None if dtype[0] == "f" else 8 * pixels.dtype.itemsize)


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "f4"])
@pytest.mark.parametrize(("slope", "inter"), [(2.0, -1024.0), (2.0078433, 0.1), (-0.37, 5.0), (0.0, 99.0)])
def test_scaling_is_nibabels(tmp_path, dtype, slope, inter):
    pixels = volume(dtype)
    scan = read(tmp_path, content(pixels, scl_slope=slope, scl_inter=inter))
    expected = nib.load(tmp_path / "x.nii").get_fdata().astype(np.float32)
    assert np.array_equal(scan.pixels, expected.transpose(2, 1, 0)[:, ::-1, ::-1])


def test_integers_are_exact_as_far_as_float32_goes(tmp_path):
    pixels = volume(np.int32)
    pixels[0, 0, 0], pixels[0, 0, 1] = 2**24, -(2**24)
    assert {2.0**24, -(2.0**24)} <= set(read(tmp_path, content(pixels)).pixels.ravel().tolist())
    for odd in (2**24 + 1, -(2**24) - 1):
        pixels[0, 0, 0] = odd
        with pytest.raises(ScanError, match="rounded in float32"):
            read(tmp_path, content(pixels))


@pytest.mark.parametrize(("unit", "millimetres"), [(0, 1), (1, 1000), (2, 1), (3, 0.001), (10, 1)])
def test_units_become_millimetres(tmp_path, unit, millimetres):
    scan = read(tmp_path, content(xyzt_units=unit))
    assert np.allclose(scan.spacing_mm, np.array([2.0, 0.75, 0.5]) * millimetres)
    assert np.allclose(scan.affine[2, 3], 31 * millimetres)


def test_the_usual_oddities_are_taken(tmp_path):
    plain = read(tmp_path, content())
    qfac = fields()
    qfac.set_qform(AFFINE, 1)
    qfac["sform_code"], qfac["pixdim"][0] = 0, 0
    good = content()
    for data in (
        dims(5, *SHAPE, 1, 1),
        content() + b"\0" * 4096,  # padding
        content(vox_offset=400)[:348] + b"\1\0\0\0" + b"\x30\0\0\0" + b"\0" * 44 + content()[352:],  # an extension
        content(header=qfac),
        gzip.compress(good[:500]) + gzip.compress(b"") + gzip.compress(good[500:]),
        gzip.compress(good + b"\0" * 4096),
    ):
        scan = read(tmp_path, data)
        assert np.array_equal(scan.pixels, plain.pixels)
        assert np.allclose(scan.affine, plain.affine)
    assert read(tmp_path, content(descrip=b"SYNTHETIC medgan")).synthetic
    one = volume()[:, :, :1]
    assert read(tmp_path, content(one)).pixels.shape == (1, 5, 4)


def changed(data, at, value):
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


def dims(*sides):
    return content(dim=[*sides, *[1] * (8 - len(sides))])


def with_affine(matrix):
    return content(srow_x=matrix[0], srow_y=matrix[1], srow_z=matrix[2])


def floats(value):
    pixels = volume(np.float32)
    pixels[1, 2, 3], pixels[0, 0, 0] = value, -value
    return content(pixels)


def bad_files():
    good, packed = content(), gzip.compress(content())
    colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    yield "empty", b"", "not a NIfTI"
    yield "text", b"no volume at all\n" * 100, "not a NIfTI"
    yield "gzip of text", gzip.compress(b"no volume at all\n" * 100), "not a NIfTI"
    yield "cut in the header", good[:200], "truncated"
    yield "cut before the data", good[:350], "truncated"
    yield "cut in the data", good[:-7], "240 bytes of data, got 233"
    yield "gzip cut in the data", packed[:-20], "truncated"
    yield "gzip cut in the CRC", packed[:-3], "truncated"
    yield "gzip without data", packed[:12], "truncated"
    yield "gzip, nothing else", packed[:2], "truncated"
    yield "gzip of a cut file", gzip.compress(good[:-7]), "240 bytes of data, got 233"
    yield "gzip, wrong CRC", changed(packed, len(packed) - 6, 1), "corrupt"
    yield "gzip, wrong length", changed(packed, len(packed) - 2, 1), "corrupt"
    yield "gzip, wrong byte", changed(packed, len(packed) // 2, 255), "corrupt|truncated"
    yield "gzip and junk", packed + b"junk", "corrupt"
    yield "gzip, begins only", b"\x1f\x8b" + b"x" * 500, "corrupt"
    yield "gzip, long tail", gzip.compress(good + b"\0" * 4097), "more than 4096 bytes follow"
    yield "long tail", good + b"\0" * 4097, "more than 4096 bytes follow"
    yield "members", gzip.compress(b"", mtime=0) * (2**16 + 1), "members"
    yield "30000 cubed", dims(3, 30000, 30000, 30000), "may have"
    yield "negative side", dims(3, -4, 5, 6), "1 or more"
    yield "zero side", dims(3, 4, 0, 6), "1 or more"
    yield "zero times", dims(4, 4, 5, 6, 0), "1 or more"
    yield "no dimension", dims(0, 4, 5, 6), "dim.0. must be"
    yield "9 dimensions", dims(9, 4, 5, 6), "dim.0. must be"
    yield "2-D", dims(2, 4, 5), "3 dimensions, got 2"
    yield "4-D", dims(4, 4, 5, 3, 2), "4-D, 2 volumes"
    yield "vectors", dims(5, 4, 5, 2, 1, 3), "5-D, 3 volumes"
    yield "complex", content(np.zeros(SHAPE, np.complex64)), "integers or floats"
    yield "colour", content(colour), "integers or floats"
    yield "unknown type", content(datatype=77), "code 77"
    yield "bitpix", content(bitpix=8), "16 bits, the header states 8"
    yield "slope NaN", content(scl_slope=np.nan, scl_inter=np.nan), "must be finite"
    yield "slope infinite", content(scl_slope=np.inf), "must be finite"
    yield "inter NaN", content(scl_inter=np.nan), "must be finite"
    yield "slope 1e30", content(scl_slope=1e30), "largest magnitude"
    yield "slope 1e-38", content(scl_slope=1e-38), "a denormal number"
    yield "inter -1e-40", content(scl_inter=-1e-40), "a denormal number"
    yield "slope 1.2e-38", content(scl_slope=1.2e-38), "largest magnitude"
    yield "inter 1e8", content(scl_inter=1e8), "rounded in float32"
    yield "NaN", floats(np.nan), "2 NaN or infinite of 120"
    yield "infinite", floats(np.inf), "2 NaN or infinite of 120"
    yield "1e20", floats(1e20), "largest magnitude"
    yield "no orientation", content(sform_code=0, qform_code=0), "orientation unknown"
    yield "qform is none", content(sform_code=0, qform_code=1, quatern_b=5), "rotation"
    yield "qform NaN", content(sform_code=0, qform_code=1, quatern_b=np.nan), "rotation|finite"
    yield "sform NaN", with_affine(np.full((4, 4), np.nan)), "finite"
    yield "sform infinite", with_affine(np.diag([np.inf, 1, 1, 1])), "finite"
    yield "sform 1e30", with_affine(np.diag([1e30, 1, 1, 1])), "within"
    yield "sform zero", with_affine(np.zeros((4, 4))), "singular"
    yield "sform sheared", with_affine([[1, 0, 0, 0], [0, 1, 0.3, 0], [0, 0, 1, 0]]), "perpendicular"
    yield "unit", content(xyzt_units=5), "xyzt_units"
    for offset in (0, -352, 348, 352.5, np.nan, np.inf, 1e9):
        yield f"offset {offset}", content(vox_offset=offset), "vox_offset"
    yield "pair", content(magic=b"ni1"), "pair"
    yield "ANALYZE", content(magic=b""), "not a NIfTI"


@pytest.mark.parametrize(("data", "message"), [pytest.param(d, m, id=i) for i, d, m in bad_files()])
def test_what_cannot_be_used_is_refused_in_words(tmp_path, denormals_flushed, data, message):
    with pytest.raises(ScanError, match=message) as caught:
        read(tmp_path, data, "SECRET-77.nii.gz")
    assert "SECRET" not in str(caught.value)


def test_no_file_and_no_regular_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_nifti(tmp_path / "none.nii")
    os.mkfifo(tmp_path / "pipe.nii")
    for path in (tmp_path, tmp_path / "pipe.nii"):
        with pytest.raises(ScanError, match="regular file"):
            read_nifti(path)


def bomb():
    """A gzip of the good file and 2 GiB of zeros: after a full flush a block depends on nothing before it, so one is repeated."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    begin = packer.compress(content()) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(2**23)) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + begin + block * 256 + packer.flush() + struct.pack("<II", 0, 0)


def test_a_bomb_is_not_inflated(tmp_path):
    (tmp_path / "x.nii.gz").write_bytes(bomb())
    assert 10**6 < (tmp_path / "x.nii.gz").stat().st_size < 4 * 10**6
    script = """
import resource, sys, pathlib
from medgan_pl.data.readers.nifti import read_nifti
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_nifti(pathlib.Path(sys.argv[1]))
except ValueError as error:
    print(error)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "x.nii.gz"], capture_output=True, text=True, check=True, timeout=60)
    message, mebibytes = done.stdout.splitlines()
    assert "more than 4096 bytes follow" in message
    assert float(mebibytes) < 80
