import torch

from medgan_pl.analyze.search import Search
from medgan_pl.metrics.extractors.features import RandomFeatures
from medgan_pl.models.networks.stylegan2 import StyleGAN2Generator


def searched(targets: torch.Tensor, network: StyleGAN2Generator, steps: int, **more) -> Search:
    features = [RandomFeatures(width=4)]
    search = Search(network, targets, features, torch.zeros(8), 1.0, **more)
    torch.manual_seed(0)
    for step in range(steps):
        search.step(step / steps, 0.1)
    return search


def network() -> StyleGAN2Generator:
    torch.manual_seed(1)
    return StyleGAN2Generator(spatial_dims=2, channels=1, size=16, width=4, latent=8, mapping_layers=2).eval().requires_grad_(False)


def test_an_image_of_the_generator_is_found_whatever_is_beside_it() -> None:
    g = network()
    w = 0.5 * torch.randn(3, 8)
    targets = g.synthesis(g.every_layer(w))
    search = searched(targets, g, 60)
    assert search.left().max() < 0.02
    assert (search.images() - targets).square().mean() < 0.01 * (search.draw(torch.zeros(3, 1, 8)) - targets).square().mean()
    alone = searched(targets[1:2], g, 60)
    torch.testing.assert_close(alone.w[0], search.w[1], atol=1e-3, rtol=0)


def test_a_style_for_each_layer_comes_nearer_to_what_is_none_of_its_images() -> None:
    g = network()
    targets = torch.rand(2, 1, 16, 16) * 2 - 1
    one, each = (searched(targets, g, 40, each_layer=each_layer) for each_layer in (False, True))
    assert each.w.shape == (2, g.layers, 8)
    assert (each.left()[:, 0] < one.left()[:, 0]).all()


def test_distances_by_hand_and_pixels_alone() -> None:
    g = network()
    targets = torch.rand(2, 1, 16, 16)
    search = Search(g, targets, [RandomFeatures(width=4)], torch.zeros(8), 1.0, features=0.0)
    other = torch.rand(2, 1, 16, 16)
    small = torch.nn.functional.avg_pool2d(other - targets, 2)
    expected = ((other - targets).square().flatten(1).mean(1) + small.square().flatten(1).mean(1)) / 2
    torch.testing.assert_close(search.apart(other)[:, 0], expected)
    assert search.weights.tolist() == [1.0, 0.0]
    torch.testing.assert_close(search.left(), torch.ones(2, 2))
