"""Resampling without aliasing, and the fit to a size: every voxel stays where it was in the patient."""

import numpy as np
import pytest
import torch

from medgan_pl.data.prepare.geometry import Fit, resample, weights
from medgan_pl.data.readers.scan import ScanError


def world(shape, grid=None):
    """(axes, *shape): at each voxel its own place, in the indices that `grid` (n + 1, n + 1) leads to."""
    places = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")).astype(np.float64)
    if grid is None:
        return places
    return np.tensordot(grid[:-1, :-1], places, 1) + grid[:-1, -1].reshape(-1, *[1] * len(shape))


@pytest.mark.parametrize(("count", "scale"), [(12, 2), (12, 3), (10, 2.5), (7, 7), (5, 1), (9, 1.5), (1, 1), (64, 4)])
def test_shrinking_keeps_the_mean_and_every_sample_counts_alike(count, scale):
    matrix = weights(count, scale)
    assert matrix.shape == (round(count / scale), count)
    assert np.allclose(matrix.sum(1), 1)
    assert np.allclose(matrix.sum(0), len(matrix) / count)  # so the mean of any image is kept


@pytest.mark.parametrize(("count", "scale"), [(7, 2), (100, 3), (1, 5), (11, 1.3), (3, 0.4), (1, 0.2), (50, 0.9)])
def test_an_uneven_scale_is_still_a_mean_about_the_same_centre(count, scale):
    matrix = weights(count, scale)
    assert matrix.shape == (max(1, round(count / scale)), count)
    assert (matrix >= 0).all()
    assert np.allclose(matrix.sum(1), 1)
    assert np.allclose(matrix, matrix[::-1, ::-1])  # mirrored in, mirrored out: nothing moves


@pytest.mark.parametrize("scale", [2.0, 1.5, 0.5, 0.3])
def test_a_linear_ramp_stays_where_it_was(scale):
    ramp = torch.arange(40, dtype=torch.float64)
    out = resample(ramp, [scale], [99])
    centres = (np.arange(len(out)) + 0.5 - len(out) / 2) * scale + 20 - 0.5  # in old indices
    inside = (centres > 1) & (centres < 38)
    assert np.allclose(out.numpy()[inside], centres[inside])


@pytest.mark.parametrize(("count", "scale", "most"), [(20000, 1 / 150, None), (2**28, 1 / 4, 64), (2, 1e-9, None), (40000, 2, None)])
def test_what_would_not_fit_in_memory_is_refused_before_it_is_made(count, scale, most):
    with pytest.raises(ScanError, match=f"may multiply to 33,554,432, got {count:,} that become .*; check the spacing in the header"):
        weights(count, scale, most)


def test_scale_1_is_the_image_itself_to_the_bit():
    image = torch.randn(3, 5, 7)
    assert torch.equal(resample(image, [1.0, 1.0], [9, 9]), image)
    assert np.array_equal(weights(9, 1.0), np.eye(9))


def test_the_finest_stripes_become_their_mean():
    stripes = torch.tile(torch.tensor([0.0, 1.0]), (2, 64, 32))
    assert torch.allclose(resample(stripes, [4, 4], [16, 16]), torch.full((2, 16, 16), 0.5), atol=1e-6)


SHAPES = [
    ((20, 30), (20, 30), None),
    ((20, 30), (16, 16), None),
    ((21, 33), (10, 14), None),
    ((20, 30), (64, 64), None),
    ((40, 80), (9, 32), (2.0, 2.0)),
    ((11, 12), (40, 41), (0.7, 0.35)),
    ((12, 11), (41, 40), (0.7, 0.35)),
    ((9, 10, 11), (9, 10, 11), None),
    ((9, 24, 20), (8, 8, 8), None),
    ((9, 24, 20), (16, 16, 16), (2.0, 1.0, 0.9)),
    ((8, 13, 20), (30, 5, 20), (0.5, 1.7, 0.9)),
]


