"""Doubling and halving against the convolutions they stand for."""

import pytest
import torch
from torch.nn import functional as F

from medgan_pl.models.networks.resampling import Double, halved

SPACES = [(2, (6, 8)), (3, (4, 6, 2))]
CONV = {2: F.conv2d, 3: F.conv3d}


def smooth(x: torch.Tensor) -> torch.Tensor:
    """[1, 2, 1] / 4 along each axis, by one dense convolution; the border is repeated."""
    dims, channels = x.ndim - 2, x.shape[1]
    kernel = line = torch.tensor([1.0, 2.0, 1.0]) / 4
    for _ in range(dims - 1):
        kernel = kernel[..., None] * line
    dense = torch.zeros(channels, channels, *kernel.shape)
    for channel in range(channels):
        dense[channel, channel] = kernel
    return CONV[dims](F.pad(x, [1, 1] * dims, mode="replicate"), dense)


@pytest.mark.parametrize(("dims", "size"), SPACES)
def test_doubling_repeats_and_smooths(dims, size) -> None:
    x = torch.randn(2, 3, *size)
    double = Double(dims)
    torch.testing.assert_close(double(x), smooth(F.interpolate(x, scale_factor=2)))
    torch.testing.assert_close(double(x), F.interpolate(x, scale_factor=2, mode={2: "bilinear", 3: "trilinear"}[dims]))
    assert double.state_dict() == {}


@pytest.mark.parametrize(("dims", "size"), SPACES)
def test_halving_smooths_and_averages(dims, size) -> None:
    x = torch.randn(2, 3, *size)
    average = {2: F.avg_pool2d, 3: F.avg_pool3d}[dims]
    torch.testing.assert_close(halved(x), average(smooth(x), 2))


@pytest.mark.parametrize(("dims", "size"), SPACES)
def test_a_constant_stays_constant_to_the_border(dims, size) -> None:
    x = torch.full((1, 2, *size), 0.7)
    torch.testing.assert_close(Double(dims)(x), torch.full((1, 2, *(2 * side for side in size)), 0.7))
    torch.testing.assert_close(halved(x), torch.full((1, 2, *(side // 2 for side in size)), 0.7))


@pytest.mark.parametrize("dims", [2, 3])
def test_the_finest_checkerboard_is_not_aliased(dims) -> None:
    index = torch.meshgrid(*[torch.arange(8)] * dims, indexing="ij")
    board = (-1.0) ** sum(index)[None, None]
    inner = (slice(None), slice(None), *[slice(1, -1)] * dims)
    assert halved(board)[inner].abs().max() == 0


@pytest.mark.parametrize("dims", [2, 3])
def test_both_can_be_differentiated_twice(dims) -> None:
    x = torch.randn(1, 2, *[2] * dims, dtype=torch.float64, requires_grad=True)
    for resample in (Double(dims).double(), halved):
        assert torch.autograd.gradgradcheck(lambda x, resample=resample: resample(x).square(), x)
