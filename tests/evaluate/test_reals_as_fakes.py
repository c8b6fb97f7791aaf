"""Fakes that are reals, because folders were mixed up, are found by their values, named and refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from configured import configured
from crowd import films
from PIL import Image

from medgan_pl.data.build import open_data
from medgan_pl.evaluate.run import evaluate
from medgan_pl.evaluate.targets.folder import refuse_reals


def judged(*arguments: str) -> None:
    evaluate(configured("evaluate", *arguments, "data.size=16", "wandb=disabled", "device=cpu"), list(arguments))


@pytest.mark.parametrize("paired", ["paired=false", "paired=true"])
def test_one_folder_on_both_sides(paired: str) -> None:
    films("reals", 2, 24)
    with pytest.raises(ValueError, match=r"got 24 of 24 with the same values \(ill/p2-0001.png is ill/p2-0001.png; .*and 21 more"):
        judged("fake=reals", "real=reals", paired)
    assert not Path("report").exists()


def test_a_part_of_the_reals_under_other_names_and_in_another_format() -> None:
    films("reals", 2, 24)
    films("made", 1, 24)
    Image.open("reals/well/p2-0004.png").save("made/well/x.tif")
    shutil.copy("reals/ill/p2-0003.png", "made/ill/y.png")
    with pytest.raises(ValueError, match=r"got 2 of 26 .*\(ill/y.png is ill/p2-0003.png; well/x.tif is well/p2-0004.png\)"):
        judged("fake=made", "real=reals")


def test_an_image_that_differs_in_one_pixel_is_another() -> None:
    films("reals", 2, 4)
    films("made", 2, 4)
    for path in Path("made").rglob("*.png"):
        pixels = np.array(Image.open(path))
        pixels[0, 0] += 1
        Image.fromarray(pixels).save(path)
    sides = [open_data(configured("evaluate", "data.size=16").data, root=root, split="none") for root in ("made", "reals")]
    refuse_reals(*sides)
    with pytest.raises(ValueError, match="4 of 4"):
        refuse_reals(sides[1], sides[1])
