"""Odd and hostile files beside sound ones, at the level a user meets them: read right, left out with a reason, or one plain error."""

import gzip
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path

import hostile_files as make
import numpy as np
import pydicom
import pytest
from hostile_files import FILM, HU, at, content, nifti, places, series, x_ray
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, RLELossless

from medgan_pl.data.intensity import from_unit


@dataclass(frozen=True)
class Outcome:
    """What becomes of the files: `read` right; `skipped` with a reason; `passed over`, as not for this set; `stopped`: one error."""

    kind: str
    words: str = ""


READ = Outcome("read")
READ_AND_WARNED = Outcome("read", r"WARNING: 2 of 4 are synthetic \(made by a generator\)")


def skipped(words):
    return Outcome("skipped", words)


def passed_over(words):
    return Outcome("passed over", words)


CUBE = (30000, 30000, 30000)
SIGNED, MONO1 = (FILM.astype(np.int16) - 100), {"PhotometricInterpretation": "MONOCHROME1"}
FRAMED = np.where(np.arange(8) == 0, np.nan, HU).astype(np.float32)  # NaN: padding
FRAMED_FILM = np.where(np.arange(8) == 0, np.nan, FILM).astype(np.float32)
PADDED = {"hu": np.nan_to_num(FRAMED, nan=-3024), "expected": FRAMED, "edit": lambda i, ds: ds.add_new("PixelPaddingValue", "US", 63536)}
NONSENSE = [np.nan] * 4

