"""A command opens each checkpoint once: its settings, its weights and its SHA-256 are of one file, and a large file is not read twice."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from command_line import TINY
from hydra.utils import instantiate

from medgan_pl.data.intensity import Inverse
from medgan_pl.models.build import build_module
from medgan_pl.models.state import RunState

opened: list[str] = []
watching = False


def note(event: str, arguments: tuple) -> None:
    if watching and event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
        opened.append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(note)  # which stays until Python ends


@pytest.fixture
def watched() -> Iterator[list[str]]:
    """The files that are opened during the test."""
    global watching
    opened.clear()
    watching = True
    yield opened
    watching = False


DATA = ("data=chest_xray", *TINY)
LONGER = ("logger=csv", "callbacks.curves=null", "total_images=72", "validate_every=72", "resume.force=true")
EVALUATION = ("groups=[fidelity]", "extractor=[random]", "n=8", "draws=20", "wandb=disabled", "device=cpu")


@pytest.fixture(autouse=True)
def _prepared(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images of the finished run, so that no command prepares them anew."""
    monkeypatch.setenv("MEDGAN_CACHE", str(finished.parents[2] / "cache"))


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("sample", ("checkpoint={}", "n=2", "output=drawn", "device=cpu")),
        ("export", ("checkpoint={}", "output=x.safetensors")),
        ("evaluate", ("checkpoint={}", *EVALUATION, "output=report")),
        ("train", ("init_from={}", *DATA, "logger=csv", "hydra.run.dir=tuned", "total_images=8", "validate_every=8")),
        ("train", ("resume={}", *DATA, "hydra.run.dir=longer", *LONGER)),
    ],
    ids=["sample", "export", "evaluate", "init_from", "resume"],
)
def test_a_command_opens_its_checkpoint_once(finished: Path, here, watched, verb, arguments) -> None:
    path = finished / "checkpoints/last.ckpt"
    code, said = here(verb, *(argument.format(path) for argument in arguments))
    assert code == 0, said
    assert watched.count(str(path.resolve())) == 1


def test_a_run_that_resumes_in_its_folder_opens_its_checkpoint_once(finished: Path, here, watched) -> None:
    run = Path("run").resolve()
    shutil.copytree(finished, run)
    watched.clear()
    code, said = here("train", f"resume={run}", *LONGER)
    assert code == 0, said
    assert "72 images shown" in (run / "train.log").read_text()
    assert {name: watched.count(str(run / f"checkpoints/{name}.ckpt")) for name in ("last", "best", "previous")} == {
        "last": 1,
        "best": 0,
        "previous": 0,
    }


def test_apply_opens_its_checkpoint_once(settings, here, watched) -> None:
    small = (
        "model.width=4",
        "model.generator.levels=2",
        "model.discriminator.layers=1",
        "model.discriminator.spectral_norm=false",
        "data.size=16",
    )
    config = settings("data=ct", "degrade@data.degrade=noise", "model=unet_gan", *small)
    inverse = Inverse(((-1000.0, 400.0),), "HU", "CT", (0.8, 0.5), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    pipelines = {name: each.plain() for name, each in instantiate(config["data"]).pipelines.items()}
    state = RunState(config=config, classes=[], images=64, inverse=inverse, pipelines=pipelines)
    path = Path("best.ckpt").resolve()
    torch.save({"state_dict": build_module(config).state_dict(), "medgan_pl": state.plain()}, path)
    Path("scans").mkdir()
    nibabel.Nifti1Image(np.arange(512, dtype=np.int16).reshape(16, 16, 2), np.eye(4)).to_filename("scans/a.nii.gz")
    watched.clear()
    code, said = here("apply", f"checkpoint={path}", "input=scans", "output=made", "force=true", "device=cpu")
    assert code == 0, said
    assert watched.count(str(path)) == 1
