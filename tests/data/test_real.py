"""The real files, where MEDGAN_REAL_DATA names their folder: what the issue promised of them."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
from pydicom.pixels import apply_rescale

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.export import Facts, Provenance, write_dicom, write_nifti
from medgan_pl.data.files.split import straddling
from medgan_pl.data.intensity import Percentiles, Window, from_unit
from medgan_pl.data.modalities import CT, MRI, XRay
from medgan_pl.data.readers.nifti import read_nifti
from medgan_pl.data.readers.series import read_series

REAL = Path(os.environ.get("MEDGAN_REAL_DATA", "nowhere"))
pytestmark = [pytest.mark.real, pytest.mark.skipif(not REAL.is_dir(), reason="MEDGAN_REAL_DATA names no folder")]
NATIVE = {"size": [100, 512, 512], "spacing_mm": [2.5, 0.898438, 0.898438], "spatial_dims": 3}
MADE = Provenance(model="none", checkpoint_sha256="0" * 64, seed=0, images_seen=0, created="2026-11-21T00:00:00+00:00", config={})


def test_ct_as_read_equals_pydicom_where_it_is_no_padding() -> None:
    paths = sorted((REAL / "ct_dicom_cmbcrc").glob("*.dcm"))
    scan = read_series(paths)
    slices = sorted((pydicom.dcmread(path) for path in paths), key=lambda s: float(s.ImagePositionPatient[2]))
    own = np.stack([apply_rescale(s.pixel_array, s) for s in slices])
    padding = np.stack([s.pixel_array == -2000 for s in slices])
    assert (scan.padding == padding).all()
    assert np.abs(scan.pixels - own)[~padding].max() == 0
    assert scan.pixels[padding].max() == own[~padding].min()
    nifti = read_nifti(REAL / "ct_nifti_from_cmbcrc" / "ct_cmbcrc_256x256x100_hu.nii.gz")
    halved = own.clip(-1024, 3071).reshape(100, 256, 2, 256, 2).mean((2, 4))  # as that file was made
    assert np.abs(nifti.pixels - halved).max() <= 0.5


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_ct_through_the_cache_and_out_again(tmp_path: Path, dtype: str) -> None:
    data = ImageDataModule(
        modality=CT(), intensity=Window([[-1024, 3071]]), root=str(REAL / "ct_dicom_cmbcrc"), split="none", batch_size=1,
        cache={"dir": "cache", "dtype": dtype}, **NATIVE,
    )  # fmt: skip
    data.setup()
    entry = data.cache.entries[data.records[0].digest]
    scan = read_series(sorted((REAL / "ct_dicom_cmbcrc").glob("*.dcm")))
    affine = np.array(entry["affine"])
    np.testing.assert_allclose(affine, scan.affine, atol=1e-4)
    image = next(iter(data.val_dataloader()))["image"][0]
    hu = from_unit(image, entry["levels"]).numpy()
    assert np.abs(hu - scan.pixels).max() <= entry["loss"] + 3e-4  # float32 on 4,095 HU
    write_nifti(tmp_path / "out.nii.gz", hu, affine)
    back = read_nifti(tmp_path / "out.nii.gz")
    np.testing.assert_allclose(back.affine, scan.affine, atol=1e-4)
    np.testing.assert_allclose(back.spacing_mm, NATIVE["spacing_mm"], atol=1e-4)
    assert np.abs(back.pixels - scan.pixels).max() <= entry["loss"] + 3e-4
    facts = Facts(index=0, unit="HU", low=-1024, high=3071, spacing_mm=back.spacing_mm)
    write_dicom(tmp_path / "out", hu, facts, MADE, modality="CT", affine=affine)
    series = read_series(sorted((tmp_path / "out").glob("*.dcm")))
    np.testing.assert_allclose(series.affine, scan.affine, atol=1e-4)
    assert np.abs(series.pixels - scan.pixels).max() == 0  # whole HU come back whole
    assert series.synthetic


def test_all_260_hippocampi(tmp_path: Path) -> None:
    data = ImageDataModule(
        modality=MRI(), intensity=Percentiles(), root=str(REAL / "mr_hippocampus_msd" / "hippocampus"), spatial_dims=3, size=32,
        spacing_mm=1, cache={"dir": "cache"},
    )  # fmt: skip
    data.setup()
    assert len(data.records) == 260
    assert not data.unusable
    assert "260 masks" in data.source.title
    for record in data.records[:20]:
        stored = nib.load(record.paths[0]).get_fdata()
        levels = data.cache.entries[record.digest]["levels"][0]
        np.testing.assert_allclose(levels, np.percentile(stored, [0.5, 99.5]), rtol=1e-5, atol=1e-3)


def test_the_overlap_of_the_kermany_films() -> None:
    root = REAL / "chest_xray_kermany224" / "chest_xray"

    def films(**options) -> ImageDataModule:
        options = {"size": 16, **options}
        data = ImageDataModule(modality=XRay(), intensity=Percentiles(), root=str(root), cache={"dir": "cache"}, **options)
        data.setup()
        return data

    # SOURCE.md counts 3,189 name groups, 710 in more than one split: it takes IM-0439-0001 (of IM-0439-0001-0002) and IM-0439
    # (of IM-0439-0001) for two children. Our pattern takes them for one: 71 groups fewer, 15 more that straddle.
    for pattern, torn in ((r"person\d+|^[^.]*?(?=-\d+\.)", (710, 3189)), (None, (725, 3118))):
        data = films(split="folders", duplicates="drop", patient_pattern=pattern)
        patients = [record.patient for record in data.table]
        assert (straddling(patients, [record.split for record in data.table]), len(set(patients))) == torn
        assert data.sizes() == {"train": 4084, "val": 877, "test": 879}
        assert "16 duplicates of held-out images are left out" in "\n".join(data.describe())
    with pytest.raises(ValueError, match="no image may be in two splits, got 15 identical ones"):
        films(split="folders")
    anew = "\n".join(films().describe())
    assert "0 of 3118 patient groups" in anew
    assert "(62 in all), 0 in more than one split" in anew
