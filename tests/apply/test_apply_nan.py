"""NaN in a scan that a generator is applied to: it was padding in training, and it comes back as NaN."""

import nibabel
import numpy as np
import torch
from apply.shifting import a_volume, oblique, shifted
from PIL import Image

from medgan_pl.data.export.alike import alike
from medgan_pl.data.files.records import Item
from medgan_pl.data.modalities import MRI, XRay


def test_nan_comes_back_where_it_was(trained, applied, tmp_path) -> None:
    values = a_volume(41, 9, 23).astype(np.float32)
    values[:5] = values[:, :, 20:] = values[7, 3, 3] = np.nan
    (tmp_path / "in").mkdir()
    oblique(tmp_path / "in" / "ct.nii.gz", values)
    checkpoint = trained()
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert (code, "data.modality.nan=padding" in said) == (1, True)
    run = torch.load(checkpoint, weights_only=True)
    run["medgan_pl"]["pipelines"][""]["modality"]["nan"] = "padding"
    torch.save(run, checkpoint)
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz").get_fdata()
    assert np.array_equal(np.isnan(made), np.isnan(values))
    assert np.nanmax(np.abs(made - shifted(values))) < 0.01


def test_a_finer_result_has_it_in_every_new_voxel_and_labels_have_0(tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    values[1:, 0] = np.nan
    nibabel.Nifti1Image(values, np.diag([-2.0, 2.0, 3.0, 1.0])).to_filename(tmp_path / "a.nii")
    item = Item("a", (tmp_path / "a.nii",))
    scan = MRI(nan="padding").read(item)
    writer = alike(item, scan, (1, 3, 2), {})
    shape = np.array(scan.pixels.shape) * (1, 3, 2)
    spread = nibabel.load(writer.spread(tmp_path / "b", np.ones(shape))).get_fdata()
    labels = nibabel.load(writer.labels(tmp_path / "c", np.ones(shape))).get_fdata()
    expected = np.isnan(values).repeat(2, 0).repeat(3, 1)
    assert np.array_equal(np.isnan(spread), expected)
    assert np.array_equal(labels, ~expected)


def test_in_a_tiff_too(tmp_path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    values[1:, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "a.tif")
    item = Item("a", (tmp_path / "a.tif",))
    writer = alike(item, XRay(nan="padding").read(item), (2, 2), {})
    with (
        Image.open(writer.spread(tmp_path / "b", np.ones((8, 10)))) as spread,
        Image.open(writer.labels(tmp_path / "c", np.ones((8, 10)))) as labels,
    ):
        assert np.array_equal(np.isnan(spread), np.isnan(values).repeat(2, 0).repeat(2, 1))
        assert np.array_equal(labels, ~np.isnan(spread))
