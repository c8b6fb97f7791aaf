"""Errors and similarity against scikit-image, masks against MONAI and by hand; means and intervals over images and over patients."""

import math

import numpy as np
import pytest
import torch
from monai.metrics.meandice import compute_dice
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch.nn import functional as F

from medgan_pl.metrics.diversity import ms_ssim
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.paired import Paired, PairedMasks, Segments, dice, hausdorff_95, mae, psnr, ssim


def generator(seed):
    return torch.Generator().manual_seed(seed)


def pair(shape, seed=0):
    """Smooth reals in [-1, 1] with a flat bright part, and fakes with errors of image i growing with i."""
    coarse = torch.rand(*shape[:2], *(max(2, s // 8) for s in shape[2:]), generator=generator(seed))
    real = F.interpolate(coarse, size=shape[2:], mode="bilinear" if len(shape) == 4 else "trilinear") * 2 - 1
    real[..., -12:] = 0.97
    noise = torch.randn(shape, generator=generator(seed + 1))
    noise[..., -3:] = 0.1
    by = 0.02 * torch.arange(1, shape[0] + 1).view(-1, *[1] * (len(shape) - 1))
    return (real + by * noise).clamp(-1, 1), real


@pytest.mark.parametrize("shape", [(3, 1, 64, 64), (2, 3, 40, 23), (2, 1, 11, 30), (2, 1, 24, 20, 22), (1, 2, 12, 13, 14)])
def test_mae_psnr_and_ssim_are_scikit_images(shape):
    fake, real = pair(shape)
    found = ssim(fake, real)
    assert found.max() < 0.99
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1, "channel_axis": 0}
    for i, (a, b) in enumerate(zip(fake.double().numpy(), real.double().numpy(), strict=True)):
        assert mae(fake, real)[i].item() == pytest.approx(np.abs(a - b).mean(), rel=1e-5)
        assert psnr(fake, real)[i].item() == pytest.approx(peak_signal_noise_ratio(b, a, data_range=2), rel=1e-5)
        assert found[i].item() == pytest.approx(structural_similarity((a + 1) / 2, (b + 1) / 2, **settings), abs=1e-6)


def test_hounsfield_units():
    """A window of [-1000, 400] HU is 1400 HU wide: 0.1 of [-1, 1] is 70 HU."""
    real = torch.zeros(2, 1, 16, 16)
    fake = torch.stack([torch.full((1, 16, 16), 0.1), torch.full((1, 16, 16), -0.2)])
    torch.testing.assert_close(mae(fake, real, half_range=700), torch.tensor([70.0, 140.0]))
    metric = Paired(half_range=700)
    metric.update(fake, real)
    assert metric.compute()["mae"].item() == pytest.approx(105)
    assert metric.compute()["psnr"].item() == pytest.approx((10 * math.log10(4 / 0.01) + 10 * math.log10(4 / 0.04)) / 2, rel=1e-6)


def test_equal_and_inverted_images():
    real = pair((2, 1, 32, 32))[1]
    assert mae(real, real).tolist() == [0, 0]
    assert psnr(real, real).tolist() == [100, 100]
    assert psnr(real + 1e-7, real).tolist() == [100, 100]
    assert psnr(torch.ones(1, 1, 4, 4), -torch.ones(1, 1, 4, 4)).item() == pytest.approx(0, abs=1e-6)  # the worst there is
    torch.testing.assert_close(ssim(real, real), torch.ones(2))
    board = torch.ones(16, 16)
    board[::2, ::2] = board[1::2, 1::2] = -1
    assert ssim(board[None, None], -board[None, None]).item() < -0.9


def square(*corners, size=24):
    mask = torch.zeros(1, 1, size, size)
    for top, left, bottom, right in corners:
        mask[:, :, top:bottom, left:right] = 1
    return mask


def test_dice_by_hand_and_by_monai():
    fakes = torch.cat([square((0, 0, 4, 4)), square((0, 2, 4, 6)), square((10, 10, 12, 12)), square(), square((1, 1, 5, 5)), square()])
    reals = torch.cat([square((0, 0, 4, 4)), square((0, 0, 4, 4)), square((0, 0, 4, 4)), square((1, 1, 5, 5)), square(), square()])
    torch.testing.assert_close(dice(fakes, reals), torch.tensor([1, 0.5, 0, 0, 0, 1]))
    torch.testing.assert_close(dice(fakes.bool(), reals.bool()), dice(fakes, reals))
    blobs = [(torch.rand(6, 1, 9, 8, 7, generator=generator(s)) > 0.6).float() for s in (0, 1)]
    torch.testing.assert_close(dice(*blobs), compute_dice(*blobs, ignore_empty=False)[:, 0])


def test_hausdorff_by_hand():
    """A column of 40 voxels: one moved aside is as far as it was moved, a stray voxel beside it is left out, four are not."""
    column = torch.zeros(1, 1, 44, 30)
    column[:, :, :40, 2] = 1
    moved, stray, strays = column.roll(5, 3), column.clone(), column.clone()
    stray[:, :, 0, 28] = 1
    strays[:, :, :4, 28] = 1
    fakes, reals = torch.cat([moved, stray, strays, column]), column.expand(4, -1, -1, -1)
    assert hausdorff_95(fakes, reals).tolist() == pytest.approx([5, 0, 26, 0], abs=1e-5)
    assert hausdorff_95(reals, fakes).tolist() == pytest.approx([5, 0, 26, 0], abs=1e-5)  # the greater of both directions
    assert hausdorff_95(fakes, reals, spacing_mm=(2.0, 0.5)).tolist() == pytest.approx([2.5, 0, 13, 0], abs=1e-5)


def test_hausdorff_is_the_95th_percentile_and_no_other():
    """A diagonal from the foot of a column has 21 voxels, 0, 1, … 20 from it: the 95th percentile is 19, the 96th 19.2."""
    column, diagonal = torch.zeros(1, 1, 24, 24), torch.zeros(1, 1, 24, 24)
    column[:, :, :21, 1] = 1
    diagonal[:, :, torch.arange(21), 1 + torch.arange(21)] = 1
    assert hausdorff_95(diagonal, column).item() == hausdorff_95(column, diagonal).item() == pytest.approx(19, abs=1e-5)


def outline(mask):
    """The voxels of a mask with a neighbour along an axis outside it."""
    inside = np.pad(mask, 1)
    core = inside.copy()
    for axis in range(mask.ndim):
        core &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    return np.argwhere((inside & ~core)[(slice(1, -1),) * mask.ndim])


@pytest.mark.parametrize("spacing", [None, (3.0, 0.7, 1.2)])
def test_hausdorff_in_3d_by_all_distances(spacing):
    axes = np.indices((14, 15, 16)) - 7.0
    a = (axes**2).sum(0) < 25
    b = (axes[0] / 6) ** 2 + (axes[1] / 3) ** 2 + ((axes[2] - 2) / 5) ** 2 < 1
    points = [outline(mask) * np.array(spacing or (1, 1, 1)) for mask in (a, b)]
    apart = np.linalg.norm(points[0][:, None] - points[1][None], axis=2)
    expected = max(np.percentile(apart.min(1), 95), np.percentile(apart.min(0), 95))
    masks = [torch.from_numpy(mask)[None, None] for mask in (a, b)]
    assert hausdorff_95(*masks, spacing_mm=spacing).item() == pytest.approx(expected, rel=1e-5)


def test_segments_are_judged_structure_by_structure():
    real = torch.full((3, 2, 12, 10), -1.0)
    real[:, 0, 2:8, 2:6], real[:2, 1, 9:11, 7:9] = 1, 1  # the third image has none of the second structure
    fake = real.clone()
    fake[0, 0, 8, 2:6] = 0.1  # a row of 4 more than the 24 there are
    fake[1, 1] = -0.1  # missed
    metric = Segments(structures=["a", "b"], outlines=True, spacing_mm=(2.5, 1))
    metric.update(fake, real)
    values = dict(zip(metric.keys, metric.values.T, strict=True))
    assert list(values) == ["dice", "dice_a", "dice_b", "hd95_a", "hd95_b"]
    assert values["dice_a"].tolist() == pytest.approx([48 / 52, 1, 1])
    assert values["dice_b"].tolist() == pytest.approx([1, 0, 1])
    assert values["dice"].tolist() == pytest.approx([(48 / 52 + 1) / 2, 0.5, 1])
    assert values["hd95_a"].tolist() == pytest.approx([2.5, 0, 0])
    assert values["hd95_b"].isnan().tolist() == [False, True, True]
    plain = Segments(structures=["a", "b"])
    plain.update(fake, real)
    assert torch.equal(plain.values, metric.values[:, :3])


def test_empty_masks_have_no_hausdorff_distance():
    full, empty = square((2, 2, 9, 9)), square()
    fakes, reals = torch.cat([full, empty, full, empty]), torch.cat([full, full, empty, empty])
    assert hausdorff_95(fakes, reals).isnan().tolist() == [False, True, True, True]
    metric = PairedMasks()
    metric.update(fakes, reals)
    assert metric.undefined() == {"dice": 0, "hd95": 3}
    assert {key: value.item() for key, value in metric.compute().items()} == pytest.approx({"dice": 0.5, "hd95": 0})
    metric.reset()
    metric.update(fakes[1:3], reals[1:3])
    assert metric.compute()["hd95"].isnan()
    estimates = metric.estimates(Resampling())
    assert list(estimates) == ["dice"]
    assert estimates["dice"].value == 0


def fed(metric, fake, real, *sizes):
    for a, b in zip(fake.split(list(sizes)), real.split(list(sizes)), strict=True):
        metric.update(a, b)
    return {key: value.item() for key, value in metric.compute().items()}


@pytest.mark.parametrize("sizes", [(1,) * 12, (5, 5, 2)])
def test_batches_do_not_matter_and_order_is_kept(sizes):
    fake, real = pair((12, 1, 24, 24))
    metric = Paired()
    found = fed(metric, fake, real, *sizes)
    assert list(found) == ["mae", "psnr", "ssim", "ms_ssim_paired"]
    assert found == pytest.approx(fed(Paired(), fake, real, 12), rel=1e-6)
    for column, values in enumerate((mae(fake, real), psnr(fake, real), ssim(fake, real), ms_ssim(fake, real))):
        torch.testing.assert_close(metric.values[:, column], values)
        assert found[metric.keys[column]] == pytest.approx(values.mean().item(), rel=1e-5)
    metric.reset()
    assert fed(metric, fake[:2], real[:2], 2) != pytest.approx(found)


def test_ranks_are_gathered():
    fake, real = pair((10, 1, 16, 16))
    first, second = Paired(), Paired()
    first.update(fake[:7], real[:7])
    second.update(fake[7:], real[7:])
    first.merge_state(second)  # as a gather over ranks does
    assert {key: value.item() for key, value in first.compute().items()} == pytest.approx(fed(Paired(), fake, real, 10), rel=1e-6)


def test_intervals_hold_the_mean_and_keep_patients_together():
    """20 patients, of each 6 equal pairs: as independent images they would seem known √6 times as well."""
    fake, real = pair((20, 1, 16, 16))
    fake, real = fake.repeat_interleave(6, 0), real.repeat_interleave(6, 0)
    metric = Paired()
    means = fed(metric, fake, real, 120)
    images = metric.estimates(Resampling(draws=100))
    patients = metric.estimates(Resampling(draws=100, real_groups=torch.arange(20).repeat_interleave(6) + 7))
    assert list(images) == list(patients) == list(means)
    for key, mean in means.items():
        assert images[key].value == patients[key].value == pytest.approx(mean, rel=1e-5)
        assert images[key].low < images[key].value < images[key].high
        assert patients[key].low < patients[key].value < patients[key].high
        assert (patients[key].high - patients[key].low) / (images[key].high - images[key].low) == pytest.approx(6**0.5, rel=0.3)
    assert metric.estimates(Resampling(draws=100)) == images  # the same each time


def test_patients_of_pairs_without_a_value_are_left_out():
    reals = torch.cat([square((2, 2, 9, 9))] * 3 + [square()] * 3)
    metric = PairedMasks()
    metric.update(torch.cat([square((2, 2 + i, 9, 9 + i)) for i in range(6)]), reals)
    found = metric.estimates(Resampling(real_groups=torch.tensor([4, 4, 5, 5, 6, 6])))
    assert found["hd95"].value == pytest.approx(1, abs=1e-5)
    assert found["hd95"].low == pytest.approx(0.5, abs=1e-5)  # patient 4 twice
    assert found["hd95"].high == pytest.approx(2, abs=1e-5)  # patient 5 twice


def test_what_it_refuses():
    fake, real = pair((3, 1, 16, 16))
    for function in (mae, psnr, ssim, Paired().update):
        with pytest.raises(ValueError, match=r"fake \(2, 1, 16, 16\) and real \(3, 1, 16, 16\)"):
            function(fake[:2], real)
        with pytest.raises(ValueError, match="the fake images given to the metric contain NaN"):
            function(fake * torch.nan, real)
        with pytest.raises(ValueError, match="the real images given to the metric contain NaN"):
            function(fake, real * torch.inf)
    with pytest.raises(ValueError, match="must be pairs"):
        Paired().update(fake[:0], real[:0])
    with pytest.raises(ValueError, match=r"sides of 11 or more, got \(3, 1, 16, 10\)"):
        Paired().update(fake[..., :10], real[..., :10])
    for half_range in (0, -1, math.inf, math.nan):
        with pytest.raises(ValueError, match="`half_range` must be a positive number"):
            Paired(half_range=half_range)
    for metric in (Paired(), PairedMasks()):
        with pytest.raises(ValueError, match="call update"):
            metric.compute()
        with pytest.raises(ValueError, match="call update"):
            metric.estimates(Resampling())
    metric = Paired()
    metric.update(fake, real)
    with pytest.raises(ValueError, match="each of the 3 pairs"):
        metric.estimates(Resampling(real_groups=torch.arange(4)))


def test_what_it_refuses_of_masks():
    mask = square((2, 2, 9, 9))
    for function in (dice, hausdorff_95, PairedMasks().update):
        with pytest.raises(ValueError, match="must be pairs"):
            function(mask, mask[..., :5])
        with pytest.raises(ValueError, match=r"the fake masks must be .* of 0 and 1"):
            function(mask * 0.7, mask)
        with pytest.raises(ValueError, match="the real masks must be"):
            function(mask, mask * 2)
        with pytest.raises(ValueError, match="the fake masks must be"):
            function(mask.expand(-1, 2, -1, -1), mask.expand(-1, 2, -1, -1))
    for spacing in ((1.0,), (1.0, 0.0), (1.0, math.nan)):
        with pytest.raises(ValueError, match="2 positive numbers"):
            hausdorff_95(mask, mask, spacing_mm=spacing)
