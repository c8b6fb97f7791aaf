"""CT that is not in HU: spectral maps by their RescaleType, and files whose values are shifted."""

import re

import nibabel as nib
import numpy as np
import pytest
from dicom_files import write_series

from medgan_pl.data.companion import Companion, Masks
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.files.records import Item
from medgan_pl.data.hounsfield import no_hu, shares
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


def body():
    """A trunk of 40 HU in air: fat around it, lungs, a little cortical bone, and edges between."""
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in (6, 40, 40)], indexing="ij")
    hu = np.full(z.shape, -1000.0)
    for radius, value in ((0.9, -600), (0.85, -100), (0.75, 40), (0.1, 1000)):
        hu[x**2 + y**2 < radius**2] = value
    hu[(abs(x) - 0.45) ** 2 / 0.04 + y**2 / 0.1 < 1] = -850
    return hu + np.random.default_rng(0).normal(0, 10, hu.shape)


TRUE = {  # a masked background is no air, and a field inside the body has none
    "a trunk": body(),
    "clipped": np.clip(body(), -1000, 1000),
    "without its background": np.where(body() < -300, -1100, body()),
    "a field inside the body": body()[:, 12:28, 12:28].clip(-150),
    "padding far below air": np.where(np.indices((6, 40, 40))[2] < 8, -2000, body()),
    "padding that was resampled": np.where(np.indices((6, 40, 40))[2] < 8, np.random.default_rng(1).normal(-2000, 9, (6, 40, 40)), body()),
}


@pytest.mark.parametrize("hu", TRUE.values(), ids=TRUE)
def test_true_hu_pass_and_shifted_ones_do_not(hu):
    assert no_hu(shares(hu)) is None
    assert "1000 or 1024 was added" in no_hu(shares(np.where(hu > -1500, hu + 1024, hu)))
    if np.mean(hu < -900) > 0.1 and hu.min() > -1100:
        assert "1024 was subtracted twice" in no_hu(shares(np.where(hu > -1500, hu - 1024, -3024)))


def test_air_is_no_background_and_a_dense_phantom_in_air_is_true():
    phantom = np.where(body() > 0, 1000.0, np.random.default_rng(0).normal(-1000, 10, (6, 40, 40)))
    assert shares(phantom)["dense"] > 0.2
    assert no_hu(shares(phantom)) is None
    assert "1024 was added" in no_hu(shares(np.where(body() < -300, -1100, body() + 1024)))


def test_a_series_whose_intercept_is_0_by_mistake_stops_training_and_apply(tmp_path):
    for i, intercept in enumerate((-1024, -1024, 0)):
        edit = lambda _, ds, b=intercept: setattr(ds, "RescaleIntercept", b)  # noqa: E731
        write_series(tmp_path / "ct" / f"p{i}", body() + i, series_uid=f"1.{i}", patient_id=f"P{i}", edit=edit)
    made = data(tmp_path / "ct")
    with pytest.raises(ValueError, match=r"p2/.*lie from 850 to 1250, and 0\.0% are air: 1000 or 1024 was added, or RescaleIntercept is 0"):
        made.setup()
    assert len(made.unusable) == 1
    source = Companion(modality=CT(), intensity=Window([[-1000, 400]]))
    with pytest.raises(ScanError, match="RescaleIntercept is 0 by mistake"):
        source.read(Item("p2", tuple((tmp_path / "ct" / "p2").iterdir())))


def test_a_shifted_file_with_padding_below_air_stops_training(tmp_path):
    hu = np.where(np.indices((6, 40, 40))[2] < 4, -2000, body() + 1024)
    for i, values in enumerate((body(), body() + 1, hu)):
        (tmp_path / "ct" / f"p{i}").mkdir(parents=True)
        nib.save(nib.Nifti1Image(values.T.astype(np.int16), np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "ct" / f"p{i}" / "ct.nii.gz")
    made = data(tmp_path / "ct")
    with pytest.raises(ValueError, match=r"p2/ct\.nii\.gz: .* are air: 1000 or 1024 was added"):
        made.setup()
    assert list(made.unusable) == ["p2/ct.nii.gz"]
