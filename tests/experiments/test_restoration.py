"""experiments/restoration: the classical methods do what their papers say, and the table holds what the metrics give."""

import csv
import shutil
from dataclasses import astuple
from pathlib import Path

import pytest
import torch
from command_line import TINY, picture

from experiments.restoration import classical
from experiments.restoration.baselines import MethodResults, compare, composed
from medgan_pl.data.build import open_data
from medgan_pl.data.degrade import Fog, Gaussian, Shrink
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.paired import Paired, psnr
from medgan_pl.metrics.result import Result

ROWS, COLUMNS = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing="ij")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_dark_channel_takes_a_fog_away_where_each_patch_has_something_black(channels: int) -> None:
    clear = torch.where((ROWS + COLUMNS) % 5 == 0, -1.0, 0.4 * torch.sin(COLUMNS / 9)).expand(2, channels, 48, 64)
    clear = torch.where((COLUMNS > 58) & (ROWS < 6), 1.0, clear)  # white, as the fog is
    foggy = Fog(transmission=0.5, airlight=1.0)(clear, generator())
    restored = classical.DarkChannel(patch=7, keep=1.0)(foggy)
    assert (psnr(restored, clear) > psnr(foggy, clear) + 15).all()
    inside = COLUMNS < 40  # beyond the reach of the white corner the prior holds, and so t is the true 1/2
    assert (restored - clear)[..., inside].abs().max() < 0.05


def test_the_guided_filter_keeps_what_is_linear_in_its_guide_and_is_the_mean_where_that_is_flat() -> None:
    guide = torch.sin(ROWS * COLUMNS / 40)[None, None].double()
    torch.testing.assert_close(classical.guided(0.3 * guide + 0.2, guide, 4, floor=0.0), 0.3 * guide + 0.2)
    image = torch.rand(1, 1, 48, 64, generator=generator(), dtype=torch.float64)
    flat = classical.guided(image, torch.zeros_like(image), 1)
    assert float(flat[0, 0, 20, 20]) == pytest.approx(
        float(image[0, 0, 18:23, 18:23].mul(torch.tensor([1, 2, 3, 2, 1])).mul(torch.tensor([[1], [2], [3], [2], [1]])).sum() / 81)
    )  # a mean of means


def test_non_local_means_lowers_noise_and_leaves_edges() -> None:
    clear = torch.where(COLUMNS < 32, -0.5, 0.5).expand(2, 1, 48, 64)
    noisy = Gaussian(0.15)(clear, generator())
    restored = classical.NonLocalMeans(1.0)(noisy)
    assert ((restored - clear).square().mean() < (noisy - clear).square().mean() / 8).all()
    assert (restored[..., 32] - restored[..., 31]).mean() > 0.9


def test_bicubic_is_exact_on_a_slope() -> None:
    slope = (COLUMNS / 64 - 0.5).expand(1, 2, 48, 64)
    restored = classical.Bicubic((48, 64))(Shrink(factor=4)(slope, generator()))
    torch.testing.assert_close(restored[..., 8:-8], slope[..., 8:-8])


@pytest.mark.parametrize(
    "method",
    [classical.Biharmonic(), pytest.param(classical.Telea(5), marks=pytest.mark.skipif(classical.cv2 is None, reason="needs OpenCV"))],
    ids=str,
)
def test_holes_are_filled_from_their_rim_and_what_is_known_stays_to_the_bit(method: classical.Method) -> None:
    image = torch.stack([COLUMNS / 64 - 0.5, ROWS / 48]).expand(2, 2, 48, 64)
    missing = (ROWS - 20).abs().lt(6) & (COLUMNS - 30).abs().lt(8)
    source = torch.cat([torch.where(missing, -1.0, image), torch.where(missing, 1.0, -1.0).expand(2, 1, 48, 64)], 1)
    restored = method(source)
    assert torch.equal(restored[..., ~missing], image[..., ~missing])
    assert (restored - image).abs().max() < (0.001 if isinstance(method, classical.Biharmonic) else 0.1)


SMALL = ("data.size=32", "data.cohort.patients=60", "extractor.random.width=4", "draws=20", "tune=4", "device=cpu")


@pytest.fixture
def judged(here):
    """A tiny GAN against fog, and the study of it."""
    tiny = [each for each in TINY if not each.startswith(("data.size", "model.latent"))]
    code, said = here(
        "train", "experiment=dehaze", *tiny, "data.size=32", "total_images=16", "validate_every=16", "logger=csv", "hydra.run.dir=gan"
    )
    assert code == 0, said
    shutil.copytree("gan", "twin")
    checkpoints = "checkpoints=[gan/checkpoints/best.ckpt,twin/checkpoints/best.ckpt]"
    config = composed(["experiment=dehaze", *SMALL, checkpoints, "output=study"])
    return config, compare(config, lambda what: None)


@pytest.mark.slow
def test_the_table_holds_what_the_metrics_give(judged) -> None:
    config, results = judged
    data = open_data(config.data)
    batch = data.batch(data.rows["test"], range(len(data.rows["test"])))
    by_hand = Paired()
    by_hand.update(batch["source"], batch["image"])
    with Path("study/table.csv").open(newline="") as file:
        source, dark, gan, twin, apart = csv.DictReader(file)
    assert (source["method"], gan["method"]) == ("source", "gan")
    assert dark["method"].startswith("dark channel")
    for key in ("psnr", "ssim", "mae"):
        assert float(source[key]) == pytest.approx(float(by_hand.compute()[key]), abs=1e-3), key
        assert float(gan[f"{key}_low"]) <= float(gan[key]) <= float(gan[f"{key}_high"]), key
    assert source["patients"] == "6"
    assert all(float(row["fd_random"]) > 0 for row in (source, dark, gan))
    assert {**twin, "method": ""} == {**gan, "method": ""}
    assert apart.pop("method") == "gan - twin"
    assert all(float(apart[f"{key}{end}"]) == 0 for key in ("psnr", "fd_random") for end in ("", "_low", "_high"))
    assert [len(found) for found in results.values()] == [4] * 5
    assert "| gan |" in Path("study/table.md").read_text()
    assert picture(Path("study/pictures.png")).size == (6 * 33 + 1, 5 * 33 + 1)
    other = composed(["experiment=dehaze", *SMALL, "checkpoints=[gan/checkpoints/best.ckpt]", "data.degrade.waves=3"])
    with pytest.raises(ValueError, match="trained on the sources of this experiment"):
        compare(other, lambda what: None)


def test_what_a_method_is_above_another_is_of_the_same_patients() -> None:
    real, patients = torch.randn(60, 4, generator=generator()), torch.arange(60) // 3
    hard = 5 * torch.rand(60, 1, generator=generator(1))

    def judged(worse: float, shift: float) -> MethodResults:
        values = 30 - hard - worse
        return MethodResults([Result("psnr"), Result("fd", "random")], values, [(real + shift, real)])

    psnr_apart, fd_apart = judged(1.0, 0.0).minus(judged(0.0, 0.5), Resampling(40, 0, patients, patients))
    assert astuple(psnr_apart.estimate) == pytest.approx((-1, -1, -1), abs=1e-5)
    assert fd_apart.name == "fd_random"
    assert fd_apart.estimate.value == pytest.approx(-4 * 0.25, abs=1e-5)
    assert fd_apart.estimate.high - fd_apart.estimate.low < 1e-4  # both distances move with the same patients


def test_what_has_no_classical_method_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must have a classical method .* got Salt"):
        compare(composed(["experiment=dehaze", "degrade@data.degrade=salt", *SMALL, "data.cohort.patients=20"]), lambda what: None)
