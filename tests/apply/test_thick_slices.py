"""Thick slices come back as thin ones of the same field."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from apply.shifting import (
    a_volume,
    oblique,
    shifted,
)
from data.dicom_files import write_series
from pydicom import dcmread

from medgan_pl.data.degrade import Chain, Gaussian, Shrink
from medgan_pl.data.export import Facts, Provenance
from medgan_pl.data.export.derived import write_derived
from medgan_pl.data.readers.series import read_series


@pytest.mark.parametrize("sampled", ["as trained", "thinner"])
def test_thick_slices_come_back_as_thin_ones_of_the_same_field(trained, applied, tmp_path, sampled) -> None:
    """Four for each, on the line through the slices' middles, also by way of the thickness of training."""
    thick_mm = {"as trained": 4.0, "thinner": 3.0}[sampled]
    volume = np.rint(np.linspace(-900, 300, 8))[None, None].repeat(18, 0).repeat(20, 1).astype(np.int16)
    affine = oblique(tmp_path / "ct.nii.gz", volume.transpose(0, 2, 1), (0.5, 0.8, thick_mm))
    sizes = ("image.spatial_dims=3", "data.size=[16,16,16]", "degrade@data.degrade=thick_slices_x4")
    checkpoint = trained(*sizes, spacing_mm=[1.0, 0.8, 0.5])
    common = (f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    if sampled == "thinner":
        code, said = applied(*common)
        assert code == 1
        assert "of training, 4 × 0.8 × 0.5 mm, got 3 × 0.8 × 0.5 mm" in said
    code, said = applied(*common, f"resample={str(sampled == 'thinner').lower()}")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz")
    assert made.shape == (18, 32, 20)
    corners = np.array([[-0.5, -0.5, -0.5, 1], [17.5, 7.5, 19.5, 1]]).T
    finer = np.array([[-0.5, -0.5, -0.5, 1], [17.5, 31.5, 19.5, 1]]).T
    assert np.abs(made.affine @ finer - affine @ corners).max() < 1e-4
    line = np.interp((np.arange(32) + 0.5) / 4 - 0.5, np.arange(8), volume[0, 0])
    off = made.get_fdata() - shifted(line)[None, :, None]
    assert np.abs(off[:, 4:-4]).max() < {"as trained": 0.1, "thinner": 1200 / 7 / 10}[sampled]  # a tenth of what lies between two slices
    assert json.loads(Path("out/ct.nii.gz.json").read_text())["spacing_mm"] == pytest.approx([thick_mm / 4, 0.8, 0.5])


@pytest.mark.parametrize(
    ("steps", "dims", "expected"),
    [
        ([], 3, (1, 1, 1)),
        ([Shrink(factor=2, axes=[0, 2])], 3, (2, 1, 2)),
        ([Gaussian(sd=0.1), Chain([Shrink(factor=4, axes=[0])])], 3, (4, 1, 1)),
        ([Shrink(factor=4, axes=[0]), Shrink(factor=2, axes=[0])], 3, (4, 1, 1)),  # the second blurs thin slices that were interpolated
        ([Shrink(factor=4)], 3, (1, 1, 1)),  # a smaller source: the generator itself enlarges
        ([Shrink(factor=4, axes=[0])], 2, (4, 1)),
    ],
)
def test_how_thick_slices_were(steps, dims, expected) -> None:
    assert Chain(steps).frame(dims).thickness == expected


def test_thick_rows_of_coronal_planes_are_thick_slices(trained, applied, tmp_path) -> None:
    """Slices of 4 mm, seen from the front: four rows for each."""
    affine = oblique(tmp_path / "ct.nii.gz", a_volume(18, 8, 3), (0.5, 0.8, 4.0))
    thick = "{_target_: medgan_pl.data.degrade.Chain, steps: [{_target_: medgan_pl.data.degrade.Shrink, factor: 4, axes: [0]}]}"
    chain = ("degrade@data.degrade=none", f"+data.degrade={thick}")
    checkpoint = trained("data.slices.axis=coronal", *chain, spacing_mm=[1.0, 0.5])
    code, said = applied(f"checkpoint={checkpoint}", "input=ct.nii.gz", "output=out", "device=cpu")
    assert code == 0, said
    made = nibabel.load("out/ct.nii.gz")
    assert made.shape == (18, 32, 3)
    ends = np.array([[-0.5, -0.5, 0, 1], [17.5, 31.5, 2, 1]]).T
    assert np.abs(made.affine @ ends - affine @ np.array([[-0.5, -0.5, 0, 1], [17.5, 7.5, 2, 1]]).T).max() < 1e-4


def test_a_series_of_thick_slices_becomes_one_of_thin_ones(trained, applied, tmp_path) -> None:
    write_series(tmp_path / "in", a_volume(3, 12, 14), SliceThickness=2.5)  # 2.5 apart
    sizes = ("image.spatial_dims=3", "data.size=[8,8,8]", "model.generator.levels=1", "degrade@data.degrade=thick_slices_x4")
    checkpoint = trained(*sizes, spacing_mm=[2.5 / 4, 0.8, 0.5])
    code, said = applied(f"checkpoint={checkpoint}", "input=in", "output=out", "device=cpu")
    assert code == 0, said
    before, after = (read_series(sorted(Path(folder).glob("*.dcm"))) for folder in ("in", "out/in"))
    assert after.pixels.shape == (12, 12, 14)
    assert np.allclose(after.affine @ [-0.5, 0, 0, 1], before.affine @ [-0.5, 0, 0, 1], atol=1e-4)
    assert np.allclose(after.affine @ [11.5, 0, 0, 1], before.affine @ [2.5, 0, 0, 1], atol=1e-4)
    assert dcmread("out/in/0001.dcm").SliceThickness == pytest.approx(2.5 / 4)


@pytest.mark.parametrize(("factor", "thickness_mm"), [(1, 4), (2, 1.25)])
def test_slices_are_as_thick_as_they_were_unless_there_are_more(tmp_path, factor, thickness_mm) -> None:
    sources = write_series(tmp_path / "in", a_volume(2, 6, 6), SliceThickness=4)
    affine = np.diag([2.5 / factor, -0.8, -0.5, 1.0])[[2, 1, 0, 3]]
    origin = Provenance("a", "0" * 64, 0, 0, "2020", {})
    values = a_volume(2 * factor, 6, 6)
    write_derived(
        tmp_path / "out", values, sources, Facts(0, "HU", -1000, 400), origin, modality="CT", affine=affine, factors=(factor, 1, 1)
    )
    one = dcmread(tmp_path / "out" / "0001.dcm")
    assert (one.SliceThickness, one.SpacingBetweenSlices) == (thickness_mm, 2.5 / factor)
