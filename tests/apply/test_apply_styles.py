"""A trained generator with styles (StarGAN v2) on whole images: styles drawn anew for each pass, and read off a reference."""

import json
import re
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import torch
from apply.shifting import pipelines_of, settings_of_apply
from data.dicom_files import write_series
from omegaconf import OmegaConf
from PIL import Image
from shared import composed
from torch import nn

from medgan_pl.apply.inference import Inference
from medgan_pl.models.build import build_module
from medgan_pl.models.load import load
from medgan_pl.models.state import FORMAT

SIDE = 16
SMALL = ("model.width=4", f"data.size={SIDE}", "logger=csv")
INVERSE = {"levels": [[0.0, 800.0]], "unit": "signal", "modality": "MR", "spacing_mm": [1.0, 1.0], "directions": np.eye(3).tolist()}


@pytest.fixture
def star(tmp_path) -> Path:
    """The checkpoint of a run between T1, T2 and FLAIR whose generator makes something else of every style."""
    return checkpoint(tmp_path, "experiment=star_mr")


@cache
def parts(*overrides: str) -> dict[str, Any]:
    config = OmegaConf.to_container(composed(*overrides, *SMALL), resolve=True, throw_on_missing=True)
    module = build_module(config)
    nn.init.normal_(module.ema.network.generator.end.conv.weight, std=0.3)
    return {"config": config, "weights": module.state_dict(), "pipelines": pipelines_of(config)}


def checkpoint(folder: Path, *overrides: str) -> Path:
    run = parts(*overrides)
    names = list(run["pipelines"])
    levels = {name: INVERSE | {"levels": [[0.0, 800.0 + 100 * place]]} for place, name in enumerate(names)}
    state = {"format": FORMAT, "config": run["config"], "classes": names, "images": 64, "covariates": [], "inverses": levels}
    state |= {"inverse": levels[names[-1]], "pipelines": run["pipelines"]}
    path = folder / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    torch.save({"state_dict": run["weights"], "medgan_pl": state}, path)
    return path


def head(path: Path, *, seed: int = 0, shape: tuple[int, ...] = (SIDE, SIDE, 3)) -> np.ndarray:
    """Writes a NIfTI of spacing 1 mm with values of 0 to 800."""
    volume = np.random.default_rng(seed).integers(0, 800, shape).astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(path)
    return volume


def values(path: str) -> np.ndarray:
    return nibabel.load(path).get_fdata()


def test_uncertainty_is_the_spread_of_styles(star, applied, tmp_path) -> None:
    head(tmp_path / "in" / "a.nii.gz")
    common = (f"checkpoint={star}", "input=in", "to=t2", "device=cpu")
    for output in ("x", "y"):
        code, said = applied(*common, f"output={output}", "uncertainty=3")
        assert code == 0, said
    for name in ("a.nii.gz", "a_sd.nii.gz"):
        assert Path("x", name).read_bytes() == Path("y", name).read_bytes()
    spread = values("x/a_sd.nii.gz")
    assert spread.shape == (SIDE, SIDE, 3)
    assert spread.mean() > 1
    assert json.loads(Path("x/a_sd.nii.gz.json").read_text())["content"] == "standard deviation over passes"
    assert applied(*common, "output=z", "uncertainty=3", "seed=1")[0] == 0
    assert Path("z/a_sd.nii.gz").read_bytes() != Path("x/a_sd.nii.gz").read_bytes()


def test_the_passes_are_the_same_whatever_their_number(star, applied, tmp_path) -> None:
    """Of two passes mean and deviation say what each was; of one, the first is what comes out."""
    head(tmp_path / "in" / "a.nii.gz")
    common = (f"checkpoint={star}", "input=in", "to=t2", "device=cpu")
    assert applied(*common, "output=one")[0] == 0
    assert applied(*common, "output=two", "uncertainty=2")[0] == 0
    mean, spread = values("two/a.nii.gz"), values("two/a_sd.nii.gz")
    assert np.abs(np.abs(values("one/a.nii.gz") - mean) - spread / np.sqrt(2)).max() < 0.01


