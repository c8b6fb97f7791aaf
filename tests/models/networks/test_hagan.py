from itertools import pairwise

import pytest
import torch

from medgan_pl.models.networks.hagan import CELL, HierarchicalDiscriminator, HierarchicalGenerator, first_cell, slab_of, thickness

SIZES = [(32, 16, 24), (16, 16, 16), (8, 16, 16), (48, 16, 16)]


def players(size, **more):
    where = {"spatial_dims": 3, "channels": 1, "size": size, "width": 4} | more
    return HierarchicalGenerator(**where, latent=8), HierarchicalDiscriminator(**where)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("classes", [0, 3])
def test_shapes_ranges_and_gradients(size, channels, classes) -> None:
    g, d = players(size, channels=channels, classes=classes)
    z, place, label = torch.randn(2, 8), torch.rand(2, 1), torch.eye(3)[[0, 2]] if classes else None
    slab, low = g(z, label, place)
    assert slab.shape == (2, channels, CELL * max(1, size[0] // 32), *size[1:])
    assert low.shape == (2, channels, *(axis // CELL for axis in size))
    whole = g(z, label)
    assert whole.shape == (2, channels, *size)
    assert max(image.abs().max() for image in (slab, low, whole)) <= 1
    logits = d(slab, label, place), d(low, label)
    assert logits[0].shape == logits[1].shape == (2,)
    sum(logits).sum().backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for net in (g, d) for weight in net.parameters())


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("slabs", [1, 3, 4, 8])
def test_a_slab_is_that_part_of_the_whole(size, slabs) -> None:
    g = players(size, slabs=slabs)[0].eval()
    z = torch.randn(2, 8)
    whole = g(z)
    for place in torch.rand(5, 2, 1):
        torch.testing.assert_close(g(z, None, place)[0], slab_of(whole, place, slabs), atol=1e-6, rtol=1e-5)


def test_the_whole_is_made_slab_by_slab_as_at_once() -> None:
    g = players((48, 16, 16), slabs=5)[0].eval()  # 12 cells, 2 a slab
    z, deep = torch.randn(2, 8), []
    g.high.register_forward_hook(lambda head, inputs, output: deep.append(output.shape[2]))
    whole = g(z)
    assert deep == [8] * 6
    g.thick = g.cells
    torch.testing.assert_close(whole, g(z), atol=1e-6, rtol=1e-5)


def test_where_slabs_lie() -> None:
    assert [thickness(cells, 8) for cells in (2, 8, 15, 32)] == [1, 1, 1, 4]
    place = torch.linspace(0, 1 - 2**-24, 1000)[:, None]
    firsts = first_cell(place, 8, 3)
    assert firsts.unique().tolist() == [0, 1, 2, 3, 4, 5]
    assert all(a <= b for a, b in pairwise(firsts.tolist()))
    volume = torch.arange(32.0).view(1, 1, 32, 1, 1).expand(2, 1, 32, 8, 8)
    slabs = slab_of(volume, torch.tensor([[0.0], [0.999]]), slabs=4)
    assert slabs[:, 0, :, 0, 0].tolist() == [list(range(8)), list(range(24, 32))]


def test_a_slab_is_judged_for_its_place() -> None:
    _, d = players((32, 16, 16))
    slab = torch.randn(2, 1, 4, 16, 16)
    assert not torch.allclose(d(slab, None, torch.zeros(2, 1)), d(slab, None, torch.full((2, 1), 0.9)))


def test_the_label_is_really_used() -> None:
    g, d = (player.eval() for player in players((16, 16, 16), classes=2))
    z, place, zero, one = torch.randn(2, 8), torch.rand(2, 1), torch.eye(2)[[0, 0]], torch.eye(2)[[1, 1]]
    assert not torch.allclose(g(z, zero), g(z, one))
    for image, where in ((torch.randn(2, 1, 4, 16, 16), place), (torch.randn(2, 1, 4, 4, 4), None)):
        assert not torch.allclose(d(image, zero, where), d(image, one, where))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"spatial_dims": 2}, r"`image\.spatial_dims` must be 3 for model=hagan"),
        ({"size": (16, 16, 18)}, "multiple of 4 for 2 halvings, got 18"),
        ({"size": (10, 16, 16)}, "multiple of 4 for 2 halvings, got 10"),
        ({"slabs": 0}, "`slabs` must be a whole number of at least 1, got 0"),
    ],
)
@pytest.mark.parametrize("player", [HierarchicalGenerator, HierarchicalDiscriminator])
def test_what_cannot_be_is_named(player, wrong, message) -> None:
    with pytest.raises(ValueError, match=message):
        player(**{"spatial_dims": 3, "channels": 1, "size": 16} | wrong)
