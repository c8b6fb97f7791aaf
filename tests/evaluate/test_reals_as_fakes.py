"""Fakes that are reals, because folders were mixed up, are found by their values, named and refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from configured import configured
from crowd import films
from PIL import Image

from medgan_pl.data.build import open_data
from medgan_pl.data.sets import ImageSet
from medgan_pl.evaluate.run import evaluate
from medgan_pl.evaluate.targets.copies import SAME, refuse_reals, same_pictures


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


def test_a_real_in_another_depth_or_range_is_found() -> None:
    films("reals", 2, 24)
    films("made", 1, 24)
    real = np.array(Image.open("reals/well/p2-0004.png"))
    Image.fromarray((real / 257).round().astype(np.uint8)).save("made/well/flat.png")
    Image.fromarray(real // 3 + 700).save("made/well/moved.tif")
    with pytest.raises(ValueError, match=r"got 2 of 26 with the same picture.*\(well/flat.png is well/p2-0004.png; well/moved.tif is"):
        judged("fake=made", "real=reals")


@pytest.mark.parametrize("shape", [(1, 20, 33), (2, 16, 16), (1, 9, 10, 11)])
def test_the_same_pictures_by_value(shape: tuple[int, ...]) -> None:
    real = torch.rand((40, *shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
    real[7] = -1  # empty
    fake = real.flip(0)[:35].clone()
    fake[:30] += 3 * SAME * (torch.rand(fake[:30].shape) > 0.9)  # a tenth of the voxels
    fake[30:34] = (fake[30:34] * 127.5 + 127.5).round() / 127.5 - 1  # to 8 bits: reals 9, 8, 7 (empty) and 6
    sets = [ImageSet(lambda rows, images=images: images[rows], len(images)) for images in (fake, real)]
    assert same_pictures(*sets) == [(30, 9), (31, 8), (33, 6), (34, 5)]