def test_all_windows_of_a_pass_have_one_style(star, applied, tmp_path) -> None:
    """Four equal windows, made one by one or at once: what is made of them is equal, and so is how far the passes differ."""
    quarter = np.random.default_rng(0).integers(0, 800, (SIDE, SIDE, 1)).astype(np.int16)
    (tmp_path / "in").mkdir()
    nibabel.Nifti1Image(np.tile(quarter, (2, 2, 1)), np.eye(4)).to_filename(tmp_path / "in" / "a.nii.gz")
    for count in (1, 4):
        arguments = ("uncertainty=2", f"window={SIDE}", "overlap=0", f"batch_size={count}", f"output=of{count}", "force=true")
        code, said = applied(f"checkpoint={star}", "input=in", "to=t2", "device=cpu", *arguments)
        assert code == 0, said
        spread = values(f"of{count}/a_sd.nii.gz")
        assert spread.mean() > 1
        assert np.allclose(spread[:SIDE, :SIDE], spread[SIDE:, SIDE:], atol=0.01)
        assert np.allclose(spread[:SIDE, :SIDE], spread[SIDE:, :SIDE], atol=0.01)


# By a reference -----------------------------------------------------------------------------------------------------------------------


def test_all_take_the_style_of_the_middle_slice_of_the_reference(star, applied, tmp_path) -> None:
    for name in ("a", "b"):
        head(tmp_path / "in" / f"{name}.nii.gz", seed=ord(name))
    look = head(tmp_path / "t2.nii.gz", seed=7, shape=(SIDE, SIDE, 20))
    common = (f"checkpoint={star}", "input=in", "to=t2", "device=cpu")
    code, said = applied(*common, "output=out", "reference=t2.nii.gz")
    assert code == 0, said
    module = load(star)
    low, high = np.percentile(look, (0.5, 99.5))
    unit = np.clip((look - low) / (high - low) * 2 - 1, -1, 1)
    # T2's slices are those from 0.3 to 0.85, every second: 6, 8, … 16, of which 12 is the fourth of six; rows from the front, columns from
    # the right, as `canonical` has them.
    style = torch.from_numpy(unit[::-1, ::-1, 12].T.copy()).float()[None, None]
    for name in ("a", "b"):
        made, volume = values(f"out/{name}.nii.gz"), values(f"in/{name}.nii.gz")
        low, high = np.percentile(volume, (0.5, 99.5))
        source = torch.from_numpy(np.clip((volume[::-1, ::-1, 1].T - low) / (high - low) * 2 - 1, -1, 1)).float()[None, None]
        told = {"image": source, "label": torch.tensor([0]), "target": torch.tensor([1]), "reference": style}
        wanted = (module.generate(told)[0, 0].detach().numpy().T[::-1, ::-1] + 1) / 2 * 900  # T2's levels of training
        assert np.abs(made[:, :, 1] - wanted).max() < 0.1


def test_what_was_made_by_another_reference_is_made_anew(star, applied, tmp_path) -> None:
    head(tmp_path / "in" / "a.nii.gz")
    for seed in (1, 2):
        head(tmp_path / f"{seed}.nii.gz", seed=seed, shape=(SIDE, SIDE, 20))
    common = (f"checkpoint={star}", "input=in", "output=out", "to=t2", "device=cpu")
    made, told = [], []
    for reference in ("reference=1.nii.gz", "reference=2.nii.gz", "reference=null"):
        code, said = applied(*common, reference)
        assert (code, "from before" in said) == (0, False)
        made.append(values("out/a.nii.gz"))
        told.append(json.loads(Path("out/a.nii.gz.json").read_text())["settings"]["reference_sha256"])
    assert told[2] is None
    assert len(set(told)) == 3
    assert min(np.abs(a - b).max() for a, b in pairwise(made)) > 1
    assert "1.nii.gz" not in Path("out/a.nii.gz.json").read_text()
    assert "1 of them from before" in applied(*common)[1]