ROWS = [
    # NIfTI
    ("nifti, big-endian", "ct", make.bad_nifti(nifti(order=">"), HU), READ),
    ("nifti, slope", "ct", make.bad_nifti(nifti((HU + 1000) * 2, scl_slope=0.5, scl_inter=-1000), HU), READ),
    ("nifti, slope 0 is none", "mri", make.bad_nifti(nifti(scl_slope=0, scl_inter=5), HU), READ),
    ("nifti, 30000 cubed", "ct", make.bad_nifti(make.claimed(*CUBE)), skipped("its header claims 30000 × 30000 × 30000")),
    ("nifti, cut", "ct", make.bad_nifti(nifti()[:-9]), skipped("truncated: the header claims 512 bytes of data, got 503")),
    ("nifti, cut gzip", "ct", make.bad_gzip(gzip.compress(nifti())[:-20]), skipped("truncated")),
    ("nifti, CRC", "ct", make.bad_gzip(make.wrong_crc), skipped("corrupt: the compressed data")),
    ("nifti, bomb", "ct", make.bad_gzip(make.gzip_bomb), skipped("more than 4096 bytes follow the 512 bytes")),
    ("nifti, NaN", "mri", make.bad_nifti(make.with_value(np.nan)), skipped("got 1 NaN or infinite of 256")),
    ("nifti, infinity", "mri", make.bad_nifti(make.with_value(-np.inf)), skipped("got 1 NaN or infinite of 256")),
    ("nifti, slope NaN", "ct", make.bad_nifti(nifti(scl_slope=np.nan)), skipped("scl_slope and scl_inter must be finite")),
    ("nifti, slope infinite", "ct", make.bad_nifti(nifti(scl_slope=np.inf)), skipped("scl_slope and scl_inter must be finite")),
    ("nifti, slope 1e30", "mri", make.bad_nifti(nifti(scl_slope=1e30)), skipped("largest magnitude must be")),
    ("nifti, no affine", "ct", make.bad_nifti(nifti(sform_code=0)), skipped("orientation unknown")),
    ("nifti, singular affine", "ct", make.bad_nifti(make.with_affine([1, 0, 0, 0])), skipped("singular")),
    ("nifti, NaN affine", "ct", make.bad_nifti(make.with_affine(NONSENSE)), skipped("affine must be finite")),
    ("nifti, 4-D", "mri", make.bad_nifti(make.claimed(8, 8, 2, 2)), skipped("4-D, 2 volumes")),
    ("nifti, side 0", "ct", make.bad_nifti(make.claimed(8, 0, 4)), skipped("every side must be 1 or more, got 8 × 0 × 4")),
    ("nifti, text", "ct", make.bad_nifti(b"this is no volume\n" * 99), skipped("not a NIfTI file")),
    ("nifti, empty", "ct", make.bad_nifti(b""), skipped("not a NIfTI file")),
    ("nifti, one value", "ct", make.bad_nifti(nifti(HU * 0)), skipped("it must have different values, got 0 everywhere")),
    # pickles
    ("pickle in .npy", "ct", content("bad.npy", make.pickled), passed_over("1 .npy")),
    ("pickle in .npy, film", "xray", content("bad.npy", make.pickled), passed_over("1 .npy")),
    ("pickle in .nii", "ct", make.bad_nifti(make.pickled), skipped("not a NIfTI file")),
    ("pickle in .nii.gz", "ct", make.bad_gzip(lambda: gzip.compress(pickle.dumps(make.Payload()))), skipped("not a NIfTI file")),
    ("pickle in .mha", "mri", make.bad_mha(make.pickled), skipped("not a NRRD or MetaImage")),
    ("pickle in .dcm", "ct", content("bad.dcm", make.pickled), skipped("not a DICOM")),
    ("pickle in .png", "xray", make.bad_png(make.pickled), skipped("not a PNG")),
    # NRRD and MetaImage
    ("nrrd", "mri", make.bad_nrrd(make.nrrd(), HU), READ),
    ("nrrd, cut", "mri", make.bad_nrrd(make.nrrd()[:-9]), skipped("truncated: the header claims 512 bytes of data, got 503")),
    ("nrrd, no orientation", "ct", make.bad_nrrd(make.nrrd(space="")), skipped("orientation unknown")),
    ("nrrd, 30000 cubed", "ct", make.bad_nrrd(make.nrrd("30000 30000 30000")), skipped("its header claims 30000 × 30000 × 30000")),
    ("meta", "mri", make.bad_mha(make.meta(), HU), READ),
    ("meta, cut", "mri", make.bad_mha(make.meta()[:-9]), skipped("truncated: the header claims 512 bytes of data, got 503")),
    ("meta, no orientation", "ct", make.bad_mha(make.meta(matrix="")), skipped("TransformMatrix or .* once, got 0")),
    ("meta, 30000 cubed", "ct", make.bad_mha(make.meta(shape="30000 30000 30000")), skipped("its header claims 30000 × 30000 × 30000")),
    ("meta, outside its folder", "ct", make.outside, skipped("its name alone and be in the same folder")),
    # DICOM films
    ("film, MONOCHROME1", "xray", x_ray(FILM.max() + FILM.min() - FILM, **MONO1), READ),
    ("film, rescaled", "xray", x_ray(FILM * 2.0 - 100, RescaleSlope=2, RescaleIntercept=-100), READ),
    ("film, signed", "xray", x_ray(stored=SIGNED), READ),
    ("film, padding", "xray", x_ray(FRAMED_FILM, np.where(np.isnan(FRAMED_FILM), 60000, FILM), PixelPaddingValue=60000), READ),
    ("film, RLE", "xray", x_ray(transfer_syntax=RLELossless), READ),
    ("film, JPEG 2000", "xray", x_ray(transfer_syntax=JPEG2000Lossless), READ),
    ("film, JPEG lossless", "xray", x_ray(transfer_syntax=JPEGLosslessSV1), Outcome("stopped", "pip install python-gdcm")),
    ("film, no pixels", "xray", x_ray(PixelData=None), skipped("must have pixel data, got none")),
    ("film, 65535 squared", "xray", x_ray(Rows=65535, Columns=65535), skipped("its header claims 65535 × 65535")),
    ("film, RLE of 65535 squared", "xray", make.empty_rle, skipped("its header claims 65535 × 65535")),
    ("film, empty", "xray", content("bad.dcm", b""), skipped("not a DICOM")),
    # DICOM series
    ("series, MONOCHROME1", "ct", series(**MONO1), skipped("must be MONOCHROME2")),
    ("series, slope", "ct", series(slope=0.5, signed=False), READ),
    ("series, signed", "ct", series(intercept=0.0), READ),
    ("series, unsigned", "ct", series(signed=False), READ),
    ("series, padding", "ct", series(**PADDED), READ),
    ("series, padding and percentiles", "ct intensity@data.intensity=percentiles", series(**PADDED), READ),
    ("series, no position", "ct", series(edit=at(1, ImagePositionPatient=None)), skipped(r"\(ImagePositionPatient\) missing in 1 of 4")),
    ("series, no orientation", "mri", series(modality="MR", ImageOrientationPatient=None), skipped("Patient.* missing in 4 of 4")),
    ("series, a slice twice", "ct", make.copied, READ),
    ("series, a slice missing", "ct", series(edit=places(0, 2, 6, 8)), READ),
    ("series, uneven", "ct", series(edit=places(0, 2, 4, 5)), READ),
    ("series, mixed spacing", "ct", series(edit=at(2, PixelSpacing=[0.7, 0.7])), skipped("same PixelSpacing, got another in 1 of 4")),
    ("series, tilted gantry", "ct", series(edit=places(0, 2, 4, 6, across=0.2)), READ),
    ("series, RLE", "ct", series(transfer_syntax=RLELossless, signed=False), READ),
    ("series, JPEG 2000", "ct", series(transfer_syntax=JPEG2000Lossless, signed=False), READ),
    (
        "series, JPEG lossless",
        "ct",
        make.jpeg_among_many,
        Outcome("stopped", ": a DICOM compressed as JPEG Lossless.*python-gdcm"),
    ),
    ("series, 65535 squared", "ct", series(Rows=65535, Columns=65535), skipped("its header claims 4 × 65535 × 65535")),
    ("series, no pixels", "ct", series(PixelData=None), passed_over("no image")),
    ("series, an empty file", "ct", content("bad.dcm", b""), skipped("not a DICOM")),
    ("two series in a folder", "ct", make.two_in_a_folder, READ),
    ("localizer", "ct", series(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), passed_over(r"localizers \(scouts, by ImageType\)")),
    ("other modality", "ct", series(modality="PT"), passed_over("series of modality PT")),
    ("other modality, film", "xray", make.ct_slices, passed_over("4 images of modality CT, which are no films")),
    ("modality that is a name", "ct", series(modality="SECRET DOE"), passed_over("1 series of another modality")),
    # folders
    ("links in a loop", "ct", make.tangle, READ),
    ("linked twice", "ct", make.linked_twice, READ),
    ("no permission", "ct", content("closed.nii", nifti()), skipped("permission denied")),
    ("no permission, film", "xray", content("closed.png", make.cut_png), skipped("permission denied")),
    # pictures
    ("png, 16-bit color", "xray", make.bad_png(make.deep_colour), skipped("16-bit color")),
    ("png, cut", "xray", make.bad_png(make.cut_png), skipped("corrupt or truncated")),
    ("png, 65535 squared", "xray", make.bad_png(lambda: make.png(65535, 65535)), skipped("at most 67 million pixels")),
    ("png, text bomb", "xray", make.bad_png(make.text_bomb), skipped("corrupt")),
    ("png, as large as may be", "xray", make.bad_png(make.largest_png), skipped("got 0 everywhere")),
    ("png, empty", "xray", make.bad_png(b""), skipped("not a PNG")),
    # our own export
    ("our own volumes", "ct", make.exported, READ_AND_WARNED),
    ("our own films", "xray", make.exported_films, READ_AND_WARNED),
]
SLOW = ("png, as large as may be",)  # in the test of time and memory only
SKIPPED = {name for name, _, _, outcome in ROWS if outcome.kind == "skipped"}
WORST = [row for row in ROWS if any(word in row[0] for word in ("30000", "65535", "bomb", "loop", *SLOW))]


