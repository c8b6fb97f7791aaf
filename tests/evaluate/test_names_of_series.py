"""Pairs of DICOM series: the folder that apply writes for a series is that series' fake."""

from pathlib import Path

import numpy as np
import pytest
import torch
from data.dicom_files import write_series

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.files.records import names_below
from medgan_pl.data.intensity import Window
from medgan_pl.data.modalities import CT
from medgan_pl.data.sets import real_set
from medgan_pl.evaluate.targets.folder import matched, named


def test_names_by_value(tmp_path) -> None:
    def scans(*each: tuple[str, ...]) -> list[list[Path]]:
        return [[tmp_path / name for name in names] for names in each]

    alone, pair, top = ("p1/a.dcm", "p1/b.dcm"), ("p2/1.dcm", "p2/2.dcm"), ("a.dcm", "b.dcm")
    assert names_below(tmp_path, scans(alone, (*pair,), ("p2/7.dcm", "p2/8.dcm"))) == ["p1", "p2/1", "p2/7"]
    assert names_below(tmp_path, scans(top)) == [tmp_path.name]
    assert names_below(tmp_path, scans(("x/ct.1.nrrd", "x/ct.raw"), ("y/a.b.nii.gz",), ("z/film.dcm",))) == ["x/ct.1", "y/a.b", "z/film"]


@pytest.mark.parametrize("mixed", [False, True])
def test_a_series_and_what_apply_made_of_it_are_a_pair(tmp_path, mixed) -> None:
    values = {name: np.random.default_rng(i).integers(-1000, 400, (4, 8, 8)).astype(np.int16) for i, name in enumerate("ab")}
    for number, (name, volume) in enumerate(values.items(), 1):
        folder = tmp_path / "real" / ("all" if mixed else name)
        files = write_series(tmp_path / "raw", volume, series_uid=f"1.{number}")
        folder.mkdir(parents=True, exist_ok=True)
        for path in files:
            path.rename(folder / f"{name}_IM{path.name}")
        first = f"{name}_IM002"  # the lowest slice, see write_series
        made = np.clip(volume + 20, -1000, 400).astype(np.int16)
        write_series(tmp_path / "fake" / (f"all/{first}" if mixed else name), made, series_uid=f"2.{number}")
    modules = [opened(tmp_path / side, tmp_path) for side in ("fake", "real")]
    fake, real = (named(real_set(each, each.rows["train"]), each) for each in modules)
    both = torch.arange(2)
    off = fake[both] - matched(fake, real)[both]
    assert -0.001 < off.min() < off.max() < 0.03  # 20 HU of a range of 1400, on a scale of 2


def opened(root: Path, place: Path) -> ImageDataModule:
    settings = {"split": "none", "spatial_dims": 3, "size": [4, 8, 8], "classes": "none", "cache": {"dir": str(place / "cache")}}
    data = ImageDataModule(modality=CT(), intensity=Window([[-1000, 400]]), root=str(root), **settings)
    data.prepare_data()
    data.setup()
    return data
