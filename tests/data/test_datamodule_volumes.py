"""CT and MRI through the data module: slices, patches and whole volumes, from files and from the cohort."""

import re
from itertools import islice
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from dicom_files import write_series

from medgan_pl.data.companion import Companion
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.degrade import Blur, Chain, LowDose, Shrink
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


def test_a_decathlon_folder_and_masks(tmp_path):
    for i in range(8):
        write_nifti(tmp_path / "imagesTr" / f"lung_{i}.nii.gz", hu(i))
        write_nifti(tmp_path / "labelsTr" / f"lung_{i}.nii.gz", (hu(i) > 0).astype(np.uint8))
    options = {"size": [20, 24], "spacing_mm": 1.0}
    data = module(tmp_path, **options)
    assert len(data.records) == 8
    assert "left out: 8 masks" in data.describe()[0]
    listed = ", ".join(f'{{"image": "./imagesTr/lung_{i}.nii.gz", "label": "./labelsTr/lung_{i}.nii.gz"}}' for i in range(8))
    (tmp_path / "dataset.json").write_text(f'{{"training": [{listed}], "test": []}}')
    data = module(tmp_path, **options)
    assert len({record.patient for record in data.records}) == 8
    assert "Decathlon" in data.describe()[0]
    assert not data.unusable


def test_a_csv_of_folders_of_slices_with_labels_and_splits(tmp_path):
    rows = ["image,label,patient,split"]
    for p in range(6):
        write_series(tmp_path / "s" / str(p), hu(p).astype(float), series_uid=f"1.{p}", patient_id="SAME")
        rows.append(f"s/{p},{('ill', 'well')[p % 2]},p{p},{'train' if p < 4 else 'val'}")
    (tmp_path / "t.csv").write_text("\n".join(rows))
    data = module(tmp_path / "t.csv", split="folders")
    assert data.sizes() == {"train": 20, "val": 10, "test": 0}
    assert data.classes == ("ill", "well")
    assert len({record.patient for record in data.records}) == 6  # the CSV knows better than the header
    batch = next(iter(data.val_dataloader()))
    assert [data.classes[n] for n in batch["label"]] == [data.records[row].label for row in batch["record"]]


def test_hostile_volumes_are_named_with_the_reason(tmp_path):
    root = write_patients(tmp_path / "ct", n=10, scans=1)
    (root / "patient0/scan0.nii.gz").write_bytes((root / "patient0/scan0.nii.gz").read_bytes()[:-300])
    write_nifti(root / "patient1/scan0.nii.gz", np.full(SHAPE, -1024, np.int16))
    with pytest.raises(
        ValueError, match=r"2 of 10 that cannot be used \(20.0 %\): patient0/scan0.nii.gz: truncated.*patient1/scan0.nii.gz: "
    ) as error:
        module(root)
    assert re.search(r"patient1/scan0\.nii\.gz: it must have different values, got -1024 everywhere", str(error.value))
    assert len(module(root, max_corrupt=0.2).records) == 8


@pytest.mark.parametrize(
    ("shape", "spacing", "options", "why"),
    [
        ((20000, 4, 4), SPACING, {"size": 256}, "a volume's slices may have at most 134,217,728 pixels, got 20000 of 256 × 256"),
        (
            (5, 20, 24),
            (9e5, 1.0, 1.0),
            {"spatial_dims": 3, "size": 8, "patches": 2, "spacing_mm": 1.0},
            "an image may have at most 268,435,456",
        ),
        ((20000, 4, 4), (150.0, 1.0, 1.0), {"spatial_dims": 3, "size": 8, "patches": 2, "spacing_mm": 1.0}, "20,000 that become 3,000,000"),
    ],
)
def test_a_volume_too_large_to_prepare_is_skipped_and_counted(tmp_path, shape, spacing, options, why):
    root = write_patients(tmp_path / "ct", n=5, scans=1)
    write_nifti(root / "huge" / "scan0.nii", hu(9, shape), spacing)
    with pytest.raises(ValueError, match=rf"1 of 6 that cannot be used \(16.7 %\): huge/scan0.nii: .*{why}"):
        module(root, **options)
    data = module(root, **options, max_corrupt=0.2)
    assert len(data.records) == 5
    assert "1 cannot be used and are left out" in data.describe()