@pytest.fixture(autouse=True)
def _closed_files(monkeypatch):
    """Files named closed… may not be opened: root, which runs tests in containers, may open everything."""
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, *rest, **more: not Path(path).name.startswith("closed") and access(path, *rest, **more))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """kind -> the images of the sound scans when they are alone, made once."""
    found = {}

    def images_alone(kind):
        if kind not in found:
            root = tmp_path_factory.mktemp("clean") / "set"
            make.write_good(kind, root)
            found[kind] = images_of(make.read(kind, root))
        return found[kind]

    return images_alone


def images_of(data):
    """File name -> (n, H, W) in native units, as validation shows them."""
    images = {}
    for batch in data.val_dataloader():
        for row, image in zip(batch["record"].tolist(), batch["image"], strict=True):
            record = data.records[row]
            images.setdefault(record.name, []).append(from_unit(image, data.cache.entries[record.digest]["levels"]).numpy())
    return {name: np.stack(slices) for name, slices in images.items()}


def check(data, images, start, expected):
    """The images of the one scan whose name starts so are `expected` within the levels; its NaN are padding: the least value."""
    (name,) = (name for name in images if name.startswith(start))
    (record,) = (record for record in data.records if record.name == name)
    ((low, high),) = data.cache.entries[record.digest]["levels"]
    if (low, high) != (-1000, 400):  # no fixed window
        assert np.allclose((low, high), np.nanpercentile(expected, [0.5, 99.5]), atol=1e-3)
    whole = np.where(np.isnan(expected), np.nanmin(expected), expected).clip(low, high)
    assert images[name].shape == expected.shape
    assert np.abs(images[name] - whole).max() <= (high - low) / 65535 + 1e-3