@pytest.mark.parametrize("crop", [True, False], ids=["crop", "pad"])
@pytest.mark.parametrize(("shape", "size", "spacing_mm"), SHAPES)
def test_a_voxel_keeps_its_place_in_the_patient(shape, size, spacing_mm, crop):
    """Each new voxel of an image that holds at each voxel its own index must hold the index that the new affine leads to."""
    spacing = (1.5, 1.0, 0.9)[-len(shape) :]
    ramps = torch.from_numpy(world(shape))  # the axis of indices leads: a fit leaves what lies before the image alone
    fit = Fit(size, spacing_mm, crop)
    out, grid = fit(ramps, spacing, fill=-1e6)
    assert out.shape == (len(shape), *size)
    assert np.allclose(np.diag(grid)[:-1] * spacing, fit.spacing(shape, spacing))
    if spacing_mm:
        assert fit.spacing(shape, spacing) == spacing_mm
    else:
        assert len(set(fit.spacing(shape, spacing))) == 1  # square pixels
    expected = world(size, grid)
    scales = np.diag(grid)[:-1].reshape(-1, *[1] * len(shape))
    limits = np.array(shape).reshape(-1, *[1] * len(shape))
    reach = np.maximum(scales, 1)
    deep = ((expected >= reach) & (expected <= limits - 1 - reach)).all(0)  # away from the edge, where samples are cut
    assert deep.sum() > 0
    # A mean of pixels cut by its edge is off a ramp by 1/8 pixel at each end at most; interpolation is exact.
    slack = np.where(scales > 1, 0.25 / scales, 0) + 1e-6
    assert (np.abs(out.numpy() - expected) < slack)[:, deep].all()
    outside = ((expected < -1 - scales) | (expected > limits + scales)).any(0)
    assert (out.numpy()[:, outside] == -1e6).all()
    assert (out.numpy()[:, deep] > -1e6).all()
    middle = grid @ [*((np.array(size) - 1) / 2), 1]
    assert (np.abs(middle[:-1] - (np.array(shape) - 1) / 2) <= np.diag(grid)[:-1] / 2 + 1e-9).all()  # the centre, to half a new voxel


@pytest.mark.parametrize(("shape", "size"), [((6, 8), (6, 8)), ((7, 9), (3, 5)), ((6, 8), (4, 4)), ((3, 5), (7, 9)), ((4, 4), (6, 8))])
def test_where_nothing_is_resampled_every_value_comes_through_exactly(shape, size):
    image = torch.randn(4, *shape)  # slices before the image
    out, grid = Fit(size, (0.8, 0.8))(image, (0.8, 0.8), fill=9.0)
    assert np.array_equal(grid[:-1, :-1], np.eye(2))
    old = world(size, grid).round().astype(int)
    inside = ((old >= 0) & (old < np.array(shape)[:, None, None])).all(0)
    assert inside.sum() == np.prod(np.minimum(shape, size))
    assert np.array_equal(out.numpy()[:, inside], image.numpy()[:, old[0][inside], old[1][inside]])
    assert (out.numpy()[:, ~inside] == 9).all()


@pytest.mark.parametrize("crop", [True, False])
@pytest.mark.parametrize(("shape", "size", "spacing_mm"), SHAPES)
def test_what_was_cropped_off_before_resampling_would_have_changed_nothing(monkeypatch, shape, size, spacing_mm, crop):
    spacing = (1.5, 1.0, 0.9)[-len(shape) :]
    image = torch.randn(shape, dtype=torch.float64)
    fit = Fit(size, spacing_mm, crop)
    early, grid = fit(image, spacing, 0.0)
    monkeypatch.setattr(fit, "kept", lambda shape, spacing: (slice(None),) * len(shape))
    late, same = fit(image, spacing, 0.0)
    assert np.allclose(grid, same)
    assert torch.allclose(early, late)
