"""Label maps that are known by their values, whatever their names are; and images that are none."""

import io

import numpy as np
import pytest
from PIL import Image

from medgan_pl.data.prepare.label_maps import label_map

Z, Y, X = np.mgrid[:12, :32, :32]


def reason(pixels: np.ndarray) -> str:
    pixels = pixels.astype(np.float32)
    return label_map(pixels, np.histogram(pixels, 64)[0])


def noisy(scale: float, mean: float = 0, shape=(12, 32, 32)) -> np.ndarray:
    return np.round(np.random.default_rng(0).normal(mean, scale, shape))


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        ((X > 10) + 1 * (Y > 20), "it has only the values 0, 1, 2"),
        (255 * (X[0] > 10), "it has only the values 0, 255"),
        ((X == 3) & (Y == 4) & (Z == 5), "it has only the values 0, 1"),
        (np.random.default_rng(0).integers(0, 3, (4, 9, 9)), "it has only the values 0, 1, 2"),
        (X // 8 + 4 * (Y // 8) + 16 * (Z // 3), "it has 64 whole values, 0 to 63, in patches of one value"),
        (np.clip((X[0] - 12.3) / 2, 0, 1), "nearly all of its values are one of two"),
    ],
)
def test_masks(pixels, words) -> None:
    assert reason(pixels).startswith(words)


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize(("area", "larger"), [(80, 4), (9, 2)])  # small masks are mostly rings
def test_a_mask_as_jpeg(quality, area, larger) -> None:
    file = io.BytesIO()
    disk = 255 * ((X[0] - 16) ** 2 + (Y[0] - 16) ** 2 < area)
    Image.fromarray(disk.astype(np.uint8).repeat(larger, 0).repeat(larger, 1)).save(file, "JPEG", quality=quality)
    assert reason(np.asarray(Image.open(file)))


@pytest.mark.parametrize(
    "pixels",
    [
        noisy(20),
        noisy(4, 128).clip(0, 255),
        noisy(3, 128, (64, 64)).clip(0, 255),
        np.where((X - 16) ** 2 + (Y - 16) ** 2 < 90, 40 + noisy(12), -1000),  # air is one value
        np.where((X - 16) ** 2 + (Y - 16) ** 2 < 90, noisy(60), 0).clip(-20, 20),  # cut at both ends
        np.where(X + Y + Z == 0, 4000, np.abs(noisy(9))),  # one bright voxel
        np.where(Z + X == 0, 4000, np.abs(noisy(9))),  # more of them
        np.where((X - 16) ** 2 + (Y - 16) ** 2 < 90, np.where(X + Y + Z == 32, 9000, 40.5), 0) + (X > 9) * noisy(5),  # and no air
        np.where(X[0] > 12, 250 + noisy(2, shape=(32, 32)), 0).repeat(2, 0),  # near two values, as rings are
        X + 0.5,
        np.arange(64).reshape(8, 8),
    ],
)
def test_images(pixels) -> None:
    assert reason(pixels) == ""
