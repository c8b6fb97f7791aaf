"""Reading exactly what is stored, refusing what is no film, and normalising it."""

import io

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from medgan_pl.data.pipelines import FilmError, FilmPipeline, dicom_patient, read_film

RAMP8 = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
RAMP16 = (np.arange(12 * 10, dtype=np.uint16) * 517 + 3).reshape(12, 10)


def write_dicom(path, stored, photometric="MONOCHROME2", patient="SECRET-ID-77", **tags):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SOPClassUID, ds.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    ds.PatientID, ds.PatientName, ds.Modality = patient, "Doe^Jane", "DX"
    ds.Rows, ds.Columns = stored.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, int(stored.dtype == np.int16)
    for name, value in tags.items():
        setattr(ds, name, value)
    ds.PixelData = stored.tobytes()
    ds.save_as(path)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("ramp", [RAMP8, RAMP16], ids=["8bit", "16bit"])
def test_grey_files_come_out_exact(tmp_path, suffix, ramp):
    Image.fromarray(ramp).save(tmp_path / f"x.{suffix}")
    film = read_film(tmp_path / f"x.{suffix}")
    assert film.dtype == np.float32
    assert np.array_equal(film, ramp[None])


def test_jpeg_and_grey_stored_as_colour(tmp_path):
    grey = Image.fromarray(RAMP8)
    grey.save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_film(tmp_path / "a.jpg") - RAMP8).max() <= 2
    for mode in ("RGB", "RGBA", "LA", "P"):
        grey.convert(mode).save(tmp_path / "c.png")
        assert np.array_equal(read_film(tmp_path / "c.png"), RAMP8[None])


def test_white_is_zero_tiff_is_inverted_at_8_and_16_bit(tmp_path):
    for ramp, top in ((RAMP8, 255), (RAMP16, 65535)):
        Image.fromarray(ramp).save(tmp_path / "x.tif", tiffinfo={262: 0})
        stored = np.asarray(Image.open(tmp_path / "x.tif"))
        assert np.array_equal(read_film(tmp_path / "x.tif")[0], stored if top == 255 else top - ramp.astype(np.float32))


def test_dicom_rescale_and_monochrome1(tmp_path):
    stored = RAMP16.astype(np.int16)
    two = read_film(write_dicom(tmp_path / "2.dcm", stored, RescaleSlope=2, RescaleIntercept=-1024))
    assert np.array_equal(two[0], stored.astype(np.float32) * 2 - 1024)
    one = read_film(write_dicom(tmp_path / "1.dcm", stored, "MONOCHROME1", RescaleSlope=2, RescaleIntercept=-1024))
    assert np.array_equal(one, two.max() + two.min() - two)
    pipeline = FilmPipeline(size=(6, 5), crop=True, percentiles=(0, 100))
    assert torch.allclose(pipeline(one), -pipeline(two), atol=1e-6)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_dicom_padding_becomes_the_darkest_value(tmp_path, photometric):
    stored = np.arange(100, 220, dtype=np.int16).reshape(12, 10)
    stored[:, 0] = -2000  # written as 63536 by some makers
    film = read_film(write_dicom(tmp_path / "p.dcm", stored, photometric, PixelPaddingValue=-2000, RescaleSlope=1, RescaleIntercept=-1024))[
        0
    ]
    inside = stored[:, 1:].astype(np.float32) - 1024
    expected = inside if photometric == "MONOCHROME2" else inside.max() + inside.min() - inside
    assert np.array_equal(film[:, 1:], expected)
    assert (film[:, 0] == expected.min()).all()


def test_dicom_without_a_suffix_and_its_patient(tmp_path):
    path = write_dicom(tmp_path / "IM0001", RAMP16.astype(np.uint16))
    assert read_film(path).shape == (1, 12, 10)
    assert dicom_patient(path) == "SECRET-ID-77"
    assert dicom_patient(write_dicom(tmp_path / "anonymous.dcm", RAMP16, patient="")) is None


