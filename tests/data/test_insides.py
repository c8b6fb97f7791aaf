"""The data know which voxels are image: not the canvas around a scan, nor the padding of its file."""

import inspect
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest
import torch

from medgan_pl.data.datamodule import ImageDataModule
from medgan_pl.data.intensity import Window
from medgan_pl.data.modalities import CT
from medgan_pl.data.prepare.layouts import Film, Slices, Whole
from medgan_pl.data.prepare.prepared import Prepare
from medgan_pl.data.protocol import KeyReader
from medgan_pl.data.readers.scan import Scan, centered_affine
from medgan_pl.data.scale import Scale
from medgan_pl.data.sets import real_set
from medgan_pl.evaluate.fidelity import Ladder, Sets, judge_pair_similarity
from medgan_pl.evaluate.pairs import judge_pairs
from medgan_pl.models.games.translation import Translation
from medgan_pl.models.losses.image import L1

SHAPE = (12, 20, 16)
WINDOW = [[-1000, 1000]]


def volume(seed: int, noise: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(0, 300, SHAPE)
    return np.float32(values + noise * np.random.default_rng(seed + 99).normal(0, 30, SHAPE))


def folder(root: Path, noise: float) -> str:
    root.mkdir()
    for i in range(4):  # indices of a file: right to left, front to back, feet to head
        nibabel.save(nibabel.Nifti1Image(volume(i, noise).transpose(2, 1, 0), np.diag([-1.0, -1, 1, 1])), root / f"c{i}.nii.gz")
    return str(root)


def opened(root: str, size, cache: Path, **more) -> ImageDataModule:
    settings = {"spatial_dims": 3, "spacing_mm": 1.0, "crop": False, "split": "none", "classes": "none", "cache": {"dir": str(cache)}}
    data = ImageDataModule(modality=CT(), intensity=Window(WINDOW), root=root, size=size, **settings | more)
    data.setup()
    return data


def test_the_canvas_round_volumes_changes_no_number(tmp_path) -> None:
    real, fake = folder(tmp_path / "real", 0.0), folder(tmp_path / "fake", 1.0)
    found, losses = [], []
    game = Translation.__new__(Translation)  # its terms alone
    game.real = lambda batch: batch["image"]
    for size in (SHAPE, [16, 20, 16], [24, 40, 33]):
        truth, made = (opened(root, size, tmp_path / "cache") for root in (real, fake))
        sets = [real_set(data, data.rows["train"]) for data in (made, truth)]
        results = judge_pairs(Sets(sets[0], sets[1], sets[1], truth=sets[1]), Scale(half_range=1000.0), 20, 3)
        found.append([result.estimate.value for result in results])
        batch = truth.peek("train", 4)
        assert ("inside" in batch) == (list(size) != list(SHAPE)), "nothing is stored where nothing is padded"
        losses.append(float(Translation.term(game, L1(weight=1.0), made.peek("train", 4)["image"], batch, None)))
    assert np.allclose(found, found[0], rtol=1e-5)
    assert np.allclose(losses, losses[0], rtol=1e-5)
    assert 20 < found[0][0] < 30, "about 30 HU · √(2/π)"


def test_the_canvas_changes_no_similarity_of_pairs(tmp_path) -> None:
    real, fake = folder(tmp_path / "real", 0.0), folder(tmp_path / "fake", 1.0)
    found = []
    for size in ([20, 16], [24, 40]):
        truth, made = (opened(root, size, tmp_path / "cache", spatial_dims=2) for root in (real, fake))
        sets = [real_set(data, data.rows["train"]) for data in (made, truth)]
        unknown = replace(sets[0], inside=None)  # as of fakes from noise
        for side in (sets[0], unknown):
            (result,) = judge_pair_similarity(Sets(side, sets[1], sets[1]), Ladder(), 20)
            found.append((result.estimate.value, result.floor.value))
    assert np.allclose(found, found[0], rtol=1e-5)


def test_padding_of_the_file_is_no_image() -> None:
    values = volume(0)
    padding = np.zeros(SHAPE, bool)
    padding[:, :3] = True
    scan = Scan(values, (1.0, 1.0, 1.0), centered_affine(SHAPE, (1.0, 1.0, 1.0)), padding)
    for layout, wanted in (
        (Whole(size=SHAPE, spacing_mm=None, crop=False), ~padding[None]),
        (Slices(size=(20, 20), spacing_mm=(1, 1), crop=False, step=3), np.pad(~padding[::3], ((0, 0), (0, 0), (2, 2)))),
    ):
        assert np.array_equal(Prepare(layout, Window(WINDOW))(scan).inside, wanted)
    half = Prepare(Slices(size=(10, 8), spacing_mm=(2, 2), crop=False), Window(WINDOW))(scan).inside
    assert half[:, :2].sum() == 0, "the second row holds a row of padding"
    assert half[:, 2:].all()


def test_what_is_cropped_or_fills_its_size_has_no_padding() -> None:
    film = Scan(volume(0)[0])
    assert Prepare(Film(size=(16, 16), crop=True), Window(WINDOW))(film).inside is None
    assert torch.equal(
        Prepare(Film(size=(40, 40), crop=False), Window(WINDOW))(film).inside[0, 0], torch.tensor([0] * 4 + [1] * 32 + [0] * 4) > 0
    )


@pytest.mark.parametrize(
    "more",
    [{"spatial_dims": 2, "size": [24, 24]}, {"patches": 3, "size": [8, 24, 16]}, {"spatial_dims": 2, "patches": 2, "size": [24, 12]}],
)
def test_slices_and_patches_carry_it_through_augmentation(tmp_path, more) -> None:
    data = opened(folder(tmp_path / "set", 0.0), cache=tmp_path / "cache", **more)
    batch = data.batch(data.rows["train"], np.arange(len(data.rows["train"])))
    assert batch["inside"].shape == batch["image"].shape
    assert batch["image"][batch["inside"] == 0].max() == -1
    assert float(batch["inside"].mean()) == pytest.approx(20 / 24 * (16 / 24 if "patches" not in more else 1))
    assert (batch["image"][batch["inside"] == 1] > -1).float().mean() > 0.99
    data.randomize.shift, data.randomize.noise = 0.2, 0.1
    moved = data.randomized(batch)
    assert set(moved["inside"].unique().tolist()) == {0.0, 1.0}
    assert moved["image"][moved["inside"] == 0].mean() < -0.8
    assert not torch.equal(moved["inside"], batch["inside"])


@pytest.mark.parametrize("keys", [{"image", "label"}, {"image", "inside"}, None])
def test_training_reads_it_only_for_losses_that_use_it(tmp_path, monkeypatch, keys) -> None:
    data = opened(folder(tmp_path / "set", 0.0), [16, 20, 16], tmp_path / "cache")
    opened_files = []
    monkeypatch.setattr(data.cache, "inside", lambda digest, read=data.cache.inside: opened_files.append(digest) or read(digest))
    module = SimpleNamespace() if keys is None else SimpleNamespace(reads=frozenset(keys))
    data.trainer = SimpleNamespace(lightning_module=module, global_rank=0, world_size=1, training=False)
    wanted = keys is None or "inside" in keys  # a module that does not say gets all
    batch = next(iter(data.endless_loader()))
    assert ("inside" in batch) == bool(opened_files) == wanted
    assert "inside" in next(iter(data.val_dataloader())), "the metrics of a validation use it"


def test_each_game_that_uses_it_says_so() -> None:
    from medgan_pl.models.games import (
        auxiliary,
        contrastive,
        cycle,
        hierarchical,
        noise,
        reconstruction,
        star,
        style,
        synthesis,
        translation,
    )
    from medgan_pl.models.games.base import Game
    from medgan_pl.models.module import AdversarialModule

    for room in (auxiliary, contrastive, cycle, hierarchical, noise, reconstruction, star, style, synthesis, translation):
        uses = any(f'{kind}"inside"' in inspect.getsource(room) for kind in ("batch[", "batch.get("))
        games = [
            each for each in vars(room).values() if isinstance(each, type) and issubclass(each, Game) and each.__module__ == room.__name__
        ]
        assert all(("inside" in game.reads) == uses for game in games), room.__name__
    module = AdversarialModule.__new__(AdversarialModule)
    torch.nn.Module.__init__(module)
    module.game = torch.nn.Module()
    module.game.reads = frozenset({"image", "inside"})
    assert isinstance(module, KeyReader)
    assert module.reads == {"image", "inside"}
