"""A class without a training image is refused by a conditional model, so that `sample` never writes it."""

import re
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY
from PIL import Image

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import FullRange
from medgan_pl.data.modalities import XRay
from medgan_pl.train.checks import check_learnt


def films(folder: Path, held_out: str = "c") -> Path:
    """Write 12 films of the classes a, b, c; those of `held_out` are in val alone."""
    rows = ["image,label,split"]
    for i in range(12):
        label = "abc"[i % 3]
        Image.fromarray(np.random.default_rng(i).integers(0, 255, (16, 16)).astype(np.uint8)).save(folder / f"{i}.png")
        rows.append(f"{i}.png,{label},{'val' if label == held_out or i > 9 else 'train'}")
    (folder / "t.csv").write_text("\n".join(rows) + "\n")
    return folder / "t.csv"


def read(table: Path, **options) -> ImageDataModule:
    options = {"split": "folders", "size": 8, "cache": {"dir": str(table.parent / "cache")}, **options}
    data = ImageDataModule(modality=XRay(), intensity=FullRange(), root=str(table), **options)
    data.setup()
    return data


CONDITIONAL = {"model": {"classes": 3}}
REFUSED = "each class of a conditional model must have a training image, got none of c (train: a 4, b 3, c 0)"


def test_a_class_that_is_held_out_alone_is_refused(tmp_path: Path) -> None:
    data = read(films(tmp_path))
    with pytest.raises(ValueError, match=re.escape(REFUSED)):
        check_learnt(CONDITIONAL, data)
    check_learnt({"model": {"classes": 0}}, data)
    assert "WARNING: no training image of c: a conditional model cannot learn it and is refused" in data.describe()


def test_classes_with_training_images_are_taken(tmp_path: Path) -> None:
    data = read(films(tmp_path, held_out=""))
    check_learnt(CONDITIONAL, data)
    assert not any("no training image" in line for line in data.describe())
    few = read(tmp_path / "t.csv", max_train=1)  # the selection takes the others away
    with pytest.raises(ValueError, match="got none of"):
        check_learnt(CONDITIONAL, few)


def test_train_refuses_it_before_the_first_step(tmp_path: Path, here) -> None:
    table = films(tmp_path)
    tiny = [option for option in TINY if not option.startswith(("data.cohort", "data="))]
    options = (f"data.root={table}", "data=xray", "data.split=folders", "model=cgan", "model.classes=3", "logger=csv", "hydra.run.dir=run")
    code, said = here("train", *tiny, *options)
    assert code == 1
    assert REFUSED in said
    assert not list((Path("run") / "checkpoints").glob("*.ckpt"))
