import copy

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from medgan_pl.models.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from medgan_pl.models.networks.ema import EMA
from medgan_pl.models.networks.layers import halve, space
from medgan_pl.models.networks.mlp import MLPDiscriminator, MLPGenerator
from medgan_pl.models.networks.resnet import ResNetDiscriminator, ResNetGenerator

PAIRS = [(MLPGenerator, MLPDiscriminator), (DCGANGenerator, DCGANDiscriminator), (ResNetGenerator, ResNetDiscriminator)]
SPACES = [(2, 32), (2, [32, 48]), (2, 20), (3, 16), (3, [8, 16, 16])]


@pytest.mark.parametrize(("generator", "discriminator"), PAIRS)
@pytest.mark.parametrize(("spatial_dims", "size"), SPACES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_ranges_and_gradients(generator, discriminator, spatial_dims, size, channels, classes) -> None:
    where = {"spatial_dims": spatial_dims, "channels": channels, "size": size, "width": 4, "classes": classes}
    g, d = generator(**where, latent=8), discriminator(**where)
    label = torch.eye(3)[[0, 2, 1]] if classes else None
    image = g(torch.randn(3, 8), label)
    assert image.shape == (3, channels, *space(size, spatial_dims))
    assert image.abs().max() <= 1
    logits = d(image, label)
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for net in (g, d) for weight in net.parameters())


@pytest.mark.parametrize(("generator", "discriminator"), PAIRS)
def test_the_label_is_really_used(generator, discriminator) -> None:
    where = {"spatial_dims": 2, "channels": 1, "size": 16, "width": 8, "classes": 2}
    g, d = generator(**where, latent=8).eval(), discriminator(**where).eval()
    z, zero, one = torch.randn(4, 8), torch.eye(2)[[0] * 4], torch.eye(2)[[1] * 4]
    assert not torch.allclose(g(z, zero), g(z, one))
    image = torch.randn(4, 1, 16, 16)
    assert not torch.allclose(d(image, zero), d(image, one))


@pytest.mark.parametrize("generator", [pair[0] for pair in PAIRS])
def test_a_label_begins_far_smaller_than_the_noise(generator) -> None:
    """As large, batch norm soon sees the label alone, and each class becomes one image."""
    torch.manual_seed(0)
    g = generator(spatial_dims=2, channels=1, size=16, width=8, latent=64, classes=2)
    z, label = torch.randn(400, 64), torch.eye(2)[torch.arange(400) % 2]
    joined = g.condition(z, label).detach()
    assert float((joined[::2, 64:] - joined[1::2, 64:]).norm(dim=1).mean()) < 0.3 * float(z.norm(dim=1).mean())


@pytest.mark.parametrize("discriminator", [pair[1] for pair in PAIRS])
def test_spectral_norm_bounds_every_weight(discriminator) -> None:
    d = discriminator(spatial_dims=2, channels=1, size=16, width=8, spectral_norm=True)
    with torch.no_grad():
        for _ in range(200):
            d(torch.randn(2, 1, 16, 16))  # each pass in training mode is a step of the power iteration
    for layer in d.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            largest = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), ord=2))
            assert largest == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("pair", PAIRS[1:])
def test_without_batch_norm_each_image_is_judged_alone(pair) -> None:
    d = pair[1](spatial_dims=2, channels=1, size=16, width=8, batch_norm=False)
    a, b = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(d(torch.cat([a, b]))[:2], d(a))


@pytest.mark.parametrize(
    ("size", "dims", "message"),
    [(100, 2, "multiple of 16 for 4 halvings, got 100; use 96 or 112"), (4, 2, "at least 8"), ([64, 64], 3, "one number or 3")],
)
def test_a_size_that_does_not_fit_is_named(size, dims, message) -> None:
    with pytest.raises(ValueError, match=message):
        halve(space(size, dims))


def test_halvings() -> None:
    assert halve((64, 48)) == (3, (8, 6))
    assert halve((64, 64)) == (4, (4, 4))
    assert halve((8, 8, 8)) == (1, (4, 4, 4))


class TestEMA:
    def test_half_life(self) -> None:
        net = nn.Linear(2, 2)
        average = EMA(net, halflife_images=100, ramp=None)
        start, goal = copy.deepcopy(net.weight.data), torch.ones(2, 2)
        net.weight.data = goal.clone()
        for i in range(10):
            average.update(net, images=(i + 1) * 10, new_images=10)
        torch.testing.assert_close(average.network.weight, (start + goal) / 2)

    def test_the_ramp_forgets_the_first_weights(self) -> None:
        net = nn.Linear(2, 2)
        average = EMA(net, halflife_images=1e9, ramp=0.1)
        net.weight.data = torch.ones(2, 2)
        for i in range(200):
            average.update(net, images=(i + 1) * 10, new_images=10)
        torch.testing.assert_close(average.network.weight, torch.ones(2, 2), atol=1e-4, rtol=0)

    def test_buffers_follow_and_it_never_trains(self) -> None:
        net = nn.BatchNorm2d(1)
        average = EMA(net, halflife_images=10, ramp=None)
        net(torch.randn(4, 1, 8, 8) + 5)
        average.update(net, images=10, new_images=10)
        torch.testing.assert_close(average.network.running_mean, net.running_mean / 2)
        assert average.network.num_batches_tracked == 1
        assert not average.train().network.training

    def test_spectral_norm_of_the_average_is_its_own(self) -> None:
        net = spectral_norm(nn.Linear(6, 6, bias=False))
        average = EMA(net, halflife_images=50, ramp=None)
        for i in range(100):
            net.parametrizations.weight.original.data = torch.randn(6, 6)
            net(torch.randn(2, 6))
            average.update(net, images=10 * (i + 1), new_images=10)
        vectors = dict(average.network.named_buffers())
        assert len(vectors) == 2
        assert all(float(vector.norm()) == pytest.approx(1.0, abs=1e-5) for vector in vectors.values())

    @pytest.mark.parametrize("arguments", [{"halflife_images": 0}, {"ramp": 0}])
    def test_bad_numbers(self, arguments) -> None:
        with pytest.raises(ValueError, match="must be above 0"):
            EMA(nn.Linear(1, 1), **arguments)
