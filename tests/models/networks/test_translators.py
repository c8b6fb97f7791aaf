import copy
import inspect
from functools import partial
from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import CONV, to_channels_last
from medgan_pl.models.networks.patchgan import PatchDiscriminator
from medgan_pl.models.networks.rrdb import DenseBlock, RRDBGenerator, doublings
from medgan_pl.models.networks.synced import SyncedBatchNorm, synced
from medgan_pl.models.networks.translator import (
    ChannelNorm,
    Ending,
    TranslatorGenerator,
    batch_norm,
    each_axis,
    enlarged,
    instance_norm,
    no_norm,
    padded,
)
from medgan_pl.models.networks.unet import UNetGenerator

UNET, RESNET = partial(UNetGenerator, width=4, levels=2), partial(TranslatorGenerator, width=4, blocks=2)
RRDB = partial(RRDBGenerator, width=4, growth=2, blocks=1)
FAMILIES = [UNET, RESNET, RRDB]
LINEAR = {2: "bilinear", 3: "trilinear"}


def gradients_are_finite(*networks: nn.Module) -> bool:
    return all(weight.grad is not None and weight.grad.isfinite().all() for net in networks for weight in net.parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("spatial_dims", "factor", "small", "size"),
    [
        (2, 1, (16, 24), (16, 24)),
        (2, 1, (13, 18), (13, 18)),
        (2, 4, (4, 7), (16, 28)),
        (2, [2, 1], (8, 11), (16, 11)),
        (3, 1, (8, 12, 9), (8, 12, 9)),
        (3, 2, (4, 5, 4), (8, 10, 8)),
        (3, [4, 1, 1], (3, 8, 8), (12, 8, 8)),
    ],
)
@pytest.mark.parametrize(("channels", "source_channels", "residual"), [(1, 1, True), (3, 2, False), (1, 3, True)])
def test_shapes_ranges_and_gradients(family, spatial_dims, factor, small, size, channels, source_channels, residual) -> None:
    g = family(spatial_dims=spatial_dims, channels=channels, source_channels=source_channels, factor=factor, residual=residual)
    nn.init.normal_(g.end.last.weight)  # a residual network begins with zeros there, which would stop every gradient behind it
    image = g(torch.rand(2, source_channels, *small) * 2 - 1)
    assert image.shape == (2, channels, *size)
    assert image.abs().max() <= 1
    image.square().sum().backward()
    assert gradients_are_finite(g)
    assert all(weight.grad.abs().max() > 0 for weight in g.parameters())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("spatial_dims", "factor"), [(2, 1), (2, 4), (3, 1), (3, 2)])
def test_a_residual_network_begins_as_the_interpolated_source(family, spatial_dims, factor) -> None:
    g = family(spatial_dims=spatial_dims, channels=1, source_channels=2, factor=factor, residual=True)
    source = torch.rand(2, 2, *[8] * spatial_dims) * 2 - 1
    source[:, :, 0] = -1.0  # a black margin
    expected = F.interpolate(source, scale_factor=factor, mode=LINEAR[spatial_dims]) if factor > 1 else source
    torch.testing.assert_close(g(source), expected[:, :1], atol=1e-6, rtol=0)


def test_what_is_added_is_cut_off_and_can_come_back() -> None:
    """From black, where a tanh would hardly move, as from grey; and from beyond, where a clamp would not."""
    end = Ending(2, 4, 1, 1, residual=True)
    source = torch.tensor([-1.0, 0.0, 0.9]).view(1, 1, 1, 3)
    for bias, expected in ((0.5, [-0.5, 0.5, 1.0]), (-0.5, [-1.0, -0.5, 0.4])):
        nn.init.constant_(end.last.bias, bias)
        image = end(torch.zeros(1, 4, 1, 3), source)
        assert image.flatten().tolist() == pytest.approx(expected)
        end.zero_grad()
        image.sum().backward()
        assert end.last.bias.grad.item() == 3


