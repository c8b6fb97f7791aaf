"""CT and MRI through the data module: slices, patches and whole volumes, from files and from the cohort."""

from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from dicom_files import write_series

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import Percentiles, Window, ZScore
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.readers.nifti import read_nifti

SHAPE = (5, 20, 24)  # slices, rows, columns
SPACING = (3.0, 1.0, 1.0)
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def hu(seed, shape=SHAPE):
    return np.random.default_rng(seed).integers(-900, 300, shape).astype(np.int16)


def write_nifti(path, volume, spacing=SPACING):
    """volume (D, H, W): feet to head, front to back, right to left; stored as NIfTI is used to have it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = LPS @ np.diag([spacing[2], spacing[1], spacing[0], 1.0])
    nib.Nifti1Image(np.ascontiguousarray(volume.transpose(2, 1, 0)), affine).to_filename(path)


def write_patients(root, n=10, scans=2):
    for p in range(n):
        for s in range(scans):
            write_nifti(root / f"patient{p}" / f"scan{s}.nii.gz", hu(10 * p + s))
    return root


@pytest.fixture(scope="module")
def patients(tmp_path_factory):
    """The folder of ten patients with a scan each, only to be read."""
    return write_patients(tmp_path_factory.mktemp("patients"), scans=1)


def module(root, **options):
    own = {
        "modality": CT(), "intensity": Window([[-1000, 400]]), "size": 16, "batch_size": 4, "cache": {"dir": "cache"},
        "classes": "none", "fractions": [0.6, 0.2, 0.2],
    }  # fmt: skip
    data = ImageDataModule(**{**own, "root": None if root is None else str(root), **options})
    data.prepare_data()
    data.setup()
    return data


def sides(data, key):
    """What lies in train, val and test, by `key` of the record of each image."""
    return [{key(data.records[record]) for record in data.image_records[rows]} for rows in data.rows.values()]


def apart(data):
    train, val, test = sides(data, lambda record: record.patient)
    return not (train & val | train & test | val & test) and train and val


def native(image, low=-1000, high=400):
    return (image.numpy() + 1) / 2 * (high - low) + low


def test_slices_of_nifti_are_exact_and_no_patient_is_on_two_sides(tmp_path):
    data = module(write_patients(tmp_path / "ct"), size=[20, 24], spacing_mm=1.0)
    assert len(data.records) == 20
    assert len({record.patient for record in data.records}) == 10  # a folder is a patient
    assert sum(data.sizes().values()) == 20 * 5
    assert apart(data)
    assert "train: 60 images from 12 scans of 6 patients" in data.describe()
    assert "stored as uint16: at most 0.011 HU off" in data.describe()
    seen = 0
    for batch in islice(data.endless_loader(), 15):
        for image, row in zip(batch["image"], batch["record"], strict=True):
            volume = read_nifti(data.records[row].paths[0]).pixels
            assert np.abs(native(image[0]) - volume).max(axis=(1, 2)).min() < 0.02  # HU: it is one of its slices
            seen += 1
    assert seen == 60
    assert data.inverse.levels == ((-1000, 400),)
    assert (data.inverse.unit, data.inverse.modality, data.inverse.spacing_mm) == ("HU", "CT", (1.0, 1.0))
    assert np.allclose(data.inverse(batch["image"][0]), native(batch["image"][0])[0], atol=1e-3)


def test_held_out_slices_come_once_and_in_order(tmp_path):
    data = module(write_patients(tmp_path / "ct"), size=[20, 24], spacing_mm=1.0)
    records = torch.cat([batch["record"] for batch in data.val_dataloader()]).tolist()
    assert records == data.image_records[data.rows["val"]].tolist()
    images = torch.cat([batch["image"] for batch in data.val_dataloader()])
    volume = read_nifti(data.records[records[0]].paths[0]).pixels
    assert np.abs(native(images[:5, 0]) - volume).max() < 0.02


def test_a_dicom_series_and_the_same_volume_in_nifti_are_the_same_images(tmp_path):
    for p in range(6):
        write_series(tmp_path / "dicom" / f"p{p}", hu(p).astype(float), spacing_mm=SPACING, series_uid=f"1.{p}", patient_id=f"ID-{p}")
        write_nifti(tmp_path / "nifti" / f"p{p}" / "ct.nii", hu(p))
    dicom, nifti = (module(tmp_path / kind, spacing_mm=1.0) for kind in ("dicom", "nifti"))
    assert sorted(r.pixels for r in dicom.records) == sorted(r.pixels for r in nifti.records)
    by_pixels = {}
    for data in (dicom, nifti):
        for i, record in enumerate(data.records):
            by_pixels.setdefault(record.pixels, []).append(data.gather(np.flatnonzero(data.image_records == i), np.zeros(5)))
    assert all(torch.equal(a, b) for a, b in by_pixels.values())
    assert all(len(record.paths) == 5 for record in dicom.records)
    kept = b"".join(path.read_bytes() for path in Path("cache").rglob("*") if path.is_file())
    assert b"ID-1" not in kept


@pytest.mark.parametrize(("axis", "count", "size"), [("axial", 5, (20, 24)), ("coronal", 20, (15, 24)), ("sagittal", 24, (15, 20))])
def test_every_plane_and_the_slices_asked_for(patients, axis, count, size):
    data = module(patients, size=list(size), spacing_mm=1.0, slices={"axis": axis})
    assert data.sizes()["train"] == 6 * count
    some = module(patients, size=list(size), spacing_mm=1.0, slices={"axis": axis, "part": [0.0, 0.5], "step": 2})
    assert some.sizes()["train"] == 6 * len(range(0, round(count / 2), 2))
    assert next(iter(data.val_dataloader()))["image"].shape == (4, 1, *size)


def test_two_windows_are_two_channels(patients):
    windows = [[-1000, 400], [-160, 240]]
    data = module(patients, size=[20, 24], spacing_mm=1.0, channels=2, intensity=Window(windows))
    batch = next(iter(data.val_dataloader()))
    assert batch["image"].shape == (4, 2, 20, 24)
    assert data.inverse.levels == ((-1000, 400), (-160, 240))
    volume = read_nifti(data.records[batch["record"][0]].paths[0]).pixels
    for channel, (low, high) in enumerate(windows):
        assert np.abs(native(batch["image"][0, channel], low, high) - volume[0].clip(low, high)).max() < 0.02
    assert np.abs(data.inverse(batch["image"][0]).numpy() - volume[0]).max() < 0.02


def test_whole_volumes_keep_their_proportions(patients):
    data = module(patients, spatial_dims=3, size=[5, 8, 8], spacing_mm=[3.0, 2.0, 2.0])
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, 5, 8, 8)
    assert data.sizes() == {"train": 6, "val": 2, "test": 2}
    volume = read_nifti(data.records[batch["record"][0]].paths[0]).pixels[:, 2:18, 4:20]
    assert np.abs(native(batch["image"][0, 0]) - volume.reshape(5, 8, 2, 8, 2).mean((2, 4))).max() < 0.05
    assert np.allclose(np.diag(data.inverse.affine((5, 8, 8))[:3, :3][::-1]), [3, -2, -2])


def test_patches_come_from_anywhere_and_the_same_for_the_same_turn(patients):
    data = module(patients, spatial_dims=3, size=[4, 8, 8], patches=5)
    assert data.sizes() == {"train": 30, "val": 10, "test": 10}
    batches = list(islice(data.endless_loader(), 30))
    again = list(islice(module(patients, spatial_dims=3, size=[4, 8, 8], patches=5).endless_loader(), 30))
    other = list(islice(module(patients, spatial_dims=3, size=[4, 8, 8], patches=5, seed=1).endless_loader(), 30))
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(batches, again, strict=True))
    assert not any(torch.equal(a["image"], b["image"]) for a, b in zip(batches, other, strict=True))
    starts = set()
    for batch in batches:
        for image, row in zip(batch["image"], batch["record"], strict=True):
            volume = read_nifti(data.records[row].paths[0]).pixels
            windows = np.lib.stride_tricks.sliding_window_view(volume, (4, 8, 8))
            found = np.argwhere(np.abs(windows[..., 0, 0, 0] - native(image[0, 0, 0, 0])) < 0.02)
            places = [tuple(f) for f in found if np.abs(windows[tuple(f)] - native(image[0])).max() < 0.02]
            assert len(places) == 1
            starts.update(places)
    assert len(starts) > 80  # 120 patches of 2 × 13 × 17 places
    val = [batch["image"] for batch in data.val_dataloader()]
    assert all(torch.equal(a, b) for a, b in zip(val, [batch["image"] for batch in data.val_dataloader()], strict=True))
    assert module(patients, spatial_dims=3, size=[8, 8, 32], patches=2).gather(np.arange(2), np.arange(2)).shape == (2, 1, 8, 8, 32)


def test_mri_is_evened_out_by_its_own_contrast(tmp_path):
    for p in range(10):
        write_nifti(tmp_path / f"sub-{p}_T1w.nii.gz", (hu(p) + 1000) * (p + 1))  # each scanner its own scale
    data = module(tmp_path, modality=MRI(), intensity=ZScore(), size=[20, 24], spacing_mm=1.0, patient_pattern="sub-[0-9A-Za-z]+")
    images = torch.cat([batch["image"] for batch in data.val_dataloader()])
    assert images.mean((1, 2, 3)).abs().max() < 0.1
    assert len({record.patient for record in data.records}) == 10
    assert data.inverse.unit == "signal"
    assert "thousandths of the range" in data.describe()[-1]


def test_a_lossy_format_is_refused_before_training(patients):
    with pytest.raises(ValueError, match=r"^data.cache.dtype must keep every value within 1 HU, got uint8, which loses up to 2.75"):
        module(patients, cache={"dir": "cache", "dtype": "uint8"})
    exact = module(patients, size=[20, 24], spacing_mm=1.0, cache={"dir": "cache", "dtype": "float32"})
    batch = next(iter(exact.val_dataloader()))
    assert np.abs(native(batch["image"][0, 0]) - read_nifti(exact.records[batch["record"][0]].paths[0]).pixels[0]).max() < 1e-3


COHORT = {"patients": 10, "shape": [8, 16, 16]}


@pytest.mark.parametrize(
    ("modality", "intensity", "options", "shape"),
    [
        (XRay(), Percentiles(), {"cohort": {"patients": 10}}, (16, 16)),
        (CT(), Window([[-1000, 400]]), {"cohort": COHORT}, (16, 16)),
        (CT(), Window([[-1000, 400]]), {"cohort": COHORT, "spatial_dims": 3, "size": [8, 16, 16]}, (8, 16, 16)),
        (CT(), Window([[-1000, 400]]), {"cohort": COHORT, "spatial_dims": 3, "size": 8, "patches": 3}, (8, 8, 8)),
        (MRI(), Percentiles(), {"cohort": COHORT}, (16, 16)),
        (MRI(), Percentiles(), {"cohort": COHORT, "spatial_dims": 3, "size": [8, 16, 16]}, (8, 16, 16)),
    ],
)
def test_the_cohort_in_every_modality(modality, intensity, options, shape):
    data = module(None, modality=modality, intensity=intensity, **options)
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (4, 1, *shape)
    assert batch["image"].isfinite().all()
    assert (batch["image"].amin(), batch["image"].amax()) != (0, 0)
    assert batch["label"].max() < len(data.classes)
    assert len(data.records) == 10
    assert data.phantom
    assert apart(data)
    assert data.inverse.plain()["modality"] == modality.name


def test_the_way_a_file_is_read_is_part_of_what_is_remembered(tmp_path):
    """The same file under another setting of its reader must not come out of the cache as the first was."""
    root = tmp_path / "mr"
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in (8, 16, 16)), indexing="ij")
    for p in range(2):
        ball = (z**2 + y**2 + x**2 < 0.9) * (100.0 + p) * (1 + 0.5 * x)
        write_nifti(root / f"p{p}" / "t1.nii", ball.astype(np.float32))
    options = {"intensity": Percentiles(), "size": [8, 16, 16], "spatial_dims": 3, "spacing_mm": list(SPACING), "split": "none"}
    plain, even = (module(root, modality=MRI(bias_field=on), **options) for on in (False, True))
    assert plain.cache.folder != even.cache.folder
    a, b = (data.gather(np.array([0]), np.array([0])) for data in (plain, even))
    assert (a - b).abs().max() > 0.1
