"""Volumes as they come: sets of files, what is left out of them, and the pixels that a degradation counts on."""

import re

import numpy as np
import pytest
from dicom_files import write_series
from test_datamodule_volumes import SHAPE, SPACING, hu, module, write_nifti, write_patients

from medgan_pl.data.companion import Companion
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.degrade import Blur, Chain, LowDose, Shrink
from medgan_pl.data.intensity import Percentiles, Window
from medgan_pl.data.modalities import CT


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
