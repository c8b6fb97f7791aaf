"""What lies beside an image is cut, cached, moved and read together with it."""

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from medgan_pl.data.companion import Companion, Masks
from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.degrade import Degradation
from medgan_pl.data.intensity import FullRange, Percentiles, Window
from medgan_pl.data.modalities import CT, MRI, HeadCT, XRay

GRID = {"patients": 20, "shape": [16, 24, 24]}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"dir": str(tmp_path_factory.mktemp("cache"))}


def test_source_and_mask_of_the_cohort_lie_on_the_grid_of_the_image(cache) -> None:
    beside = {
        "source": Companion(modality=MRI(), intensity=Percentiles()),
        "mask": Masks(modality=CT(), structures=["skull", "csf"], labels=[1, 2]),
    }
    data = ImageDataModule(modality=HeadCT(), intensity=Window([[-1000, 1000]]), size=24, cohort=GRID, cache=cache, beside=beside)
    data.setup()
    batch = next(iter(data.val_dataloader()))
    assert {key: value.shape[1] for key, value in batch.items() if value.ndim > 1} == {"image": 1, "source": 1, "mask": 2}
    assert set(batch["mask"].unique().tolist()) == {0.0, 1.0}
    skull = batch["mask"][:, :1] > 0
    assert batch["image"][skull].mean() > 0.4  # bone in CT
    assert batch["source"][skull].mean() < -0.5  # and none in MRI
    data.trainer = None
    rows = data.rows["train"]
    torch.testing.assert_close(data.images.images(rows[:3], np.arange(3)), data.batch(rows, np.arange(3))["image"])


def test_random_motion_moves_them_alike(cache) -> None:
    beside = {"source": Companion(modality=XRay(), intensity=Percentiles()), "mask": Masks(modality=XRay(), structures=["lung"])}
    cohort = {"patients": 12, "shape": [32, 32]}
    data = ImageDataModule(
        modality=XRay(),
        intensity=Percentiles(),
        size=32,
        cohort=cohort,
        cache=cache,
        beside=beside,
        augment={"shift": 0.3, "rotate_deg": 30.0},
    )
    data.setup()
    batch = data.peek("train", 8)
    moved = data.randomized(batch)
    assert not torch.equal(moved["image"], batch["image"])
    torch.testing.assert_close(moved["image"], moved["source"])  # the source is the very same film
    inside = [float(each["image"][each["mask"] > 0].mean()) for each in (batch, moved)]
    assert abs(inside[0] - inside[1]) < 0.15
    assert set(moved["mask"].unique().tolist()) == {0.0, 1.0}


def films(root: Path, name: str, value: int) -> str:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((16, 16), value, np.uint8)
    pixels[:4] = 255 - value
    Image.fromarray(pixels).save(path)
    return str(path.relative_to(root))


def made(root: Path, beside, cache, **more) -> ImageDataModule:
    data = ImageDataModule(modality=XRay(), intensity=FullRange(), root=str(root), size=16, cache=cache, beside=beside, **more)
    data.setup()
    return data


