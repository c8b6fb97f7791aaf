"""A paired metric over two whole sets: how many pairs each value has, whose patients, and what is said where there is none."""

import pytest
import torch

from medgan_pl.metrics.paired import Paired, PairedMasks, Segments
from medgan_pl.metrics.pairs import measure_pairs


def masks(*filled: int) -> torch.Tensor:
    """Masks of 6 x 6 with so many rows filled."""
    made = torch.zeros(len(filled), 1, 6, 6)
    for mask, rows in zip(made, filled, strict=True):
        mask[:, :rows] = 1
    return made


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_pairs_without_a_value_are_not_counted(batch_size: int) -> None:
    fake, truth = masks(2, 3, 0, 2, 0), masks(2, 2, 2, 0, 0)
    dice, outlines = measure_pairs(PairedMasks(), fake, truth, None, draws=20, batch_size=batch_size)
    assert (dice.key, dice.n_fake, dice.n_real) == ("dice", 5, 5)
    assert dice.estimate.value == pytest.approx((1 + 0.8 + 0 + 0 + 1) / 5)
    assert (outlines.key, outlines.n_fake, outlines.n_real) == ("hd95", 2, 2)
    assert outlines.estimate.value == pytest.approx(0.5)
    nothing = measure_pairs(PairedMasks(), masks(0, 0), masks(0, 1), None, draws=20, batch_size=2)[1]
    assert (nothing.estimate, nothing.n_fake) == (None, 0)
    assert nothing.undefined.startswith("not defined for any of the 2 pairs: a mask is empty in each")


def test_what_the_metric_refuses_is_undefined_with_the_reason() -> None:
    images = torch.zeros(4, 1, 12, 12)
    results = measure_pairs(Paired(), images / 0, images, None, draws=20, batch_size=2)
    assert [result.key for result in results] == list(Paired.keys)
    assert all(result.estimate is None and "NaN" in result.undefined for result in results)


def test_the_part_that_is_image_is_asked_by_place() -> None:
    truth = torch.zeros(4, 1, 12, 12)
    fake = truth + torch.arange(1.0, 5).view(4, 1, 1, 1) / 10
    fake[:, :, 6:] = 1
    inside = torch.zeros(4, 1, 12, 12)
    inside[:, :, :6] = 1
    inside[3] = 1
    mae, _, ssim, _ = measure_pairs(Paired(), fake, truth, None, draws=20, batch_size=3, inside=lambda rows: inside[rows])
    assert mae.estimate.value == pytest.approx((0.1 + 0.2 + 0.3 + (0.4 + 1) / 2) / 4)
    assert (ssim.estimate, ssim.undefined) == (None, "an interval needs two images or more, got 1"), "which is no reason against mae"


def test_structures_in_padding_count_for_neither_side() -> None:
    real = torch.full((1, 1, 8, 8), -1.0)
    real[..., :4, :4] = 1  # 16 pixels, of which padding leaves 8
    fake = real.roll(2, 3)  # of 16 the padding leaves 8, of which 4 overlap
    inside = torch.zeros(1, 1, 8, 8)
    inside[..., :2, :] = 1
    metric = Segments(structures=["a"])
    metric.update(fake, real, inside)
    assert metric.compute()["dice"].item() == pytest.approx(0.5)
    fake[..., 4:, :] = 1
    metric.reset()
    metric.update(fake, real, inside)
    assert metric.compute()["dice_a"].item() == pytest.approx(0.5)
