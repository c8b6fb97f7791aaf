"""The style-based pair: each part against the formula by hand, image by image."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.models.networks.modulated import Blur, EqualizedConv, EqualizedLinear, ModulatedConv, ToImage, minibatch_deviation
from medgan_pl.models.networks.stylegan2 import MappingNetwork, StyleGAN2Discriminator, StyleGAN2Generator, channels_at, count_noise

CONV, TRANSPOSED = {2: F.conv2d, 3: F.conv3d}, {2: F.conv_transpose2d, 3: F.conv_transpose3d}
SPACES = [(2, (6, 8)), (3, (4, 6, 4))]


def smoothed(x: Tensor, gain: float = 1.0) -> Tensor:
    """[1, 3, 3, 1] / 8 along each axis with a zero on either side, an axis at a time."""
    kernel = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    for axis in range(2, x.ndim):
        rows = F.pad(x.movedim(axis, -1), [1, 1])
        x = gain * sum(weight * rows.narrow(-1, i, rows.shape[-1] - 3) for i, weight in enumerate(kernel)).movedim(-1, axis)
    return x


@pytest.mark.parametrize(("dims", "size"), SPACES)
@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_is_the_papers_formula_for_each_image(dims, size, up) -> None:
    layer = ModulatedConv(dims, 5, 3, 4, up=up)
    layer.bias.data.normal_()
    layer.strength.data.fill_(0.7)
    x, w = torch.randn(3, 5, *size), torch.randn(3, 4)
    noise = torch.randn(3, 1, *[axis * (1 + up) for axis in size])
    style = w @ layer.style.weight.T / math.sqrt(4) + layer.style.bias
    for i in range(3):
        axis_in = 0 if up else 1
        shape = [1, 1, *[1] * dims]
        shape[axis_in] = 5
        weight = layer.conv.weight * style[i].view(shape)  # eq. 1
        weight = weight / (weight.square().sum([axis_in, *range(2, dims + 2)], keepdim=True) + 1e-8).sqrt()  # eq. 3
        one = x[i : i + 1]
        y = smoothed(TRANSPOSED[dims](one, weight, stride=2), gain=2) if up else CONV[dims](one, weight, padding=1)
        y = y + 0.7 * noise[i] + layer.bias.view(-1, *[1] * dims)
        torch.testing.assert_close(layer(x, w, noise)[i : i + 1], math.sqrt(2) * F.leaky_relu(y, 0.2), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_modulation_under_autocast_is_near_and_finite(dtype) -> None:
    layer = ModulatedConv(2, 64, 64, 8)
    x, w = torch.randn(4, 64, 8, 8), torch.randn(4, 8) * 100  # styles of hundreds
    exact = layer(x, w, None)
    with torch.autocast("cpu", dtype):
        near = layer(x.to(dtype), w, None)
    assert near.dtype == dtype
    assert (near - exact).abs().mean() < 0.02 * exact.abs().mean()


def test_demodulated_channels_have_unit_variance() -> None:
    y = ModulatedConv(2, 64, 256, 8)(torch.randn(8, 64, 32, 32), 3 * torch.randn(8, 8), None).detach()
    assert float(y[:, :, 2:-2, 2:-2].square().mean()) == pytest.approx(1 + 0.04, abs=0.05)  # 2 (1 + 0.2²) / 2


@pytest.mark.parametrize(("dims", "size"), SPACES)
@pytest.mark.parametrize("layout", ["first", "last"])
def test_to_image_is_a_weighted_sum_of_channels_for_each_image(dims, size, layout) -> None:
    layer = ToImage(5, 2, 4, gain=0.5)
    layer.bias.data.normal_()
    x, w = torch.randn(3, 5, *size), torch.randn(3, 4)
    if layout == "last":
        x = x.to(memory_format=torch.channels_last if dims == 2 else torch.channels_last_3d)
    style = w @ layer.style.weight.T / 2 + 1
    expected = torch.einsum("bc...,oc,bc->bo...", x, layer.weight, 0.5 * style / math.sqrt(5))
    torch.testing.assert_close(layer(x, w), expected + layer.bias.view(-1, *[1] * dims))


def test_equalised_layers_scale_as_the_paper_and_learn_at_their_rate() -> None:
    linear, x = EqualizedLinear(16, 3, rate=0.01, gain=2.0, bias=1.0), torch.randn(5, 16)
    torch.testing.assert_close(linear(x), 2 * (x @ (linear.weight * 0.01).T / 4 + 1))
    assert linear.weight.detach().std() == pytest.approx(100, rel=0.3)
    conv, image = EqualizedConv(2, 4, 3, 3, gain=2.0), torch.randn(2, 4, 8, 8)
    conv.conv.bias.data.normal_()
    torch.testing.assert_close(conv(image), 2 * F.conv2d(image, conv.conv.weight / 6, conv.conv.bias, padding=1))
    smooth = smoothed(image)  # (2, 4, 7, 7): centred between the pixels
    skip = EqualizedConv(2, 4, 3, 1, down=True, bias=False)
    torch.testing.assert_close(skip(image), math.sqrt(2) * F.conv2d(smooth[..., ::2, ::2], skip.conv.weight / 2))


def test_going_down_halves_and_keeps_a_constant_away_from_the_border() -> None:
    for dims in (2, 3):
        x = torch.full((1, 2, *[16] * dims), 3.0)
        middle = (slice(None), slice(None), *[slice(2, -2)] * dims)
        torch.testing.assert_close(Blur(dims, padding=1, stride=2)(x)[middle], torch.full((1, 2, *[4] * dims), 3.0))
        assert EqualizedConv(dims, 2, 5, 3, down=True)(x).shape == (1, 5, *[8] * dims)


class TestMinibatchDeviation:
    def test_by_hand(self) -> None:
        x = torch.randn(8, 3, 4, 6)
        expected = [x[rows].std(0, correction=0).mean() for rows in (slice(4), slice(4, 8))]
        spread = minibatch_deviation(x)
        assert spread.shape == (8, 1, 4, 6)
        torch.testing.assert_close(spread[:, 0, 0, 0], torch.stack(expected).repeat_interleave(4), atol=1e-4, rtol=0)

    @pytest.mark.parametrize("parts", [1, 2, 4])
    def test_parts_of_whole_groups_are_judged_as_the_batch(self, parts) -> None:
        x = torch.randn(16, 2, 4, 4)
        torch.testing.assert_close(torch.cat([minibatch_deviation(part) for part in x.chunk(parts)]), minibatch_deviation(x))

    @pytest.mark.parametrize(("count", "groups"), [(1, [1]), (3, [3]), (5, [3, 2]), (10, [4, 3, 3])])
    def test_any_batch(self, count, groups) -> None:
        x = torch.randn(count, 2, 4, 4)
        expected = torch.cat([part.std(0, correction=0).mean().expand(len(part)) for part in x.split(groups)])
        torch.testing.assert_close(minibatch_deviation(x)[:, 0, 0, 0], expected, atol=2e-4, rtol=0)

    def test_equal_images_have_a_finite_second_derivative(self) -> None:
        x = torch.ones(4, 2, 4, 4, requires_grad=True)
        (slope,) = torch.autograd.grad(minibatch_deviation(x).sum(), x, create_graph=True)
        slope.square().sum().backward()
        assert x.grad.isfinite().all()


def test_the_mapping_sees_the_direction_of_z_alone_and_the_condition() -> None:
    mapping = MappingNetwork(8, classes=3, covariates=["age"], layers=4)
    z, condition = torch.randn(6, 8), torch.eye(5)[[0, 1, 2, 0, 1, 2]]
    torch.testing.assert_close(mapping(z, condition), mapping(5 * z, condition))
    assert not torch.allclose(mapping(z, condition), mapping(z, condition.flip(0)))
    older = condition + torch.tensor([0, 0, 0, 1.0, 0])
    assert not torch.allclose(mapping(z, condition), mapping(z, older))
    assert len(list(mapping.layers)) == 4


def networks(dims: int, size, channels: int = 1, classes: int = 0, **more):
    where = {"spatial_dims": dims, "channels": channels, "size": size, "width": 4, "classes": classes}
    return StyleGAN2Generator(**where, latent=8, **more), StyleGAN2Discriminator(**where)


@pytest.mark.parametrize(("dims", "size"), [(2, 32), (2, [32, 48]), (2, 20), (3, 16), (3, [8, 16, 16])])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_ranges_and_gradients(dims, size, channels, classes) -> None:
    g, d = networks(dims, size, channels, classes)
    label = torch.eye(3)[[0, 2, 1]] if classes else None
    image = g(torch.randn(3, 8), label, torch.randn(3, count_noise(size, dims)), torch.randn(3, 8), torch.rand(3))
    assert image.shape == (3, channels, *([size] * dims if isinstance(size, int) else size))
    assert image.abs().max() <= 1
    logits = d(image, label)
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for net in (g, d) for weight in net.parameters())


def test_channels_and_weights_are_the_papers_at_its_setting() -> None:
    assert [channels_at(level, 32, 512) for level in range(9)] == [32, 64, 128, 256, 512, 512, 512, 512, 512]  # 1024² to 4²
    with torch.device("meta"):
        d = StyleGAN2Discriminator(spatial_dims=2, channels=3, size=1024, width=32)
        g = StyleGAN2Generator(spatial_dims=2, channels=3, size=1024, width=32, latent=512)
    counts = [sum(weight.numel() for weight in network.parameters()) for network in (d, g)]
    assert counts[0] == 29_012_513  # as many as the authors' network of configuration F
    assert counts[1] == pytest.approx(30.37e6, rel=0.001)
    assert g.layers == 18


def test_the_style_of_another_z_from_the_crossover_on() -> None:
    g, _ = networks(2, 16)
    seen: list[Tensor] = []
    g.synthesis.register_forward_pre_hook(lambda network, given: seen.append(given[0]))
    z, other, crossover = torch.randn(4, 8), torch.randn(4, 8), torch.tensor([0.0, 0.5, 0.999, 1.1])
    g(z, None, None, other, crossover)
    own, mixed = g.mapping(z), g.mapping(other)
    for i, first in enumerate((1, 3, 5, 6)):  # of 6 layers at 4², 8², 16²
        expected = torch.cat([own[i].expand(first, 8), mixed[i].expand(6 - first, 8)])
        torch.testing.assert_close(seen[0][i], expected)


class TestTruncation:
    def test_towards_the_average(self) -> None:
        g, _ = networks(2, 16)
        g.eval()
        g.w_average.normal_()
        z = torch.randn(4, 8)
        images = {}
        for g.truncation in (None, 1.0, 0.5, 0.0):
            images[g.truncation] = g(z)
        torch.testing.assert_close(images[1.0], images[None])
        torch.testing.assert_close(images[0.0], g.synthesis(g.every_layer(g.w_average.unsqueeze(0))).expand(4, -1, -1, -1))
        apart = [images[psi].std(0).mean() for psi in (0.0, 0.5, 1.0)]
        assert apart[0] < apart[1] < apart[2]

    def test_training_follows_the_mean_w_and_is_never_truncated(self) -> None:
        g, _ = networks(2, 16)
        g.truncation = 0.0
        z = torch.randn(4, 8)
        image = g(z)
        torch.testing.assert_close(g.w_average, 0.005 * g.mapping(z).mean(0))
        assert not torch.allclose(image[0], image[1])
        g.eval()(z)
        torch.testing.assert_close(g.w_average, 0.005 * g.mapping(z).mean(0))


def test_noise_reaches_its_own_image_and_every_layer() -> None:
    g, _ = networks(2, 16)
    for name, weight in g.named_parameters():
        if name.endswith("strength"):
            weight.data.fill_(0.5)
    z, noise = torch.randn(1, 8).expand(2, 8), torch.randn(2, count_noise(16, 2))
    plain, noised = g(z), g(z, None, noise)
    torch.testing.assert_close(plain[0], plain[1])
    assert not torch.allclose(noised[0], noised[1])
    torch.testing.assert_close(g(z[:1], None, noise[1:])[0], noised[1])
    assert count_noise(16, 2) == 4 * 4 + 2 * 8 * 8 + 2 * 16 * 16
    for start in (0, 16, 80, 144, 400):  # a number of each layer
        changed = noise.clone()
        changed[0, start] += 1
        assert not torch.allclose(g(z, None, changed)[0], noised[0])


def test_without_the_deviation_each_image_is_judged_alone() -> None:
    d = StyleGAN2Discriminator(spatial_dims=2, channels=1, size=16, width=4, deviation=False)
    a, b = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(d(torch.cat([a, b]))[:2], d(a))
    d = StyleGAN2Discriminator(spatial_dims=2, channels=1, size=16, width=4)
    assert not torch.allclose(d(torch.cat([a, b]))[:2], d(a))


def test_the_label_is_really_used() -> None:
    g, d = networks(2, 16, classes=2)
    z, zero, one = torch.randn(4, 8), torch.eye(2)[[0] * 4], torch.eye(2)[[1] * 4]
    assert not torch.allclose(g(z, zero), g(z, one))
    image = torch.randn(4, 1, 16, 16)
    assert not torch.allclose(d(image, zero), d(image, one))