def png16_colour():
    """A 16-bit RGB PNG by hand: Pillow can neither write one nor read one as such."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + struct.pack(">24H", *range(y * 24, y * 24 + 24)) for y in range(8))
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def saved(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bad_files():
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    grey = Image.fromarray(noise[..., 0])
    see_through = Image.fromarray(noise[..., 0]).convert("RGBA")
    see_through.putalpha(100)
    yield "colour.png", saved(Image.fromarray(noise), "PNG"), "1 channel, got 3 that differ"
    yield "alpha.png", saved(see_through, "PNG"), "opaque"
    yield "deep.png", png16_colour(), "16-bit colour"
    yield "pages.tif", saved(grey, "TIFF", save_all=True, append_images=[grey]), "got 2 pages"
    yield "cmyk.jpg", saved(Image.fromarray(noise).convert("CMYK"), "JPEG"), "must be grey, got CMYK"
    yield "cut.png", saved(grey, "PNG")[:2000], "corrupt or truncated"
    yield "cut.jpg", saved(grey, "JPEG")[:1200], "corrupt or truncated"
    yield "cut.tif", saved(grey, "TIFF")[:2000], "truncated|cut off"
    yield "text.png", b"this is not a film", "not a PNG, JPEG or TIFF"
    yield "empty.png", b"", "not a PNG, JPEG or TIFF"
    yield "text.dcm", b"this is not a film", "a DICOM that is corrupt"


@pytest.mark.parametrize(("name", "content", "words"), list(bad_files()), ids=[name for name, _, _ in bad_files()])
def test_what_is_no_film_is_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(FilmError, match=words) as error:
        read_film(tmp_path / name)
    assert str(tmp_path) not in str(error.value)  # the reason is kept in the cache: no name, no identity


def test_bad_dicoms_are_refused(tmp_path):
    path = write_dicom(tmp_path / "c.dcm", RAMP16, "RGB", SamplesPerPixel=3, PlanarConfiguration=0)
    ds = pydicom.dcmread(path)
    ds.PixelData = np.arange(360, dtype=np.uint16).tobytes()
    ds.save_as(path)
    with pytest.raises(FilmError, match="got 3 that differ"):
        read_film(path)
    with pytest.raises(FilmError, match="one frame, got 2"):
        read_film(write_dicom(tmp_path / "m.dcm", np.stack([RAMP16, RAMP16]), NumberOfFrames=2))
    whole = write_dicom(tmp_path / "t.dcm", RAMP16).read_bytes()
    (tmp_path / "t.dcm").write_bytes(whole[:-50])
    with pytest.raises(FilmError, match="corrupt, truncated") as error:
        read_film(tmp_path / "t.dcm")
    assert "SECRET" not in str(error.value)


@pytest.mark.parametrize(
    ("film", "words"),
    [
        (np.full((1, 8, 8), np.nan, np.float32), "got 64 NaN or infinite of 64"),
        (np.where(np.eye(8)[None] > 0, np.inf, 1).astype(np.float32), "got 8 NaN"),
        (np.full((1, 8, 8), 7, np.float32), "got 7 in every pixel"),
        (np.concatenate([np.ones(1), np.zeros(399)]).reshape(1, 20, 20).astype(np.float32), "almost constant"),
        (np.zeros((3, 8, 8), np.float32), r"must be \(1, H, W\)"),
    ],
)
def test_unusable_pixels(film, words):
    with pytest.raises(FilmError, match=words):
        FilmPipeline(size=(4, 4), crop=True, percentiles=(0.5, 99.5))(film)


def test_contrast_is_by_percentiles_and_clipped():
    film = np.linspace(100, 300, 10_000, dtype=np.float32).reshape(1, 100, 100)
    film[0, 0, 0] = 1e6  # one hot pixel does not darken the film
    out = FilmPipeline(size=(100, 100), crop=True, percentiles=(1, 99))(film)
    low, high = np.percentile(film, [1, 99]).astype(np.float32)
    assert torch.allclose(out, torch.from_numpy((film - low) / (high - low) * 2 - 1).clamp(-1, 1), atol=1e-4)
    assert type(out) is torch.Tensor
    assert out.dtype == torch.float32


def test_crop_and_pad_keep_the_proportions():
    film = np.zeros((1, 40, 80), np.float32)
    film[0, 10:30, 30:50] = 1.0  # a square about the centre stays one
    film[0, 20, 0] = 0.5
    cropped = FilmPipeline(size=(20, 20), crop=True, percentiles=(0, 100))(film)
    assert (cropped > 0).sum() == 100
    assert (cropped[0, 5:15, 5:15] > 0).all()
    padded = FilmPipeline(size=(20, 20), crop=False, percentiles=(0, 100))(film)
    assert abs((padded + 1).sum() / 2 - 25) < 0.05  # the same 400 pixels of 6400, in 400
    assert (padded[0, :5] == -1).all()
    assert FilmPipeline(size=(10, 40), crop=True, percentiles=(0, 100))(film).shape == (1, 10, 40)


def test_shrinking_does_not_alias_and_keeps_the_mean():
    stripes = np.tile(np.array([0.0, 1.0], np.float32), (1, 64, 32))  # the finest there are
    out = FilmPipeline(size=(16, 16), crop=True, percentiles=(0, 100))(stripes)
    assert out.abs().max() < 1e-6
    assert FilmPipeline(size=(128, 128), crop=True, percentiles=(0, 100))(stripes).shape == (1, 128, 128)
