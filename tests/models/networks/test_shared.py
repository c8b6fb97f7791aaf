"""The pair that shares a trunk: what each does; that it is played rightly stands in tests/test_shared_trunk.py."""

import pytest
import torch

from medgan_pl.models.networks.dcgan import DCGANDiscriminator, DCGANGenerator
from medgan_pl.models.networks.layers import space
from medgan_pl.models.networks.shared import SharedDiscriminator, SharedGenerator, SharedTrunk, Trunk, common


def pair(spatial_dims: int = 2, size: int | list[int] = 16, width: int = 4, **other) -> tuple[SharedGenerator, SharedDiscriminator]:
    where = {"spatial_dims": spatial_dims, "channels": 1, "size": size, "width": width}
    return SharedGenerator(**where, latent=8, **other), SharedDiscriminator(**where, **other)


@pytest.mark.parametrize(("spatial_dims", "size"), [(2, 32), (2, [32, 48]), (2, 20), (3, 16), (3, [8, 16, 16])])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_ranges_and_gradients(spatial_dims, size, classes) -> None:
    g, d = pair(spatial_dims, size, classes=classes)
    SharedTrunk()({"g": g, "d": d})
    label = torch.eye(3) if classes else None
    image = g(torch.randn(3, 8), label)
    assert image.shape == (3, 1, *space(size, spatial_dims))
    assert image.abs().max() <= 1
    logits = d(image, label)
    assert logits.shape == (3,)
    logits.sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for net in (g, d) for weight in net.parameters())


def test_the_trunk_is_one() -> None:
    g, d = pair()
    assert common(g, d) == []
    SharedTrunk()({"g": g, "d": d})
    shared = common(g, d)
    assert [id(weight) for weight in shared] == [id(weight) for weight in g.trunk.parameters()] == [id(w) for w in d.trunk.parameters()]
    assert len(shared) == len(list(Trunk(2, 1, 4, 2).parameters()))


def test_each_image_passes_the_trunk_alone() -> None:
    trunk = Trunk(2, 1, 4, 2)
    a, b = torch.randn(2, 1, 16, 16), 5 * torch.randn(2, 1, 16, 16) + 3  # of quite other statistics
    for whole, alone in zip(trunk(torch.cat([a, b])), trunk(a), strict=True):
        torch.testing.assert_close(whole[:2], alone)
    assert not list(trunk.buffers())  # nothing is remembered of who passed


def test_g_encodes_and_decodes_with_skips() -> None:
    g, _ = pair()
    halved = []
    for up in (*g.ups, g.to_image):
        up.register_forward_hook(lambda layer, inputs, output: halved.append(tuple(inputs[0].shape[1:])))
    g(torch.randn(2, 8))
    assert halved == [(32, 4, 4), (16, 8, 8), (8, 16, 16)]  # each twice as many channels as the trunk has there


def test_players_that_cannot_share() -> None:
    where = {"spatial_dims": 2, "channels": 1, "size": 16, "width": 4}
    with pytest.raises(ValueError, match="between players that both have a `trunk`"):
        SharedTrunk()({"g": DCGANGenerator(**where), "d": DCGANDiscriminator(**where)})
    with pytest.raises(ValueError, match="must be the same in both players"):
        SharedTrunk()({"g": pair(width=4)[0], "d": pair(width=8)[1]})
