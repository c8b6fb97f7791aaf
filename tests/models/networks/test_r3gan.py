"""R3GAN's players: shapes, what fix-up makes of them at the start, what blocks and bases compute, the range of what G gives."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import AuxiliaryHead, space
from medgan_pl.models.networks.r3gan import Basis, Block, Gather, R3Discriminator, R3Generator, groups_of

SPACES = [(2, 32), (2, [32, 48]), (2, 20), (3, 16), (3, [8, 16, 16])]
SMALL = {"spatial_dims": 2, "channels": 1, "size": 16, "width": 8}


@pytest.mark.parametrize(("spatial_dims", "size"), SPACES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_and_gradients(spatial_dims, size, channels, classes) -> None:
    where = {"spatial_dims": spatial_dims, "channels": channels, "size": size, "width": 4, "classes": classes}
    g, d = R3Generator(**where, latent=8), R3Discriminator(**where)
    label = torch.eye(3)[[0, 2, 1]] if classes else None
    image = g(torch.randn(3, 8), label)
    assert image.shape == (3, channels, *space(size, spatial_dims))
    logits = d(image, label)
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for net in (g, d) for weight in net.parameters())


@pytest.mark.parametrize("size", [32, 512])
def test_neither_vanishes_nor_explodes_without_normalisation(size) -> None:
    """Of 8 or of 16 blocks."""
    torch.manual_seed(0)
    g, d = (kind(spatial_dims=2, channels=1, size=size, width=4, awake=1.0) for kind in (R3Generator, R3Discriminator))
    with torch.no_grad():
        image = g(torch.randn(4, 64))
        logits = d(image)
    assert 0.05 < image.std() < 5
    assert 1e-4 < logits.std() < 10


def test_fix_up() -> None:
    torch.manual_seed(0)
    d = R3Discriminator(spatial_dims=2, channels=1, size=32, width=64)
    blocks = [layer for layer in d.modules() if isinstance(layer, Block)]
    assert len(blocks) == 8  # two for each of 32, 16, 8, 4
    x = torch.randn(2, 64, 8, 8)
    assert torch.equal(blocks[0](x), x)
    gain = math.sqrt(2 / 1.04) * 8**-0.25  # L = 8, m = 3
    assert blocks[0].expand.weight.std().item() == pytest.approx(gain / math.sqrt(64), rel=0.05)
    assert blocks[0].spatial.weight.std().item() == pytest.approx(gain / math.sqrt(16 * 9), rel=0.05)
    assert not any(block.project.weight.any() for block in blocks)


def test_awake_branches_start_with_a_share_of_the_variance() -> None:
    torch.manual_seed(0)
    d = R3Discriminator(spatial_dims=2, channels=1, size=32, width=64, group_width=128, awake=1.0)
    block = next(layer for layer in d.modules() if isinstance(layer, Block))
    x = torch.randn(4, 64, 16, 16)
    branch = (block(x) - x)[..., 1:-1, 1:-1]  # the border sees zeros
    assert branch.var().item() == pytest.approx(1 / 8, rel=0.4)


def test_a_block_by_hand() -> None:
    """Against dense convolutions with the groups written out as zeros."""
    torch.manual_seed(0)
    block = Block(2, 4, expansion=2, group_width=4, depth=1, awake=0.0)
    for weight in block.parameters():
        nn.init.normal_(weight)
    dense = torch.zeros(8, 8, 3, 3)
    dense[:4, :4], dense[4:, 4:] = block.spatial.weight[:4].detach(), block.spatial.weight[4:].detach()
    x = torch.randn(2, 4, 6, 6)
    h = F.leaky_relu(F.conv2d(x, block.expand.weight, block.expand.bias), 0.2)
    h = F.leaky_relu(F.conv2d(h, dense, block.spatial.bias, padding=1), 0.2)
    torch.testing.assert_close(block(x), x + F.conv2d(h, block.project.weight))
    assert block.project.bias is None


@pytest.mark.parametrize(("channels", "width", "groups"), [(128, 16, 8), (40, 16, 2), (56, 16, 2), (8, 16, 1), (8, 1, 8)])
def test_groups_hold_at_least_their_width(channels, width, groups) -> None:
    assert groups_of(channels, width) == groups


def test_basis_and_gather() -> None:
    torch.manual_seed(0)
    basis, gather = Basis(3, 2, (4, 6)), Gather(2, (4, 6))
    z = torch.randn(5, 3)
    expected = torch.einsum("bf,cf,chw->bchw", z, basis.linear.weight, basis.basis) + basis.basis
    torch.testing.assert_close(basis(z), expected)
    depthwise = F.conv2d(expected, gather.weight[:, None], groups=2)  # as large as its input: one value a channel
    torch.testing.assert_close(gather(expected), depthwise[:, :, 0, 0])


def test_images_leave_the_range_in_training_only() -> None:
    torch.manual_seed(0)
    g = R3Generator(**SMALL, latent=8)
    z = torch.randn(64, 8) * 5
    free = g(z)
    assert free.abs().max() > 1
    torch.testing.assert_close(g.eval()(z), free.clamp(-1, 1))


def test_the_label_is_really_used() -> None:
    torch.manual_seed(0)
    g, d = R3Generator(**SMALL, classes=2, latent=8).eval(), R3Discriminator(**SMALL, classes=2).eval()
    zero, one = torch.eye(2)[[0] * 4], torch.eye(2)[[1] * 4]
    z, image = torch.randn(4, 8), torch.randn(4, 1, 16, 16)
    assert not torch.allclose(g(z, zero), g(z, one))
    assert not torch.allclose(d(image, zero), d(image, one))


def test_d_takes_another_head_and_judges_each_image_alone() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16)
    d = R3Discriminator(**SMALL, classes=2, head=AuxiliaryHead)
    assert d(a).shape == (2, 3)
    torch.testing.assert_close(d(torch.cat([a, b]))[:2], d(a))
