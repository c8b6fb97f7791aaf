"""Films in PNG, JPEG and TIFF: exactly what is stored, or a refusal."""

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medgan_pl.data.readers.pictures import SILENCE, faults, read_picture
from medgan_pl.data.readers.scan import ScanError

RAMP8 = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
RAMP16 = (np.arange(12 * 10, dtype=np.uint16) * 517 + 3).reshape(12, 10)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize(("ramp", "bits"), [(RAMP8, 8), (RAMP16, 16)], ids=["8bit", "16bit"])
def test_grey_files_come_out_exact(tmp_path, suffix, ramp, bits):
    Image.fromarray(ramp).save(tmp_path / f"x.{suffix}")
    film = read_picture(tmp_path / f"x.{suffix}")
    assert film.pixels.dtype == np.float32
    assert np.array_equal(film.pixels, ramp)
    assert (film.bits, film.spacing_mm, film.affine, film.padding, film.synthetic) == (bits, None, None, None, False)


def test_floating_point_and_32_bit_tiff(tmp_path):
    reals = RAMP16.astype(np.float32) / 7 - 100
    Image.fromarray(reals).save(tmp_path / "f.tif")
    film = read_picture(tmp_path / "f.tif")
    assert np.array_equal(film.pixels, reals)
    assert film.bits is None
    Image.fromarray(RAMP16.astype(np.int32) * 200).save(tmp_path / "i.tif")
    assert np.array_equal(read_picture(tmp_path / "i.tif").pixels, RAMP16.astype(np.float32) * 200)


def test_jpeg_and_grey_stored_as_colour(tmp_path):
    grey = Image.fromarray(RAMP8)
    grey.save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_picture(tmp_path / "a.jpg").pixels - RAMP8).max() <= 2
    for mode in ("RGB", "RGBA", "LA", "P"):
        grey.convert(mode).save(tmp_path / "c.png")
        assert np.array_equal(read_picture(tmp_path / "c.png").pixels, RAMP8)


def test_white_is_zero_tiff_is_inverted_at_8_and_16_bit(tmp_path):
    for ramp, top in ((RAMP8, 255), (RAMP16, 65535)):
        Image.fromarray(ramp).save(tmp_path / "x.tif", tiffinfo={262: 0})
        stored = np.asarray(Image.open(tmp_path / "x.tif"))
        assert np.array_equal(read_picture(tmp_path / "x.tif").pixels, stored if top == 255 else top - ramp.astype(np.float32))


def test_few_bits_are_scaled_to_8(tmp_path):
    rows = b"".join(b"\0" + bytes([0x0F, 0x37]) for _ in range(3))  # 4 bits: 0 15 3 7
    (tmp_path / "4bit.png").write_bytes(png(4, 3, 4, rows))
    film = read_picture(tmp_path / "4bit.png")
    assert film.bits == 8
    assert np.array_equal(film.pixels[0], np.array([0, 15, 3, 7]) * 17)