def test_a_folder_or_a_csv_says_which_film_lies_beside_which(tmp_path, cache) -> None:
    root = tmp_path / "set"
    for i in range(12):
        films(root, f"images/p{i}/a{i}.png", 10 * i)
        films(root, f"sources/p{i}/a{i}.png", 10 * i + 5)
        films(root, f"masks/p{i}/a{i}_mask.png", 0)
    beside = {
        "source": Companion(modality=XRay(), intensity=FullRange(), root=str(root / "sources")),
        "mask": Masks(modality=XRay(), structures=["lung"], root=str(root / "masks")),
    }
    folder = made(root / "images", beside, cache, classes="none", files=".")  # two values each, as masks have
    with (root / "set.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "source", "mask", "patient"])
        for i in range(12):
            rows.writerow([f"images/p{i}/a{i}.png", f"sources/p{i}/a{i}.png", f"masks/p{i}/a{i}_mask.png", f"p{i}"])
    own = {"source": Companion(modality=XRay(), intensity=FullRange()), "mask": Masks(modality=XRay(), structures=["lung"])}
    for data in (folder, made(root / "set.csv", own, cache)):
        batch = data.peek("train", 9)
        step = (batch["source"] - batch["image"])[:, 0, 8, 8]
        torch.testing.assert_close(step, torch.full_like(step, 10 / 255), atol=1e-4, rtol=0)
        assert batch["mask"][:, :, :4].min() == 1
        assert batch["mask"][:, :, 4:].max() == 0


def test_what_is_missing_or_does_not_fit_is_told_of(tmp_path, cache) -> None:
    root = tmp_path / "set"
    for i in range(12):
        films(root, f"images/p{i}/a{i}.png", 10 * i)
    films(root, "sources/p0/a0.png", 3)
    companion = Companion(modality=XRay(), intensity=FullRange(), root=str(root / "sources"))
    with pytest.raises(FileNotFoundError, match=r"must hold a source for each image; 11 of 12 have none, such as p1/a1\.png"):
        made(root / "images", {"source": companion}, cache, classes="none")
    with pytest.raises(ValueError, match=r"data\.beside\.source\.root must be a folder"):
        made(root / "images", {"source": Companion(modality=XRay(), intensity=FullRange())}, cache, classes="none")
    with pytest.raises(ValueError, match=r"data\.beside must hold some of source, mask, got sauce"):
        made(root / "images", {"sauce": companion}, cache)
    with pytest.raises(ValueError, match="structures must name each of its labels"):
        Masks(modality=XRay(), structures=["lung"], labels=[1, 2])


def test_a_scan_on_another_grid_cannot_lie_beside(tmp_path, cache) -> None:
    images, sources = tmp_path / "images", tmp_path / "sources"
    for folder, shift in ((images, 0.0), (sources, 30.0)):
        folder.mkdir()
        for i in range(12):
            affine = np.diag([2.0, 2.0, 2.0, 1.0])
            affine[:3, 3] = shift if i == 3 else 0
            values = np.random.default_rng(i).normal(size=(12, 12, 12)).astype(np.float32)
            nibabel.save(nibabel.Nifti1Image(values + np.float32(shift), affine), folder / f"s{i}.nii.gz")
    beside = {"source": Companion(modality=MRI(), intensity=Percentiles(), root=str(sources))}
    data = ImageDataModule(
        modality=MRI(), intensity=Percentiles(), root=str(images), spatial_dims=3, size=12, cache=cache, beside=beside, classes="none"
    )
    with pytest.raises(ValueError, match=r"s3\.nii\.gz: its source must lie on the image's grid, got one that is up to 30\.0 mm away"):
        data.setup()


class Darker(Degradation):
    """A degradation with numbers of its own: half the grey value, and noise."""

    def degraded(self, image, generator):
        return image / 2 + 0.1 * torch.randn(image.shape, generator=generator)


def test_a_held_out_source_is_the_same_whoever_asks(cache) -> None:
    cohort = {"patients": 24, "shape": [16, 16]}
    common = {"modality": XRay(), "intensity": Percentiles(), "size": 16, "cohort": cohort, "cache": cache, "degrade": Darker()}
    a, b = (ImageDataModule(**common, batch_size=size, seed=seed) for size, seed in ((2, 0), (4, 5)))
    for data in (a, b):
        data.setup()
    ones, others = (torch.cat([batch["source"] for batch in data.val_dataloader()]) for data in (a, b))
    torch.testing.assert_close(ones, others, rtol=0, atol=0)
    first = a.batch(a.rows["val"], np.array([1]))["source"]
    torch.testing.assert_close(first, ones[1:2], rtol=0, atol=0)
    assert "source" not in next(iter(a.train_dataloader()))  # made on the device, by the step
