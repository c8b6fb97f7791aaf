"""Drawing images from a checkpoint, and what a checkpoint may not do."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from command_line import TINY, command, picture

import medgan_pl
from medgan_pl.data.files.covariates import Covariate, Covariates
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Inverse
from medgan_pl.data.modalities import CT
from medgan_pl.sample.draw import Writer, wanted_labels


def test_pngs_and_one_grid(finished: Path, here, tmp_path: Path) -> None:
    checkpoint = finished / "checkpoints" / "best.ckpt"
    command("sample", f"checkpoint={checkpoint}", "n=5", f"output={tmp_path / 'a'}", "device=cpu")
    code, said = here("sample", f"checkpoint={checkpoint}", "n=3", "batch_size=2", f"output={tmp_path / 'b'}", "device=cpu")
    assert code == 0, said
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == sorted([f"{i:06d}.png{sidecar}" for i in range(5) for sidecar in ("", ".json")] + ["grid.png"])
    assert picture(tmp_path / "a" / "000000.png").mode == "L"
    assert not (tmp_path / "outputs").exists()
    assert "3 images as png and grid.png are in" in said
    for i in range(3):  # image i of a seed is the same whatever n and batch_size are, to rounding
        a, b = (np.asarray(picture(tmp_path / x / f"{i:06d}.png")).astype(int) for x in "ab")
        assert abs(a - b).max() <= 1
    assert (tmp_path / "a" / "000000.png").read_bytes() != (tmp_path / "a" / "000001.png").read_bytes()


def test_load_gives_the_averaged_generator(finished: Path) -> None:
    module = medgan_pl.load(finished / "checkpoints" / "last.ckpt")
    assert (module.images, module.training) == (64, False)
    image = module.generate(module.game.draw({"label": torch.zeros(2, dtype=torch.long)}))
    assert image.shape == (2, 1, 16, 16)


def test_mistakes(finished: Path, here) -> None:
    best = finished / "checkpoints" / "best.ckpt"
    Path("broken.ckpt").write_bytes(best.read_bytes()[:5000])
    torch.save({"state_dict": {}}, "other.ckpt")
    for arguments, message in (
        (("checkpoint=nowhere.ckpt",), "`checkpoint` must be a checkpoint file"),
        ((), "`checkpoint` must be given"),
        (("checkpoint=broken.ckpt",), "must be a whole checkpoint written by medgan_pl.train"),
        (("checkpoint=other.ckpt",), "must be a whole checkpoint written by medgan_pl.train"),
        ((f"checkpoint={best}", "n=0"), "`n` must be a whole number of at least 1"),
        ((f"checkpoint={best}", "label=normal"), "`label` needs a conditional model"),
    ):
        code, said = here("sample", *arguments)
        assert (code, "Traceback" in said) == (1, False), message
        assert message in said


def test_a_checkpoint_that_names_foreign_code_is_refused(finished: Path) -> None:
    state = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
    for node in (
        {"_target_": "shutil.rmtree", "path": "x"},
        {"_target_": "medgan_pl.train.callbacks.os.getcwd"},
        {"_target_": "torch.optim.optimizer.torch.load", "f": "x", "weights_only": False},
        {"_target_": "medgan_pl.train.run.train"},
        {"_target_": "torch.optim.lr_scheduler.math.floor"},
        "${oc.create:{_target_:os.getcwd}}",
        ({"_target_": "os.getcwd"},),
    ):
        state["medgan_pl"]["config"]["module"]["ema"] = node
        torch.save(state, "evil.ckpt")
        with pytest.raises(ValueError, match=r"`_target_` must be the full name|must be resolved|must be plain containers"):
            print(node, medgan_pl.load("evil.ckpt"))


FOUND = Covariates((Covariate("effusion", 0.3, 0.46, 0.0, 1.0, ("0", "1"), 0.0),))


@pytest.mark.parametrize(
    ("names", "label", "place"),
    [
        (["1", "2"], 1, 0),  # a name before a place
        (["1", "2"], "2", 1),
        (["1", "2"], 0, 0),
        (["normal", "Nodule"], "NODULE", 1),
        (["normal", "Nodule"], 1, 1),
        (["a", "A"], "A", 1),
    ],
)
def test_a_label_by_name_or_place(names, label, place) -> None:
    module = SimpleNamespace(config={"model": {"classes": 2}}, classes=names, covariates=Covariates())
    assert wanted_labels(module, label, 3).tolist() == [place] * 3


@pytest.mark.parametrize(
    ("names", "label", "words"),
    [
        (["b", "B", "c"], "d", "must be one of b, B, c or 0 to 2, got d"),
        (["Ab", "aB", "c"], "ab", "must be one of Ab, aB, c or 0 to 2, got ab"),
        (["a", "b", "c"], "effusion", "got effusion; that is a covariate: covariates.effusion=1"),
        ([], "effusion", "this one was trained with model.classes=0; that is a covariate: covariates.effusion=1"),
    ],
)
def test_a_label_that_is_none(names, label, words) -> None:
    module = SimpleNamespace(config={"model": {"classes": len(names)}}, classes=names, covariates=FOUND)
    with pytest.raises(ValueError, match=re.escape(words)):
        wanted_labels(module, label, 3)


FEW = ("data.cohort.patients=30", "total_images=32", "validate_every=32")


def test_labels_condition_the_model_and_its_samples(here) -> None:
    code, said = here("train", *TINY, *FEW, "model.classes=4", "logger=csv", "hydra.run.dir=here")
    assert code == 0, said
    common = ("sample", "checkpoint=here/checkpoints/last.ckpt")
    for label in ("nodule", "0"):
        code, said = here(*common, "n=2", f"label={label}", f"output=class_{label}", "device=cpu")
        assert code == 0, said
    assert Path("class_nodule/000000.png").read_bytes() != Path("class_0/000000.png").read_bytes()
    code, said = here(*common, "label=flu")
    assert (code, "`label` must be one of normal, " in said) == (1, True)


def test_slices_of_pictures_have_hu_and_no_place_in_space(tmp_path: Path) -> None:
    inverse = Inverse(((-1000.0, 400.0),), "HU", "CT", None, None)
    config = {"data": {"size": 4}, "image": {"spatial_dims": 2}, "model": {"classes": 0, "generator": {"_target_": "x.Y"}}}
    module = SimpleNamespace(inverse=inverse, classes=[], config=config, origin=SimpleNamespace(sha256="0" * 64), images=1)
    for form in ("nifti", "dicom"):
        with pytest.raises(ValueError, match=rf"format={form} .*slices in pictures have none; use format=png16, which states its black"):
            Writer(module, tmp_path, [form], 0)
    Writer(module, tmp_path, ["png16"], 0).write(0, torch.linspace(-1, 1, 16).view(1, 4, 4), 0, {})
    again = CT(pictures=[-32768, 32767]).read(Item("x", (tmp_path / "000000.png",)))  # of another set
    assert np.abs(again.pixels.ravel() - np.linspace(-1000, 400, 16)).max() < 0.02
    assert again.synthetic