@pytest.mark.parametrize("family", [partial(UNET, norm=norm) for norm in (batch_norm, ChannelNorm, no_norm)] + [RESNET, RRDB])
@pytest.mark.parametrize(("spatial_dims", "factor"), [(2, 1), (2, 2), (3, 1)])
def test_a_window_gives_what_the_whole_image_gives(family, spatial_dims, factor) -> None:
    torch.manual_seed(0)
    g = family(spatial_dims=spatial_dims, channels=1, source_channels=1, factor=factor, residual=False)
    long, rest = 160, [6] * (spatial_dims - 1)
    source = torch.rand(2, 1, long, *rest) * 2 - 1
    for _ in range(3):
        g(source)  # moves what batch norm remembers
    g.eval()
    whole = g(source)
    first, last, reach = 40, 140, 30
    window = g(source[:, :, first:last])
    torch.testing.assert_close(
        window[:, :, reach * factor : -reach * factor], whole[:, :, (first + reach) * factor : (last - reach) * factor]
    )
    with pytest.raises(AssertionError):  # and it does look further than a pixel
        torch.testing.assert_close(window, whole[:, :, first * factor : last * factor])


@pytest.mark.parametrize(
    ("family", "settings", "reach"),
    [
        (UNetGenerator, {"levels": 2}, 21),
        (UNetGenerator, {"levels": 4}, 93),
        (TranslatorGenerator, {"blocks": 1}, 23),
        (TranslatorGenerator, {"blocks": 9}, 87),
        (RRDBGenerator, {"blocks": 1}, 19),
        (RRDBGenerator, {"blocks": 4}, 64),
    ],
)
def test_how_far_a_pixel_sees(family, settings, reach) -> None:
    g = family(spatial_dims=2, channels=1, source_channels=1, width=2, residual=False, **settings).eval().double()
    source = torch.rand(1, 1, 224, 16, dtype=torch.float64, requires_grad=True)
    rows = g(source).sum((0, 1, 3))
    found = []
    for row in range(112, 112 + g.multiple):
        (slope,) = torch.autograd.grad(rows[row], source, retain_graph=True)
        seen = slope[0, 0].abs().sum(1).nonzero()
        found += [int(seen.max()) - row, row - int(seen.min())]
    assert max(found) == reach


def test_instance_norm_looks_at_the_whole_image_and_batch_norm_does_not_mix_in_evaluation() -> None:
    source = torch.rand(2, 1, 64, 64)
    other = torch.cat([source[:, :, :48], source[:, :, 48:] + 1], 2)
    for norm, same in ((instance_norm, False), (batch_norm, True), (ChannelNorm, True)):
        g = UNET(spatial_dims=2, channels=1, source_channels=1, norm=norm).eval()
        assert torch.allclose(g(source)[:, :, :8], g(other)[:, :, :8], atol=1e-6) == same


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_channel_norm_is_over_the_channels_of_each_place(spatial_dims) -> None:
    x = torch.randn(2, 5, *[4] * spatial_dims)
    layer = ChannelNorm(spatial_dims, 5)
    nn.init.uniform_(layer.weight), nn.init.uniform_(layer.bias)
    variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    weight, bias = (value.view(1, -1, *[1] * spatial_dims) for value in (layer.weight, layer.bias))
    torch.testing.assert_close(layer(x), (x - mean) / (variance + 1e-5).sqrt() * weight + bias)


def test_dropout_stays_in_the_deeper_half_and_can_be_left_on() -> None:
    g = UNetGenerator(spatial_dims=2, channels=1, source_channels=1, width=4, levels=3, dropout=0.5).eval()
    assert [isinstance(block.body[-1], nn.Dropout) for block in g.decoder] == [True, True, False]
    source = torch.rand(1, 1, 32, 32)
    assert torch.equal(g(source), g(source))
    for layer in g.modules():
        if isinstance(layer, nn.Dropout):
            layer.train()
    assert not torch.equal(g(source), g(source))


