import pytest
import torch
from torch import nn

from medgan_pl.models.networks.cgan import CGANDiscriminator, CGANGenerator, doublings
from medgan_pl.models.networks.layers import Embedding


@pytest.mark.parametrize(
    ("sizes", "steps", "base"),
    [
        ((64, 64), 4, (4, 4)),
        ((256, 128), 4, (16, 8)),
        ((32, 48), 4, (2, 3)),
        ((16, 24), 3, (2, 3)),
        ((100, 100), 2, (25, 25)),
        ((8, 16, 16), 2, (2, 4, 4)),
    ],
)
def test_four_transposed_convolutions_or_as_many_as_fit(sizes, steps, base) -> None:
    assert doublings(sizes) == (steps, base)
    where = {"spatial_dims": len(sizes), "channels": 2, "size": sizes, "width": 2, "classes": 3}
    g, d = CGANGenerator(**where, latent=4), CGANDiscriminator(**where)
    assert sum(isinstance(layer, (nn.ConvTranspose2d, nn.ConvTranspose3d)) for layer in g.modules()) == steps
    image = g(torch.randn(3, 4), torch.eye(3))
    assert image.shape == (3, 2, *sizes)
    assert d(image, torch.eye(3)).shape == (3,)


def test_an_odd_size_is_named() -> None:
    with pytest.raises(ValueError, match="must be even along each axis, got 15; use 14 or 16"):
        CGANGenerator(spatial_dims=2, channels=1, size=[16, 15])


def test_the_condition_is_a_channel_of_what_d_sees() -> None:
    d = CGANDiscriminator(spatial_dims=2, channels=1, size=16, width=4, classes=2, covariates=("age",)).eval()
    assert [type(layer) for layer in d.modules() if isinstance(layer, Embedding)] == [Embedding]  # none in the verdict
    seen, (embedding, _) = [], d.map
    d.body.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    image, condition = torch.randn(2, 1, 16, 16), torch.tensor([[0.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.5, 1.0]])
    verdict = d(image, condition)
    first = embedding.weight[0] + 0.5 * embedding.weight[2] + embedding.weight[3]
    torch.testing.assert_close(seen[0], torch.cat([image, torch.stack([embedding.weight[1], first]).view(2, 1, 16, 16)], 1))
    assert not torch.allclose(verdict, d(image, condition.flip(0)))


def test_the_label_changes_the_image() -> None:
    g = CGANGenerator(spatial_dims=3, channels=1, size=8, width=4, latent=4, classes=2).eval()
    z = torch.randn(2, 4)
    assert not torch.allclose(g(z, torch.eye(2)), g(z, torch.eye(2).flip(0)))


def test_without_classes_it_is_a_plain_pair() -> None:
    where = {"spatial_dims": 2, "channels": 1, "size": 16, "width": 4}
    g, d = CGANGenerator(**where, latent=4), CGANDiscriminator(**where)
    d(g(torch.randn(2, 4))).sum().backward()
    assert all(weight.grad is not None for network in (g, d) for weight in network.parameters())