def test_masks_and_secondary_captures_among_volumes_are_left_out_and_counted(tmp_path):
    root = write_patients(tmp_path / "ct", n=5, scans=1)
    for p in range(5):
        write_nifti(root / f"patient{p}" / f"patient{p}_seg.nii.gz", (hu(p) > 0).astype(np.uint8))
    write_series(root / "report", hu(9, (1, 8, 8)).astype(float), SOPClassUID="1.2.840.10008.5.1.4.1.1.7")
    data = module(root)
    assert [record.name for record in data.records] == [f"patient{p}/scan0.nii.gz" for p in range(5)]
    assert "left out: 5 masks" in data.describe()[0]
    assert "passed over: 1 secondary captures (reports, screenshots)" in data.describe()


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


def low_dose(pixel_mm, windows_hu=((-1000, 400),)):
    return LowDose(windows_hu=windows_hu, pixel_mm=pixel_mm, photons=1e5, views=8)


def test_a_degradation_counts_on_the_pixels_that_it_is_given(tmp_path):
    root = write_patients(tmp_path / "ct", n=5, scans=1)
    for what, steps, key, right, stated in (
        ("alone", lambda pixel_mm: low_dose(pixel_mm), "data.degrade", 2, "data.size"),
        ("after blur", lambda pixel_mm: Chain([Blur(1.0), low_dose(pixel_mm)]), "data.degrade.steps.1", 2, "data.size"),
        ("after shrinking", lambda pixel_mm: Chain([Shrink(factor=2), low_dose(pixel_mm)]), "data.degrade.steps.1", 4, "data.size / 2"),
        ("twice", lambda mm: Chain([low_dose(2), Shrink(factor=4), low_dose(mm)]), "data.degrade.steps.2", 8, "data.size / 4"),
        ("enlarged back", lambda mm: Chain([Shrink(factor=2, axes=[0]), low_dose(mm)]), "data.degrade.steps.1", 2, "data.size"),
        ("nested", lambda mm: Chain([Shrink(factor=2), Chain([low_dose(mm)])]), "data.degrade.steps.1.steps.0", 4, "data.size / 2"),
    ):
        module(root, spacing_mm=2.0, degrade=steps(right))
        for wrong in (right / 2, right * 2):
            told = rf"got {wrong:g}, and the images have {right} mm there; use {key}\.pixel_mm={right}"
            with pytest.raises(ValueError, match=rf"{key}\.pixel_mm must be the side of a pixel at {stated}, .*{told}"):
                print(what, module(root, spacing_mm=2.0, degrade=steps(wrong)))


def test_a_degradation_counts_on_the_windows_of_what_it_is_given():
    lung, soft = [-1000, 400], [-160, 240]
    cohort = {"patients": 10, "shape": [8, 16, 16]}
    common = {"modality": CT(), "size": 16, "cohort": cohort}
    both = {**common, "intensity": Window([lung, soft]), "channels": 2}
    source = {"source": Companion(modality=CT(), intensity=Window([soft]))}
    ImageDataModule(**both, degrade=low_dose(2, [lung, soft]))
    ImageDataModule(**common, intensity=Window([lung]), beside=source, degrade=low_dose(2, [soft]))
    for options, degrade, message in (
        (
            {**common, "intensity": Window([lung])},
            low_dose(2, [soft]),
            "data.degrade.windows_hu must be data.intensity.windows_hu, the values of -1 and 1, "
            "got [[-160.0, 240.0]] and [[-1000.0, 400.0]]; "
            "use data.degrade.windows_hu=[[-1000.0,400.0]]",
        ),
        (both, Chain([Blur(1.0), low_dose(2, [lung])]), "data.degrade.steps.1.windows_hu must be data.intensity.windows_hu"),
        (both, low_dose(2, [soft, lung]), "got [[-160.0, 240.0], [-1000.0, 400.0]] and [[-1000.0, 400.0], [-160.0, 240.0]]"),
        ({**common, "intensity": Percentiles()}, low_dose(2), "and none; use intensity@data.intensity=window"),
        (
            {**common, "intensity": Window([lung]), "beside": source},
            low_dose(2, [lung]),
            "must be data.beside.source.intensity.windows_hu",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            ImageDataModule(**options, degrade=degrade)
