import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.models.networks.fastgan import Excitation, FastDiscriminator, FastGenerator
from medgan_pl.models.networks.layers import space, window


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, 64), (2, [16, 24]), (2, 20), (2, 8), (3, 16), (3, [8, 16, 16])])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_ranges_and_gradients(spatial_dims, size, channels, classes) -> None:
    where = {"spatial_dims": spatial_dims, "channels": channels, "size": size, "width": 4, "classes": classes}
    g, d = FastGenerator(**where, latent=8), FastDiscriminator(**where)
    label = torch.eye(3)[[0, 2]] if classes else None
    image = g(torch.randn(2, 8), label)
    assert image.shape == (2, channels, *space(size, spatial_dims))
    assert image.abs().max() <= 1
    logits, views = d(image, label, torch.rand(2, spatial_dims))
    assert logits.ndim == 2
    assert logits.shape == d(image, label).shape
    for made, seen in views.values():
        assert made.shape == seen.shape
        assert made.abs().max() <= 1
    (logits.sum() + sum(made.sum() for made, _ in views.values())).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for net in (g, d) for weight in net.parameters())


def test_the_label_is_really_used() -> None:
    where = {"spatial_dims": 2, "channels": 1, "size": 16, "width": 8, "classes": 2}
    g, d = FastGenerator(**where, latent=8).eval(), FastDiscriminator(**where).eval()
    zero, one = torch.eye(2)[[0] * 4], torch.eye(2)[[1] * 4]
    z, image = torch.randn(4, 8), torch.randn(4, 1, 16, 16)
    assert not torch.allclose(g(z, zero), g(z, one))
    assert not torch.allclose(d(image, zero), d(image, one))


def test_an_excitation_is_a_gate_for_each_channel() -> None:
    excitation = Excitation(2, 8, 3)
    low, high = torch.randn(2, 8, 6, 4), torch.randn(2, 3, 24, 16)
    ratio = excitation(low, high) / high
    torch.testing.assert_close(ratio, ratio[:, :, :1, :1].expand_as(ratio))
    nn.init.zeros_(excitation.gate[3].weight)
    with torch.no_grad():
        excitation.gate[3].bias.copy_(torch.tensor([0.0, 20.0, -20.0]))
    torch.testing.assert_close(excitation(low, high), high * torch.tensor([0.5, 1.0, 0.0]).view(1, 3, 1, 1), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("size", "leaps"), [(16, [(4, 16)]), (64, [(4, 64)]), (128, [(4, 64), (8, 128)])])
def test_excitations_leap_four_halvings_and_reach_the_full_size(size, leaps) -> None:
    g, found = FastGenerator(spatial_dims=2, channels=1, size=size, width=2, latent=4), []
    for excitation in g.excitations:
        excitation.register_forward_hook(lambda layer, inputs, output: found.append((inputs[0].shape[-1], output.shape[-1])))
    g(torch.randn(2, 4))
    assert found == leaps


def test_the_views_are_the_whole_image_and_half_of_each_axis_at_the_place() -> None:
    d = FastDiscriminator(spatial_dims=2, channels=1, size=[32, 48], width=4)
    image = torch.rand(2, 1, 32, 48)
    _, views = d(image, None, torch.tensor([[0.0, 0.999], [0.5, 0.3]]))
    torch.testing.assert_close(views["whole"][1], image)  # the decoder undoes all three halvings
    # The features before the last have 8 × 12 places of 4 pixels; 5 × 7 of them can be the first of 4 × 6.
    torch.testing.assert_close(views["part"][1], torch.stack([image[0, :, :16, 24:48], image[1, :, 8:24, 8:32]]))


def test_a_large_image_is_decoded_to_sixteen_times_the_features() -> None:
    d = FastDiscriminator(spatial_dims=2, channels=1, size=128, width=2)
    image = torch.rand(2, 1, 128, 128)
    _, views = d(image, None, torch.zeros(2, 2))
    torch.testing.assert_close(views["whole"][1], F.avg_pool2d(image, 2))
    assert views["part"][1].shape == (2, 1, 64, 64)


def test_a_window_of_each_image() -> None:
    x = torch.arange(24.0).view(2, 1, 3, 4)
    first = torch.tensor([0, 2])
    torch.testing.assert_close(window(x, 3, first, 2), torch.stack([x[0, :, :, 0:2], x[1, :, :, 2:4]]))
    torch.testing.assert_close(window(x, 2, torch.tensor([2, 1]), 1), torch.stack([x[0, :, 2:], x[1, :, 1:2]]))


def test_without_batch_norm_each_image_is_judged_alone() -> None:
    d = FastDiscriminator(spatial_dims=2, channels=1, size=16, width=8, batch_norm=False)
    a, b = torch.randn(2, 1, 16, 16), torch.randn(2, 1, 16, 16)
    torch.testing.assert_close(d(torch.cat([a, b]))[:2], d(a))
