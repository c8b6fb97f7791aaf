"""A trained generator with styles (StarGAN v2) on whole images: styles drawn anew for each pass, and read off a reference."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import nn

from medgan_pl.build import build_module

SIDE = 16
INVERSE = {"levels": [[0.0, 800.0]], "unit": "signal", "modality": "MR", "spacing_mm": [1.0, 1.0], "directions": np.eye(3).tolist()}


@pytest.fixture
def star(settings, tmp_path) -> Path:
    """The checkpoint of a run between T1, T2 and FLAIR whose generator makes something else of every style."""
    config = settings("experiment=star_mr", "model.width=4", f"data.size={SIDE}", "logger=csv")
    module = build_module(config)
    nn.init.normal_(module.average.network.generator.end.conv.weight, std=0.3)
    names = list(config["data"]["domains"])
    levels = {name: INVERSE | {"levels": [[0.0, 800.0 + 100 * place]]} for place, name in enumerate(names)}
    state = {"config": config, "classes": names, "images": 64, "inverse": levels[names[-1]], "inverses": levels, "covariates": []}
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": module.state_dict(), "medgan_pl": state}, path)
    return path


def head(path: Path, *, seed: int = 0, shape: tuple[int, ...] = (SIDE, SIDE, 3)) -> np.ndarray:
    """Writes a NIfTI of spacing 1 mm with values of 0 to 800."""
    volume = np.random.default_rng(seed).integers(0, 800, shape).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(path)
    return volume


def values(path: str) -> np.ndarray:
    return nibabel.load(path).get_fdata()


def test_uncertainty_is_the_spread_of_styles(star, here, tmp_path) -> None:
    head(tmp_path / "in" / "a.nii.gz")
    common = ("apply", f"checkpoint={star}", "input=in", "to=t2", "device=cpu")
    for output in ("x", "y"):
        code, said = here(*common, f"output={output}", "uncertainty=3")
        assert code == 0, said
    for name in ("a.nii.gz", "a_sd.nii.gz"):
        assert Path("x", name).read_bytes() == Path("y", name).read_bytes()
    spread = values("x/a_sd.nii.gz")
    assert spread.shape == (SIDE, SIDE, 3)
    assert spread.mean() > 1
    assert json.loads(Path("x/a_sd.nii.gz.json").read_text())["content"] == "standard deviation over passes"
    assert here(*common, "output=z", "uncertainty=3", "seed=1")[0] == 0
    assert Path("z/a_sd.nii.gz").read_bytes() != Path("x/a_sd.nii.gz").read_bytes()


def test_the_passes_are_the_same_whatever_their_number(star, here, tmp_path) -> None:
    """Of two passes mean and deviation say what each was; of one, the first is what comes out."""
    head(tmp_path / "in" / "a.nii.gz")
    common = ("apply", f"checkpoint={star}", "input=in", "to=t2", "device=cpu")
    assert here(*common, "output=one")[0] == 0
    assert here(*common, "output=two", "uncertainty=2")[0] == 0
    mean, spread = values("two/a.nii.gz"), values("two/a_sd.nii.gz")
    assert np.abs(np.abs(values("one/a.nii.gz") - mean) - spread / np.sqrt(2)).max() < 0.01


def test_all_windows_of_a_pass_have_one_style(star, here, tmp_path) -> None:
    """Four equal windows, made one by one or at once: what is made of them is equal, and so is how far the passes differ."""
    quarter = np.random.default_rng(0).integers(0, 800, (SIDE, SIDE, 1)).astype(np.int16)
    (tmp_path / "in").mkdir()
    nibabel.Nifti1Image(np.tile(quarter, (2, 2, 1)), np.eye(4)).to_filename(tmp_path / "in" / "a.nii.gz")
    for count in (1, 4):
        arguments = ("uncertainty=2", f"window={SIDE}", "overlap=0", f"batch_size={count}", f"output=of{count}", "force=true")
        code, said = here("apply", f"checkpoint={star}", "input=in", "to=t2", "device=cpu", *arguments)
        assert code == 0, said
        spread = values(f"of{count}/a_sd.nii.gz")
        assert spread.mean() > 1
        assert np.allclose(spread[:SIDE, :SIDE], spread[SIDE:, SIDE:], atol=0.01)
        assert np.allclose(spread[:SIDE, :SIDE], spread[SIDE:, :SIDE], atol=0.01)