def test_an_orientation_tag_is_obeyed(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 2  # mirrored: the heart would be on the other side
    Image.fromarray(RAMP8).save(tmp_path / "x.png", exif=exif)
    assert np.array_equal(read_picture(tmp_path / "x.png").pixels, RAMP8[:, ::-1])


def test_synthetic_is_read_from_the_png(tmp_path):
    text = PngInfo()
    text.add_text("Synthetic", "medgan_pl")
    Image.fromarray(RAMP16).save(tmp_path / "s.png", pnginfo=text)
    assert read_picture(tmp_path / "s.png").synthetic


def png(width, height, depth, rows, colour=0, extra=b""):
    """A PNG by hand, of whatever Pillow would not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    ihdr = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", ihdr) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def tiff_of_tags(n, tail):
    """A TIFF whose n tags each claim the whole file for their value."""
    tags = b"".join(struct.pack("<HHII", 1000 + i, 7, 12 * n + tail, 8) for i in range(n))
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", n) + tags + b"\0\0\0\0" + b"\0" * tail


def tiff_of_pages(n):
    pages = b"".join(struct.pack("<HI", 0, 14 + 6 * i) for i in range(n))
    return b"II*\0" + struct.pack("<I", 8) + pages


def bad_files():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    grey = Image.fromarray(noise[..., 0])
    see_through = Image.fromarray(noise[..., 0]).convert("RGBA")
    see_through.putalpha(100)
    deep = b"".join(b"\0" + struct.pack(">24H", *range(y * 24, y * 24 + 24)) for y in range(8))
    yield "colour.png", saved(Image.fromarray(noise), "PNG"), "1 channel, got 3 that differ"
    yield "alpha.png", saved(see_through, "PNG"), "opaque"
    yield "deep.png", png(8, 8, 16, deep, colour=2), "16-bit color"
    yield "pages.tif", saved(grey, "TIFF", save_all=True, append_images=[grey]), "got 2 pages"
    yield "frames.png", saved(grey, "PNG", save_all=True, append_images=[Image.fromarray(noise[..., 1])]), "got 2 pages"
    yield "cmyk.jpg", saved(Image.fromarray(noise).convert("CMYK"), "JPEG"), "must be gray, got CMYK"
    yield "bits.png", saved(grey.convert("1"), "PNG"), "must be gray, got 1"
    yield "large.tif", saved(Image.fromarray(np.full((8, 8), 2**24 + 1, np.int32)), "TIFF"), r"at most 2\^24"
    yield "white.tif", saved(Image.fromarray(np.ones((8, 8), np.float32)), "TIFF", tiffinfo={262: 0}), "white is zero|corrupt|not a PNG"
    yield "cut.png", saved(grey, "PNG")[:2000], "corrupt or truncated"
    yield "cut.jpg", saved(grey, "JPEG")[:1200], "corrupt or truncated"
    yield "cut.tif", saved(grey, "TIFF")[:2000], "truncated"
    yield "claims.png", png(65535, 65535, 16, b"\0"), "its header claims more"
    yield "large.png", png(12000, 12000, 8, b"\0"), "its header claims 12000 × 12000"
    progressive = saved(grey, "JPEG", progressive=True)
    last = progressive.rindex(b"\xff\xda")
    yield "scans.jpg", progressive[:last] + progressive[last:-2] * 100 + progressive[-2:], "at most 64 scans"
    yield "text.png", b"this is not a film", "not a PNG, JPEG or TIFF"
    yield "empty.png", b"", "not a PNG, JPEG or TIFF"
    yield "other.png", saved(grey, "BMP"), "not a PNG, JPEG or TIFF"
    yield "postscript.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not a PNG, JPEG or TIFF"
    yield "bomb.tif", tiff_of_tags(20_000, 100_000), "endless|corrupt|not a PNG"  # 20,000 × 340 KB if each tag were read
    yield "chain.tif", tiff_of_pages(20_000), "corrupt|not a PNG|2 pages"
    yield "chunks.png", png(4, 4, 8, b"\0" * 20, extra=b"\0\0\0\0tEXt\0\0\0\0" * 100_000), "corrupt|endless|not a PNG"
    yield "zip.png", png(4, 4, 8, b"\0" * 20, extra=zipped_text(2**27)), "corrupt|not a PNG"


def zipped_text(n):
    data = b"Comment\0\0" + zlib.compress(b"\0" * n)
    return struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))


BAD = list(bad_files())


@pytest.mark.parametrize(("name", "content", "words"), BAD, ids=[name for name, _, _ in BAD])
def test_what_is_no_film_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ScanError, match=words) as error:
        read_picture(tmp_path / name)
    assert str(tmp_path) not in str(error.value)  # the reason is kept in the cache: no name, no identity


def test_faults_of_the_disk_are_no_faults_of_the_film(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "absent.png")
    with pytest.raises(OSError, match="Input/output"), faults("corrupt"):
        raise OSError(5, "Input/output error")
    with pytest.raises(MemoryError), faults("corrupt"):
        raise MemoryError
    with pytest.raises(ScanError, match=r"^corrupt \(OSError\)$"), faults("corrupt"):
        raise OSError("broken data stream of Jane Doe")


def test_silence_in_many_threads_leaves_the_filters_as_they_were():
    before = list(warnings.filters)

    def whisper(_):
        with SILENCE:
            warnings.warn("Jane Doe", stacklevel=1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(whisper, range(200)))
    assert warnings.filters == before