def test_what_cannot_be_a_reference_is_refused(star, applied, tmp_path) -> None:
    head(tmp_path / "in" / "a.nii.gz")
    head(tmp_path / "t2.nii.gz")
    write_series(tmp_path / "ct", np.random.default_rng(0).integers(-1000, 400, (3, SIDE, SIDE)).astype(np.int16))
    nibabel.Nifti1Image(head(tmp_path / "hu.nii.gz") * 2 - 1000, np.eye(4)).to_filename(tmp_path / "hu.nii.gz")
    (tmp_path / "cut.nii.gz").write_bytes((tmp_path / "t2.nii.gz").read_bytes()[:300])
    common = {"checkpoint": star, "input": "in", "output": "out", "to": "t2"}
    module = load(star)
    for given, message in (
        ({"reference": "t2.nii.gz", "uncertainty": 2}, "`uncertainty` draws a style for each pass, and `reference` gives one for all"),
        ({"reference": "ct"}, "`reference` must contain what the generator was trained on, MR as NIfTI"),
        ({"reference": "nowhere"}, "`reference` must be a file or a folder of images"),
        ({"reference": "cut.nii.gz"}, "`reference` must be a usable image, got "),
        ({"reference": "hu.nii.gz"}, "if it is MR nevertheless, use force=true"),
        ({"reference": "."}, "`reference` must be one image, got 4 in "),
    ):
        with pytest.raises((ValueError, OSError), match=re.escape(message)):
            Inference(module, settings_of_apply(**common, **given))
    assert applied(*(f"{key}={value}" for key, value in common.items()), "reference=ct", "device=cpu")[0] == 1
    assert not Path("out").exists()


def test_films_and_series_of_any_name_are_references(applied, tmp_path) -> None:
    films = ("model=star_gan", "data=domains", *(f"+data@data.domains.{name}=chest_xray" for name in "ab"))
    sizes = [f"data.domains.{name}.size={SIDE}" for name in "ab"]
    Image.fromarray(np.arange(SIDE * SIDE, dtype=np.uint8).reshape(SIDE, SIDE)).save("a.png")
    path = checkpoint(tmp_path / "films", *films, *sizes)
    code, said = applied(f"checkpoint={path}", "input=a.png", "output=out", "reference=a.png", "device=cpu")
    assert code == 0, said
    head(tmp_path / "in" / "t1.nii.gz")
    write_series(tmp_path / "t2", np.random.default_rng(0).integers(0, 900, (3, SIDE, SIDE)).astype(np.int16), modality="MR")
    path = checkpoint(tmp_path / "heads", "experiment=star_mr", "data.domains.t2.modality.series=own")
    for reference in ("t2", "in/t1.nii.gz"):
        code, said = applied(f"checkpoint={path}", "input=in", "output=out", "to=t2", f"reference={reference}", "device=cpu")
        assert code == 0, said


def test_hu_are_no_mri(star, applied, tmp_path) -> None:
    """A tenth of a per cent below -200 is the ringing of an interpolation, and not air."""
    volume = head(tmp_path / "in" / "mr.nii.gz", shape=(SIDE, SIDE, 8))
    volume[0, 0, :2] = -300
    nibabel.Nifti1Image(volume, np.eye(4)).to_filename(tmp_path / "in" / "mr.nii.gz")
    nibabel.Nifti1Image(volume * 2 - 1000, np.eye(4)).to_filename(tmp_path / "in" / "ct.nii.gz")
    common = (f"checkpoint={star}", "input=in", "output=out", "to=t2", "device=cpu")
    code, said = applied(*common)
    assert code == 1
    assert "1 of 2 are in" in said
    assert "ct.nii.gz: it must be MR" in said
    assert "a signal is not below -200" in said
    assert Path("out/mr.nii.gz").exists()
    assert applied(*common, "force=true")[0] == 0
