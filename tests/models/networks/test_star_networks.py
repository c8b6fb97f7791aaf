import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import space, to_channels_last
from medgan_pl.models.networks.star import AdaptiveNorm, Mapping, StarDiscriminator, StarNetworks


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, 32), (2, [16, 24]), (2, 20), (2, 8), (3, 16), (3, [8, 16, 16])])
@pytest.mark.parametrize("channels", [1, 3])
def test_shapes_ranges_and_gradients(spatial_dims, size, channels) -> None:
    where = {"spatial_dims": spatial_dims, "channels": channels, "size": size, "domains": 3, "width": 4}
    g, d = StarNetworks(**where, latent=5, style=6, hidden=8), StarDiscriminator(**where)
    image, domain = torch.rand(3, channels, *space(size, spatial_dims)) * 2 - 1, torch.tensor([0, 2, 1])
    of_noise, of_image = g.style_of_noise(torch.randn(3, 5), domain), g.style_of_image(image, domain)
    assert of_noise.shape == of_image.shape == (3, 6)
    made = g.translate(image, of_noise)
    assert made.shape == image.shape
    assert made.abs().max() <= 1
    logits = d(made, domain)
    assert logits.shape == (3,)
    (logits.sum() + g.translate(image, of_image).square().sum()).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for net in (g, d) for weight in net.parameters())


def test_each_row_has_its_own_domain() -> None:
    where = {"spatial_dims": 2, "channels": 1, "size": 16, "domains": 3, "width": 4}
    g, d = StarNetworks(**where, latent=5, style=6, hidden=8), StarDiscriminator(**where)
    image, z, domain = torch.randn(4, 1, 16, 16), torch.randn(4, 5), torch.tensor([2, 0, 1, 2])
    for play in (
        lambda rows, to: d(image[rows], to),
        lambda rows, to: g.style_of_noise(z[rows], to),
        lambda rows, to: g.style_of_image(image[rows], to),
    ):
        together = play(slice(None), domain)
        for row in range(4):
            torch.testing.assert_close(together[row], play([row], domain[[row]])[0])
        assert not torch.allclose(together, play(slice(None), (domain + 1) % 3))
        with pytest.raises(RuntimeError, match="out of bounds"):
            play(slice(None), domain - 1)  # an unknown domain is no domain


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_adaptive_norm_by_hand(spatial_dims) -> None:
    layer, x, style = AdaptiveNorm(3, 4), torch.randn(2, 3, *[5] * spatial_dims) * 3 + 2, torch.randn(2, 4)
    axes = list(range(2, x.ndim))
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    gamma, beta = F.linear(style, layer.linear.weight, layer.linear.bias).view(2, 6, *[1] * spatial_dims).split(3, 1)
    torch.testing.assert_close(layer(x, style), (1 + gamma) * (x - mean) / (variance + 1e-5).sqrt() + beta)


def test_style_steers_the_image_and_begins_as_large_as_the_noise() -> None:
    torch.manual_seed(0)
    g = StarNetworks(spatial_dims=2, channels=1, size=32, domains=2, width=8)
    image, domain = torch.rand(1, 1, 32, 32).expand(8, -1, -1, -1), torch.zeros(8, dtype=torch.long)
    made = g.translate(image, g.style_of_noise(torch.randn(8, 16), domain))
    assert made.detach().std(0).mean() > 0.01
    style = Mapping(domains=2, hidden=256)(torch.randn(500, 16), torch.ones(500, dtype=torch.long)).detach()
    assert 0.3 < float(style.std()) < 1.5


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_residual_begins_as_the_identity_in_any_style(spatial_dims) -> None:
    g = StarNetworks(spatial_dims=spatial_dims, channels=1, size=16, domains=2, width=4, residual=True)
    image = torch.rand(3, 1, *[16] * spatial_dims) * 1.9 - 0.95
    made = g.translate(image, g.style_of_noise(torch.randn(3, 16), torch.tensor([0, 1, 1])))
    torch.testing.assert_close(made, image)
    made.sum().backward()
    assert g.generator.end.conv.weight.grad.abs().sum() > 0


def test_a_residual_image_stays_within_reach_of_the_tanh() -> None:
    g = StarNetworks(spatial_dims=2, channels=1, size=16, domains=2, width=4, residual=True)
    image = torch.full((1, 1, 16, 16), -1.0)
    style = g.style_of_noise(torch.randn(1, 16), torch.tensor([1]))
    torch.testing.assert_close(g.translate(image, style), 0.99 * image)
    torch.nn.init.constant_(g.generator.end.conv.bias, 3.0)
    made = g.translate(image, style)
    assert made.max() < 1
    made.sum().backward()
    assert g.generator.end.conv.bias.grad.item() > 1
    half = g.bfloat16().translate(image.bfloat16(), style.bfloat16())
    assert (half.float() - made).abs().max() < 0.03  # no infinity where bfloat16 knows no 0.99


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_memory_layout_changes_nothing(spatial_dims) -> None:
    where = {"spatial_dims": spatial_dims, "channels": 1, "size": 16, "domains": 2, "width": 4}
    g, d = StarNetworks(**where), StarDiscriminator(**where)
    image, domain = torch.rand(2, 1, *[16] * spatial_dims), torch.tensor([0, 1])

    def play(g: nn.Module, d: nn.Module) -> torch.Tensor:
        return d(g.translate(image, g.style_of_image(image, domain)), domain)

    plain = play(copy.deepcopy(g), copy.deepcopy(d))
    to_channels_last(g), to_channels_last(d)
    torch.testing.assert_close(play(g, d), plain, atol=1e-5, rtol=1e-4)


def test_r1_differentiates_the_discriminator_twice() -> None:
    d = StarDiscriminator(spatial_dims=2, channels=1, size=16, domains=2, width=4)
    image = torch.randn(2, 1, 16, 16).requires_grad_()
    (slope,) = torch.autograd.grad(d(image, torch.tensor([0, 1])).sum(), image, create_graph=True)
    slope.square().sum().backward()
    assert all(weight.grad.isfinite().all() for weight in d.parameters() if weight.grad is not None)


def test_one_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="`domains` must be a whole number of at least 2, got 1"):
        StarNetworks(spatial_dims=2, channels=1, size=16, domains=1)
