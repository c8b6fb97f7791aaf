import base64
import io
from dataclasses import replace

import example
import numpy as np
import pytest
import torch
from PIL import Image

from medgan_pl.evaluate.report.pictures import BUDGET, MAX_SIDE, MIN_SIDE, Pictures, tile_side, tiles


def opened(uri: str) -> Image.Image:
    kind, _, content = uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(content)))


def test_gray_levels_are_exact_and_clipped() -> None:
    image = torch.tensor([[-1.0, 0.0, 1.0], [-3.0, 0.5, 7.0]])[None, None]
    picture = opened(tiles(image, 8)[0])
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.asarray(picture), [[0, 128, 255], [0, 191, 255]])


def test_color_stays_and_other_channels_show_the_first() -> None:
    images = torch.rand(1, 3, 4, 4) * 2 - 1
    assert opened(tiles(images, 8)[0]).mode == "RGB"
    assert tiles(images[:, :2], 8) == tiles(images[:, :1], 8)


def test_large_pictures_are_averaged_down_and_small_ones_left() -> None:
    image = torch.zeros(1, 1, 8, 4)
    image[:, :, ::2] = 1
    np.testing.assert_array_equal(np.asarray(opened(tiles(image, 4)[0])), np.full((4, 2), 191))
    assert opened(tiles(image, 100)[0]).size == (4, 8)


def test_a_volume_shows_its_middle_slice() -> None:
    volume = torch.stack([torch.full((1, 2, 2), value) for value in (-1.0, 0.0, 1.0)], 1)[None]
    assert np.asarray(opened(tiles(volume, 8)[0])).tolist() == [[128, 128], [128, 128]]


def test_only_what_was_generated_is_marked() -> None:
    images = example.films(1, 0)
    assert opened(tiles(images, 8, synthetic=True)[0]).text == {"Synthetic": "medgan_pl"}
    assert opened(tiles(images, 8)[0]).text == {}


@pytest.mark.parametrize("images", [torch.full((1, 1, 4, 4), torch.nan), torch.full((1, 1, 4, 4), torch.inf)])
def test_no_picture_of_nan(images: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="finite"):
        tiles(images, 8)


def test_a_picture_without_its_batch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(N, C, H, W\).*got \(1, 4, 4\)"):
        tiles(torch.zeros(1, 4, 4), 8)


def test_many_pictures_are_small_ones() -> None:
    few = Pictures(example.films(2, 0), example.films(2, 1))
    assert tile_side(few) == MAX_SIDE
    many = replace(few, per_class={str(n): (example.films(6, n, 4), example.films(6, n, 4)) for n in range(30)})
    side = tile_side(many)
    assert MIN_SIDE < side < MAX_SIDE
    assert side**2 * (4 + 30 * 12) <= BUDGET
