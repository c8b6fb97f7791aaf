"""CT that is not in HU: spectral maps by their RescaleType, and files whose values are shifted."""

import re

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series

from medgan_pl.data.companion import Companion, Masks
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Percentiles, Window
from medgan_pl.data.modalities import CT, MRI
from medgan_pl.data.readers.scan import ScanError

HU = np.random.default_rng(0).integers(-1000, 400, (4, 10, 12)).astype(np.float32)
HU[0, 0, 0] = -1000


def volume(path, added=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image((HU.T + added).astype(np.int16), np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("HU", None), (None, None), ("US", None), ("hu", None), ("Z_EFF", "Z_EFF"), ("MGML", "MGML"), ("ED", "ED"), ("EDW", "EDW"),
        ("HU_MOD", "HU_MOD"), ("pct", "PCT"), ("of Jane Doe", "a unit of its own"),
    ],
)  # fmt: skip
def test_a_series_in_another_unit_is_passed_over_with_its_value(tmp_path, kind, named):
    paths = write_series(tmp_path, HU, RescaleType=kind)
    found = CT().gather([Item(path.name, (path,)) for path in paths])
    assert len(found.items) == (named is None)
    assert found.skipped == ({f"CT series in {named} (RescaleType) and not in HU": 1} if named else {})
    assert not found.unusable


def data(root, windows=((-1000, 400),), **options):
    options = {"modality": CT(), "intensity": Window(windows), "classes": "none", "size": 8, "crop": False, **options}
    return ImageDataModule(root=str(root), cache={"dir": str(root.parent / "cache")}, split="none", **options)


@pytest.mark.parametrize("added", [1024, 1000])
def test_shifted_values_stop_training_as_they_stop_apply(tmp_path, added):
    for i in range(4):
        volume(tmp_path / "ct" / f"p{i}" / "ct.nii.gz", added if i == 2 else i)
    made = data(tmp_path / "ct")
    words = f"p2/ct.nii.gz: the window of training begins at -1000 HU, but its minimum is {added - 1000}, while air is below -200; store it"
    with pytest.raises(ValueError, match=re.escape(words)):
        made.setup()
    assert list(made.unusable) == ["p2/ct.nii.gz"]
    some = data(tmp_path / "ct", max_corrupt=0.3)
    some.setup()
    assert [record.name for record in some.records] == ["p0/ct.nii.gz", "p1/ct.nii.gz", "p3/ct.nii.gz"]
    brain = data(tmp_path / "ct", windows=[[0, 80]])  # in its window no air is seen
    brain.setup()
    assert len(brain.records) == 4
    signal = data(tmp_path / "ct", modality=MRI(), intensity=Percentiles())  # a signal has no scale
    signal.setup()
    assert len(signal.records) == 4


def test_a_source_is_checked_and_a_mask_is_not(tmp_path):
    right, off = (Item(path.name, (path,)) for path in (volume(tmp_path / "a.nii.gz"), volume(tmp_path / "b.nii.gz", 1024)))
    source = Companion(modality=CT(), intensity=Window([[-1000, 400]]))
    assert source.read(right).pixels.min() == -1000
    with pytest.raises(ScanError, match="its minimum is 24, while air is below -200; store it in HU"):
        source.read(off)
    assert Masks(modality=CT(), structures=["liver"]).read(off).pixels.min() == 24
    assert Companion(modality=MRI(), intensity=Percentiles()).read(off).pixels.min() == 24