@pytest.mark.parametrize(("kind", "maker", "outcome"), [pytest.param(*row[1:], id=row[0]) for row in ROWS if row[0] not in SLOW])
def test_what_becomes_of_it(kind, maker, outcome, tmp_path, clean):
    root = tmp_path / "set"
    good = make.write_good(kind, root)
    bad = maker(root)
    if outcome.kind == "stopped":
        if set(pydicom.pixels.get_decoder(JPEGLosslessSV1).available_plugins) - {"pillow"}:
            pytest.skip("a decoder is installed")
        with pytest.raises(RuntimeError, match=outcome.words):
            make.read(kind, root)
        return
    data = make.read(kind, root)
    images = images_of(data)
    read = good | bad if outcome.kind == "read" else good
    assert len(images) == len(read)
    for start, expected in read.items():
        check(data, images, start, expected)
    assert all(np.array_equal(images[name], image) for name, image in clean(kind).items())
    reasons, lines = "".join(data.unusable.values()), "\n".join(data.describe())
    assert len(data.unusable) == (outcome.kind == "skipped")
    assert re.search(outcome.words, reasons if outcome.kind == "skipped" else lines)
    assert not any(word in reasons for word in ("bad.", str(tmp_path)))
    assert not any(word in reasons + lines for word in ("SECRET", "Doe"))
    assert not Path("pwned").exists()


def test_the_payload_would_have_worked():
    pickle.loads(pickle.dumps(make.Payload()))
    assert Path("pwned").exists()


def test_more_unusable_than_allowed_stop_the_run_with_their_names(tmp_path):
    make.write_good("ct", tmp_path / "set")
    make.bad_nifti(nifti()[:-9])(tmp_path / "set")
    with pytest.raises(ValueError, match=r"at most 1 % may be unusable .* 1 of 3 .* bad.nii: truncated: the header claims 512 bytes"):
        make.read("ct", tmp_path / "set", max_corrupt=0.01)
