"""The random extractor: the same everywhere, out of every checkpoint, and able to order a ladder of worse and worse images."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.metrics.distances import frechet_distance
from medgan_pl.metrics.extractors.features import RandomFeatures


def films(count, seed, size=64):
    """Bright ovals with ribs and fine grain on a dark ground: about what a chest film is to a small network."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    oval = ((x - draw(-0.1, 0.1)) / draw(0.5, 0.7)) ** 2 + ((y - draw(-0.1, 0.1)) / draw(0.7, 0.9)) ** 2
    body = torch.sigmoid(8 * (1 - oval))
    ribs = torch.sin((y + 0.3 * x.abs()) * draw(14, 18) + draw(0, 6))
    grain = torch.randn(count, 1, size, size, generator=generator)
    return (body * (1 + 0.25 * ribs) * draw(1.0, 1.3) - 0.9 + 0.03 * grain).clamp(-1, 1)


def blurred(images, sigma):
    taps = torch.arange(-3 * int(sigma + 1), 3 * int(sigma + 1) + 1)
    kernel = torch.exp(-(taps**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    pad = len(taps) // 2
    across = F.conv2d(F.pad(images, (pad, pad, 0, 0), mode="replicate"), kernel)
    return F.conv2d(F.pad(across, (0, 0, pad, pad), mode="replicate"), kernel.mT)


def patches_shuffled(images, size):
    generator = torch.Generator().manual_seed(0)
    patches = F.unfold(images, size, stride=size)  # (B, size², patches)
    order = torch.stack([torch.randperm(patches.shape[2], generator=generator) for _ in patches])
    return F.fold(patches.gather(2, order[:, None].expand_as(patches)), images.shape[2:], size, stride=size)


def test_ladder_from_real_to_noise():
    extractor = RandomFeatures()
    real, other = films(120, seed=0), films(120, seed=1)
    noise = torch.rand(other.shape, generator=torch.Generator().manual_seed(2)) * 2 - 1
    steps = {
        "real": other,
        "lightly blurred": blurred(other, 1.0),
        "strongly blurred": blurred(other, 3.0),
        "noise": noise,
        "noisy": (other + 0.2 * noise).clamp(-1, 1),
        "patches of 16 shuffled": patches_shuffled(other, 16),
        "patches of 8 shuffled": patches_shuffled(other, 8),
        "one image": other[:1].expand_as(other),
        "ten images": other[:10].repeat(12, 1, 1, 1),
    }
    reference = extractor(real)
    fd = {name: frechet_distance(reference, extractor(images)).item() for name, images in steps.items()}
    assert fd["real"] < fd["lightly blurred"] < fd["strongly blurred"] < fd["noise"]
    assert fd["real"] < fd["patches of 16 shuffled"] < fd["patches of 8 shuffled"] < fd["noise"]
    assert fd["real"] < fd["ten images"] < fd["one image"]
    assert min(value for name, value in fd.items() if name != "real") > 2 * fd["real"]


def test_same_seed_same_features_and_the_global_generator_is_left_alone():
    images = films(4, seed=0)
    state = torch.get_rng_state()
    first = RandomFeatures(seed=3)(images)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(RandomFeatures(seed=3)(images), first)
    assert not torch.allclose(RandomFeatures(seed=4)(images), first)


def test_features_do_not_change_unnoticed():
    """Published distances hang on these numbers: if this fails, every earlier fd_random is void. 1e-3 leaves room for other hardware."""
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    features = RandomFeatures(seed=0)(ramp)[0]
    torch.testing.assert_close(
        features[[0, 15, 16, 31, 100, 223]], torch.tensor([0.0774, 0.4734, -2.8996, -0.2287, -0.033, -2.0567]), atol=1e-3, rtol=0
    )


@pytest.mark.parametrize(
    ("arguments", "shape", "features"),
    [
        ({}, (2, 1, 64, 64), 224),
        ({}, (2, 1, 16, 16), 224),
        ({}, (2, 1, 50, 37), 224),
        ({"channels": 3, "width": 8}, (2, 3, 32, 32), 112),
        ({"spatial_dims": 3}, (2, 1, 16, 16, 16), 224),
        ({"spatial_dims": 3, "channels": 2, "width": 4}, (1, 2, 17, 20, 24), 56),
    ],
)
def test_shapes(arguments, shape, features):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    out = RandomFeatures(**arguments)(images)
    assert out.shape == (shape[0], features)
    assert out.dtype == torch.float32
    assert out.isfinite().all()


def test_every_level_counts():
    spread = RandomFeatures()(films(100, seed=0)).var(0)
    levels = torch.stack([level.sum() for level in spread.split([32, 64, 64, 64])])
    assert levels.min() > levels.max() / 30


def test_images_are_judged_one_by_one_and_in_float32():
    extractor = RandomFeatures()
    images = films(4, seed=0)
    alone = torch.cat([extractor(image[None]) for image in images])
    torch.testing.assert_close(extractor(images), alone, atol=1e-5, rtol=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(extractor(images), alone, atol=1e-5, rtol=1e-5)


def test_black_image_is_finite():
    assert RandomFeatures()(torch.full((1, 1, 32, 32), -1.0)).isfinite().all()


def test_nothing_to_train_and_nothing_to_save():
    holder = nn.ModuleDict({"extractor": RandomFeatures()})
    assert list(holder.parameters()) == []
    assert holder.state_dict() == {}
    holder.load_state_dict({}, strict=True)


def test_errors():
    with pytest.raises(ValueError, match="`spatial_dims` must be 2 or 3"):
        RandomFeatures(spatial_dims=1)
    with pytest.raises(ValueError, match="set `channels`"):
        RandomFeatures()(torch.zeros(1, 3, 32, 32))
    with pytest.raises(ValueError, match="`spatial_dims`"):
        RandomFeatures(spatial_dims=3)(torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="16 or more, got"):
        RandomFeatures()(torch.zeros(1, 1, 32, 15))