def test_padding_repeats_the_last_value_and_leaves_the_beginning() -> None:
    x = torch.arange(6.0).view(1, 1, 2, 3)
    expected = torch.tensor([[0.0, 1, 2, 2], [3, 4, 5, 5], [3, 4, 5, 5], [3, 4, 5, 5]])
    torch.testing.assert_close(padded(x, 4)[0, 0], expected)
    assert padded(x[..., :2], 2).shape == (1, 1, 2, 2)


def test_enlarging_is_linear_along_the_axes_that_grow() -> None:
    line = torch.tensor([0.0, 1.0]).view(1, 1, 2, 1).expand(1, 1, 2, 3)
    torch.testing.assert_close(enlarged(line, (2, 1))[0, 0, :, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))
    assert doublings([4, 2]) == [(2.0, 2.0), (2.0, 1.0)]
    assert doublings([1, 1, 4]) == [(1.0, 1.0, 2.0), (1.0, 1.0, 2.0)]
    assert each_axis(3, 2) == (3, 3)


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_translator_shows_five_maps_of_its_encoder(spatial_dims) -> None:
    g = TranslatorGenerator(spatial_dims=spatial_dims, channels=1, source_channels=1, width=2, blocks=9)
    source = torch.rand(2, 1, *[16] * (spatial_dims - 1), 8)
    seen: list[torch.Tensor] = []
    for layer in g.encoder:
        layer.register_forward_hook(lambda _, __, output: seen.append(output))
    maps = g.features(source)
    _, down1, down2, *blocks = seen
    assert len(blocks) == 9
    for found, expected in zip(maps, [source, down1, down2, blocks[0], blocks[4]], strict=True):
        assert found is expected or torch.equal(found, expected)
    assert [found.shape[1] for found in maps] == [1, 4, 8, 8, 8]
    assert [found.shape[-1] for found in maps] == [8, 4, 2, 2, 2]


def test_a_dense_block_by_hand() -> None:
    block, x = DenseBlock(2, 3, 2), torch.randn(2, 3, 5, 5)
    weights = [(conv.weight, conv.bias) for conv in block.convs]
    known = x
    for weight, bias in weights[:4]:
        known = torch.cat([known, F.leaky_relu(F.conv2d(known, weight, bias, padding=1), 0.2)], 1)
    torch.testing.assert_close(block(x), x + 0.2 * F.conv2d(known, *weights[4], padding=1))
    assert block.convs[4].weight.shape[:2] == (3, 11)


