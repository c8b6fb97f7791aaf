"""Self-attention against the formula, summed pixel by pixel."""

import pytest
import torch
from torch import nn

from medgan_pl.models.networks.attention import SelfAttention, attended
from medgan_pl.models.networks.layers import CONV
from medgan_pl.models.networks.resnet import ResNetDiscriminator, ResNetGenerator


def by_hand(attention: SelfAttention, x: torch.Tensor, fewer: bool = True) -> torch.Tensor:
    """x (C, *S) with γ v(Σ_i β_ij h(x_i)) added, over the maxima of 2 pixels an axis."""

    def through(layer: nn.Module, pixels: torch.Tensor) -> torch.Tensor:
        return layer.weight.flatten(1) @ pixels  # a 1×1 convolution is a matrix

    def pooled(values: torch.Tensor) -> torch.Tensor:
        for axis in range(1, values.ndim) if fewer else ():
            values = torch.stack([part.amax(axis) for part in values.split(2, axis) if part.shape[axis] == 2], axis)
        return values.flatten(1)

    query = through(attention.query, x.flatten(1))
    key, value = (pooled(through(layer, x.flatten(1)).unflatten(1, x.shape[1:])) for layer in (attention.key, attention.value))
    found = torch.zeros_like(query)
    for j in range(query.shape[1]):
        fit = torch.stack([(key[:, i] * query[:, j]).sum() for i in range(key.shape[1])]).exp()
        found[:, j] = (value * (fit / fit.sum())).sum(1)
    return x + attention.gain * through(attention.out, found).unflatten(1, x.shape[1:])


@pytest.mark.parametrize("size", [(4, 6), (5, 4), (2, 4, 6)])
def test_values_are_the_formula(size) -> None:
    attention = SelfAttention(len(size), 16)
    nn.init.constant_(attention.gain, 0.7)
    x = torch.randn(2, 16, *size)
    with torch.no_grad():
        torch.testing.assert_close(attention(x), torch.stack([by_hand(attention, each) for each in x]), rtol=1e-4, atol=1e-5)


def test_an_axis_of_one_pixel_is_not_halved() -> None:
    attention = SelfAttention(2, 8)
    nn.init.ones_(attention.gain)
    x = torch.randn(1, 8, 1, 4)
    with torch.no_grad():
        torch.testing.assert_close(attention(x)[0], by_hand(attention, x[0], fewer=False), rtol=1e-4, atol=1e-5)


def test_it_begins_as_nothing_and_learns() -> None:
    attention, x = SelfAttention(2, 8), torch.randn(2, 8, 4, 4)
    assert torch.equal(attention(x), x)
    attention(x).square().sum().backward()
    assert attention.gain.grad != 0


def test_it_can_be_differentiated_twice() -> None:
    attention, x = SelfAttention(2, 8).double(), torch.randn(2, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    nn.init.ones_(attention.gain)
    assert torch.autograd.gradgradcheck(lambda x: attention(x).square().mean(), x)


@pytest.mark.parametrize(
    ("sizes", "halvings", "level"),
    [
        ((16, 16), 2, 1),
        ((64, 64), 4, 1),
        ((128, 128), 5, 2),
        ((256, 128), 5, 3),
        ((32, 32, 32), 3, 1),
        ((64, 64, 64), 4, 2),
        ((8, 4096), 1, 1),
    ],
)
def test_where_it_stands(sizes, halvings, level) -> None:
    assert attended(sizes, halvings) == level


@pytest.mark.parametrize("size", [(16, 16), (128, 64), (16, 8, 16)])
def test_both_players_look_at_the_same_size(size) -> None:
    where = {"spatial_dims": len(size), "channels": 1, "size": size, "width": 2, "attention": True}
    g, d = ResNetGenerator(**where, latent=4, spectral_norm=True), ResNetDiscriminator(**where)
    seen = []
    for network in (g, d):
        (attention,) = (layer for layer in network.modules() if isinstance(layer, SelfAttention))
        attention.register_forward_hook(lambda layer, inputs, output: seen.append(output.shape[1:]))
    d(g(torch.randn(2, 4)))
    assert seen[0] == seen[1]
    assert tuple(seen[0][1:]) == tuple(axis // 2 ** attended(size, 3) for axis in size)


def test_spectral_norm_of_g_leaves_the_condition() -> None:
    g = ResNetGenerator(spatial_dims=2, channels=1, size=16, width=2, latent=4, classes=2, spectral_norm=True)
    normed = {type(layer).__name__ for layer in g.modules() if hasattr(layer, "parametrizations")}
    assert normed == {"ParametrizedConv2d", "ParametrizedLinear"}
    assert not any(isinstance(layer, tuple(CONV.values())) and not hasattr(layer, "parametrizations") for layer in g.modules())
