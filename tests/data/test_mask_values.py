"""The values of mask files: labels mean themselves, and rings and soft edges belong to the nearer of the values that are meant."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from medgan_pl.data.companion import Masks
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import FullRange
from medgan_pl.data.mask_values import inside, spelled, values_in
from medgan_pl.data.modalities import XRay
from medgan_pl.data.readers.pictures import read_picture
from medgan_pl.data.readers.scan import ScanError

SIDE = 96
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]
DISC = (ROWS - 40) ** 2 + (COLUMNS - 50) ** 2 < 20**2
BAR = (abs(ROWS - 75) < 6) & (abs(COLUMNS - 45) < 30)
GRAY = Image.fromarray(np.uint8(255 * (DISC | BAR)))


def as_jpeg(picture: Image.Image, quality: int) -> np.ndarray:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return np.float32(Image.open(file))


@pytest.mark.parametrize("quality", [30, 50, 75, 95])
def test_rings_of_a_jpeg_are_outside(quality: int) -> None:
    stored = as_jpeg(GRAY, quality)
    assert len(np.unique(stored)) > 10
    for labels in (None, [255]):
        (part,) = inside(stored, labels)
        assert np.array_equal(part, DISC | BAR)
    assert not inside(stored, [1])[0].any(), "a ring is no label"


@pytest.mark.parametrize("scale", [1.0, 1 / 255])
def test_a_soft_edge_is_cut_at_half_of_the_larger_value(scale: float) -> None:
    soft = scale * np.float32(GRAY.filter(ImageFilter.GaussianBlur(2)))
    assert np.array_equal(inside(soft, None)[0], soft >= scale * 127.5)
    assert (soft > 0).sum() > 1.2 * (DISC | BAR).sum()


def test_labels_mean_themselves() -> None:
    for values in ((1, 2), (85, 255), (3, 200)):
        stored = np.float32(values[0] * DISC + values[1] * BAR)
        assert np.array_equal(inside(stored, None)[0], DISC | BAR)
        for part, own in zip(inside(stored, values), (DISC, BAR), strict=True):
            assert np.array_equal(part, own)
    shaky = np.float32(1 * DISC + 2 * BAR) + np.float32(1e-4)
    assert np.array_equal(inside(shaky, None)[0], DISC | BAR)


def test_labels_that_are_one_voxel_each_are_small_numbers() -> None:
    volume = np.zeros((4, 9, 9), np.float32)
    volume[1, 2, 2], volume[2, 5, 5], volume[2, 5, 7] = 1, 2, 3
    assert inside(volume, None)[0].sum() == 3
    assert [int(part.sum()) for part in inside(volume, [1, 2, 3, 4])] == [1, 1, 1, 0]


def test_three_values_with_rings_go_to_the_nearest() -> None:
    stored = as_jpeg(Image.fromarray(np.uint8(128 * DISC + 255 * BAR)), 60)
    parts = inside(stored, [128, 255])
    assert np.array_equal(parts[1], BAR)
    assert (parts[0] ^ DISC).sum() < 0.3 * BAR.sum(), "only the rim of the bar passes through 128"
    assert np.array_equal(inside(stored, None)[0], DISC | BAR)


def test_the_values_of_a_set_in_words() -> None:
    assert values_in(np.float32([[0, 255], [7, 0]])) == [0, 7, 255]
    assert values_in(np.float32(range(300))) == [*range(8), 299]
    assert values_in(np.float32([0, 0.5, -1])) == [-1, 0, 0.5]
    assert spelled([[0, 255], [0]]) == "0 (2 masks), 255 (1)"


def test_one_bit_and_colors_of_a_palette_are_numbers_in_masks_alone(tmp_path) -> None:
    Image.fromarray(DISC).save(tmp_path / "bit.png")
    colored = Image.fromarray(np.uint8(DISC + 2 * BAR), "P")
    colored.putpalette([0, 0, 0, 128, 0, 0, 200, 200, 200])
    colored.save(tmp_path / "colored.png")
    grays = Image.fromarray(np.uint8(DISC), "P")
    grays.putpalette([0, 0, 0, 90, 90, 90])
    grays.save(tmp_path / "grays.png")
    for name, wanted in (("bit", 1 * DISC), ("colored", DISC + 2 * BAR), ("grays", 90 * DISC)):
        assert np.array_equal(read_picture(tmp_path / f"{name}.png", numbers=True).pixels, wanted), name
    for name in ("bit", "colored"):
        with pytest.raises(ScanError):
            read_picture(tmp_path / f"{name}.png")


def a_set(root: Path, masks: dict[str, Image.Image]) -> None:
    for i, (name, mask) in enumerate(masks.items()):
        for folder, picture in (
            ("images", Image.fromarray(np.random.default_rng(i).integers(0, 255, (SIDE, SIDE), np.uint8))),
            ("masks", mask),
        ):
            (root / folder).mkdir(exist_ok=True)
            picture.save(root / folder / name)


def opened(root: Path, **settings) -> ImageDataModule:
    beside = {"mask": Masks(modality=XRay(), structures=["lung"], root=str(root / "masks"), **settings)}
    cache = {"dir": str(root / "cache")}
    data = ImageDataModule(modality=XRay(), intensity=FullRange(), root=str(root / "images"), size=SIDE, cache=cache, beside=beside)
    data.setup()
    return data


def test_labels_that_no_mask_has_are_refused_with_the_values_found(tmp_path) -> None:
    empty = Image.fromarray(np.zeros((SIDE, SIDE), np.uint8))
    a_set(tmp_path, {f"p{i}.png": GRAY if i else empty for i in range(12)})
    with pytest.raises(ValueError, match=r"got \[1\], and none of 12 masks holds lung; their values are 0 \(12 masks\), 255 \(11\)"):
        opened(tmp_path, labels=[1])
    data = opened(tmp_path, labels=[255])
    assert "masks: lung in 11 of 12; values 0 (12 masks), 255 (11)" in data.describe()
    for name in (tmp_path / "masks").iterdir():
        empty.save(name)
    with pytest.raises(ValueError, match=r"null: all above 0, and none of 12 masks holds lung; their values are 0 \(12 masks\)$"):
        opened(tmp_path)


def test_masks_of_a_batch_are_the_truth_in_every_format(tmp_path) -> None:
    a_set(tmp_path, {f"p{i}.png": GRAY for i in range(12)})
    for i in range(9):
        (tmp_path / "masks" / f"p{i}.png").unlink()
    for i in range(3):
        GRAY.save(tmp_path / "masks" / f"p{i}.jpg", quality=75)
        GRAY.convert("1").save(tmp_path / "masks" / f"p{i + 3}.png")
        GRAY.filter(ImageFilter.GaussianBlur(1)).save(tmp_path / "masks" / f"p{i + 6}.png")
    data = opened(tmp_path)
    rows = np.arange(12)
    masks = data.images.batch(rows, rows, degraded=False)["mask"][:, 0].numpy() > 0
    assert max((mask ^ (DISC | BAR)).sum() for mask in masks) < 0.02 * (DISC | BAR).sum()