@pytest.mark.parametrize(
    ("spatial_dims", "layers", "scales", "size", "patches"),
    [
        (2, 3, 1, (256, 256), (30, 30)),
        (2, 3, 1, (24, 40), (1, 3)),
        (2, 2, 3, (48, 65), (10, 14)),
        (3, 1, 2, (12, 16, 13), (4, 6, 4)),
    ],
)
@pytest.mark.parametrize(("spectral_norm", "batch_norm"), [(False, False), (True, True)])
def test_patches_of_each_scale(spatial_dims, layers, scales, size, patches, spectral_norm, batch_norm) -> None:
    d = PatchDiscriminator(
        spatial_dims=spatial_dims,
        channels=1,
        source_channels=2,
        width=2,
        layers=layers,
        scales=scales,
        spectral_norm=spectral_norm,
        batch_norm=batch_norm,
    )
    images = torch.randn(2, 3, *size).requires_grad_()
    logits = d(images)
    assert logits.shape == (2, scales, *patches)
    maps = d.features(images)
    assert len(maps) == scales * (layers + 1)
    (slope,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    (slope.square().sum() + logits.sum() + sum(each.sum() for each in maps)).backward()  # R1 differentiates twice
    assert gradients_are_finite(d)


@pytest.mark.parametrize(("layers", "width"), [(1, 16), (2, 34), (3, 70)])
def test_a_logit_sees_a_patch(layers, width) -> None:
    d = PatchDiscriminator(spatial_dims=2, channels=1, width=2, layers=layers)
    image = torch.randn(1, 1, 160, 160).requires_grad_()
    logits = d(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = image.grad[0, 0].abs().sum(1).nonzero()
    assert int(seen.max() - seen.min()) + 1 == width


def test_a_coarse_scale_judges_the_averaged_image_and_is_repeated() -> None:
    d = PatchDiscriminator(spatial_dims=2, channels=1, width=2, layers=1, scales=2)
    image = torch.randn(2, 1, 32, 32)
    fine, coarse = d.scales[0](image), d.scales[1](F.avg_pool2d(image, 2))
    assert fine.shape[2:] == (14, 14)
    assert coarse.shape[2:] == (6, 6)
    rows = torch.arange(14) * 6 // 14
    torch.testing.assert_close(d(image), torch.cat([fine, coarse[:, :, rows][..., rows]], 1))


def networks(spatial_dims: int) -> list[tuple[nn.Module, torch.Tensor]]:
    where = {"spatial_dims": spatial_dims, "channels": 1, "source_channels": 1}
    source = torch.rand(2, 1, *[12] * spatial_dims)
    found = [(family(**where, factor=factor, residual=False), source) for family, factor in product(FAMILIES, (1, 2))]
    return [*found, (PatchDiscriminator(**where, width=2, layers=1, scales=2, batch_norm=True), source.expand(-1, 2, *source.shape[2:]))]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_memory_layout_and_synchronised_norms_change_nothing(spatial_dims) -> None:
    for network, x in networks(spatial_dims):
        plain = copy.deepcopy(network)(x)
        to_channels_last(network)
        torch.testing.assert_close(copy.deepcopy(network)(x), plain, atol=1e-4, rtol=1e-3)
        assert any(isinstance(layer, SyncedBatchNorm) for layer in synced(network).modules()) or isinstance(network, RRDBGenerator)
        torch.testing.assert_close(network(x), plain, atol=1e-4, rtol=1e-3)
        with torch.autocast("cpu", torch.bfloat16):
            assert (network(x) - plain).abs().max() < 0.3
        assert not any(isinstance(layer, tuple(CONV.values())) and layer.weight.isnan().any() for layer in network.modules())


@pytest.mark.parametrize(
    ("family", "wrong", "message"),
    [
        (
            UNET,
            {"residual": True, "channels": 3},
            "`source_channels` must be at least channels=3 for residual=true, got 1; use residual=false",
        ),
        (UNET, {"levels": 0}, "levels >= 1"),
        (UNET, {"dropout": 1.0}, "dropout < 1"),
        (UNET, {"spatial_dims": 1}, "`spatial_dims` must be 2 or 3, got 1"),
        (RESNET, {"blocks": 0}, "`blocks` must be a whole number of at least 1"),
        (RESNET, {"factor": 0}, "`factor` must be one integer of at least 1, or 2 of them, got 0"),
        (RESNET, {"factor": [2, 2, 2]}, "`factor` must be"),
        (RRDB, {"factor": 3}, "`factor` must be 1, 2 or 4, got 3"),
        (RRDB, {"blocks": 0}, "`blocks` must be a whole number of at least 1"),
        (PatchDiscriminator, {"scales": 0}, "`scales` must be a whole number of at least 1, got 0; 1 is usual"),
        (PatchDiscriminator, {"spatial_dims": 4}, "`spatial_dims` must be 2 or 3"),
    ],
)
def test_what_cannot_be_built_is_said(family, wrong, message) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        family(**{"spatial_dims": 2, "channels": 1, "source_channels": 1, **wrong})


def test_what_cannot_be_judged_is_said() -> None:
    d = PatchDiscriminator(spatial_dims=2, channels=1, width=2, layers=3, scales=2)
    with pytest.raises(ValueError, match=r"`size` must be at least 48 an axis for layers=3 and scales=2 .* got \[64, 47\]; use fewer"):
        d(torch.zeros(1, 1, 64, 47))
    d(torch.zeros(1, 1, 48, 48))
    with pytest.raises(ValueError, match="no condition"):
        inspect.unwrap(PatchDiscriminator.forward)(d, torch.zeros(1, 1, 48, 48), torch.zeros(1, 2))
