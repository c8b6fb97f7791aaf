"""The extractor that learns: what it learns, from what, the same each time, and nothing else moved by it."""

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from medgan_pl.core.console import configuration_folder
from medgan_pl.metrics.distances import frechet_distance
from medgan_pl.metrics.extractors.domain import DomainFeatures, augmented, contrastive_loss, trunk

FAST = {"width": 4, "steps": 30, "batch_size": 16}


@pytest.fixture(autouse=True)
def _one_thread():
    """Small networks are fastest on one thread, and on a busy machine many times faster."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def stripes(count, seed, dims=2, size=16):
    """Class 0 with stripes across the first axis, class 1 across the second, at random phases, in noise: no pixel tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    places = torch.arange(size, dtype=torch.float32)
    shape = (count, *(1,) * dims)
    phase = 6.28 * torch.rand(shape, generator=generator)
    waves = []
    for axis in (0, 1):
        along = places.view(*(size if other == axis else 1 for other in range(dims)))
        waves.append(torch.sin(1.2 * along + phase).expand(count, *(size,) * dims))
    images = torch.where(labels.view(shape) == 0, *waves)
    return (0.5 * images + 0.2 * torch.randn(images.shape, generator=generator)).clamp(-1, 1)[:, None], labels


def told_apart(features, labels, others, other_labels):
    """Share of others whose class is that of the nearer class mean."""
    means = torch.stack([features[labels == label].mean(0) for label in (0, 1)])
    return (torch.cdist(others, means).argmin(1) == other_labels).float().mean().item()


def clouds(count, seed, size=32):
    """Images without classes, each of a few soft blobs of its own."""
    coarse = torch.randn(count, 1, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, (size, size), mode="bicubic").clamp(-2, 2) / 2


def retrieved(extractor, images):
    """Share of images whose other view is the nearest of all by cosine."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        views = [F.normalize(extractor(augmented(images, generator)) - extractor(images).mean(0)) for _ in range(2)]
    return (views[0] @ views[1].T).argmax(1).eq(torch.arange(len(images))).float().mean().item()


@pytest.mark.parametrize("dims", [2, 3])
def test_by_label_two_classes_come_apart(dims):
    images, labels = stripes(80, seed=0, dims=dims)
    others, other_labels = stripes(80, seed=1, dims=dims)
    extractor = DomainFeatures(method="auto", width=8, steps=40, batch_size=16, spatial_dims=dims)
    extractor.fit(images, labels)
    assert extractor.rules["weights"].startswith("label, 40 steps, 80 images, seed 0, sha256 ")
    assert told_apart(images.flatten(1), labels, others.flatten(1), other_labels) < 0.7
    assert told_apart(extractor(images), labels, extractor(others), other_labels) > 0.95


def test_contrastive_finds_the_other_view_better_than_untrained():
    images, others = clouds(100, seed=0), clouds(60, seed=1)
    extractor = DomainFeatures(method="auto", width=8, steps=100, batch_size=50)
    untrained = extractor.frozen
    extractor.fit(images, None)
    assert extractor.rules["weights"].startswith("contrastive, 100 steps, 100 images")
    trained = retrieved(extractor, others)
    assert trained > 0.4  # by chance 1 in 60
    assert trained > 1.5 * retrieved(untrained, others)


def test_worse_images_are_further_away():
    images = clouds(240, seed=0)
    generator = torch.Generator().manual_seed(1)
    extractor = DomainFeatures(method="contrastive", **FAST)
    extractor.fit(images[:80], None)
    reference, held = extractor(images[80:160]), images[160:]
    noise = torch.randn(held.shape, generator=generator)
    steps = [held, held + 0.2 * noise, held + 0.8 * noise, noise]
    distances = [frechet_distance(reference, extractor(step.clamp(-1, 1))).item() for step in steps]
    assert distances == sorted(distances)
    assert distances[1] > 1.5 * distances[0]


@pytest.mark.parametrize("method", ["label", "contrastive"])
def test_same_fit_same_features_and_nothing_else_moved(method):
    images, labels = stripes(60, seed=0)
    first, again, other = (DomainFeatures(method=method, **{**FAST, "steps": 3}, seed=seed) for seed in (0, 0, 1))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    first.fit(images, labels)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        again.fit(images, labels)
    other.fit(images, labels)
    assert torch.equal(first(images), again(images))
    assert first.rules == again.rules
    assert not torch.allclose(first(images), other(images))
    assert first.rules["weights"] != other.rules["weights"]
    first.fit(images, labels)  # from the start, not on
    assert first.rules == again.rules
    other.fit(images[:50], labels[:50])
    assert other.rules["weights"].startswith(f"{method}, 3 steps, 50 images, seed 1")


class Watched:
    """Images that note which rows were asked for, and that can be asked in no other way."""

    def __init__(self, images):
        self.images, self.rows = images, []

    def __len__(self):
        return 50

    def __getitem__(self, rows):
        self.rows += rows.tolist()
        return self.images[rows]


def test_fit_sees_the_given_images_alone():
    images, labels = stripes(60, seed=0)
    watched = Watched(images)
    extractor, whole = (DomainFeatures(**{**FAST, "steps": 20}) for _ in range(2))
    extractor.fit(watched, labels[:50])
    assert set(watched.rows) == set(range(50))
    whole.fit(images[:50], labels[:50])
    assert whole.rules == extractor.rules
    before = extractor(images)
    extractor.train()
    extractor(images[50:] * 0 + 1)
    assert torch.equal(extractor(images), before)


def test_classes_are_seen_equally_often():
    images, _ = stripes(100, seed=0)
    labels = torch.arange(100) // 75  # 75 and 25
    watched = Watched(images)
    watched.__class__ = type("All", (Watched,), {"__len__": lambda self: 100})
    DomainFeatures(**{**FAST, "steps": 60, "width": 1}).fit(watched, labels)
    assert 0.45 < labels[torch.tensor(watched.rows)].float().mean().item() < 0.55


@pytest.mark.parametrize(
    ("counts", "method"), [((30, 30), "label"), ((70, 24), "contrastive"), ((30, 30, 2), "label"), ((60,), "contrastive")]
)
def test_auto_takes_labels_where_there_are_enough(counts, method):
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    extractor = DomainFeatures(**{**FAST, "steps": 1})
    extractor.fit(stripes(len(labels), seed=0)[0], labels)
    assert extractor.rules["weights"].startswith(method)


def test_contrastive_loss_by_hand():
    a, b = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
    views = torch.cat([a, b])
    alike = [[torch.exp(F.cosine_similarity(x, y, dim=0) / 0.2) for y in views] for x in views]
    terms = [-torch.log(alike[i][(i + 3) % 6] / sum(alike[i][k] for k in range(6) if k != i)) for i in range(6)]
    torch.testing.assert_close(contrastive_loss(a, b), torch.stack(terms).mean())


def test_augmentation_is_mild_and_mirrors_nothing():
    """The centre of mass of a bright corner stays in its corner, and straight edges stay in place on average, on stretched images too."""
    images = torch.full((200, 1, 24, 48), -1.0)
    images[:, :, 2:10, 4:16] = 1
    views = augmented(images, torch.Generator().manual_seed(0))
    bright = (views > 0).float()
    rows = (bright.sum((1, 3)) * torch.arange(24)).sum(1) / bright.sum((1, 2, 3))
    columns = (bright.sum((1, 2)) * torch.arange(48)).sum(1) / bright.sum((1, 2, 3))
    assert (rows < 12).float().mean() > 0.98
    assert (columns < 24).float().mean() > 0.98
    assert not torch.equal(views[0], views[1])
    area = bright.sum((1, 2, 3)) / (8 * 12)
    assert 0.5 < area.quantile(0.05) < area.quantile(0.95) < 1.8


def test_turns_are_turns_in_pixels():
    """A disc on an image twice as wide as high stays a disc: as wide as high, however it is turned."""
    y, x = torch.meshgrid(torch.arange(32) - 15.5, torch.arange(64) - 31.5, indexing="ij")
    disc = (2.0 * (x**2 + y**2 < 64) - 1).expand(60, 1, 32, 64)
    bright = (augmented(disc, torch.Generator().manual_seed(0)) > 0).float()
    whole = bright.sum((1, 2, 3)) > 100
    high, wide = bright.amax(3).sum((1, 2)), bright.amax(2).sum((1, 2))
    assert (high - wide)[whole].abs().max() <= 2


def test_no_part_of_a_checkpoint_and_moves_along():
    extractor = DomainFeatures(**{**FAST, "steps": 1})
    extractor.fit(*stripes(60, seed=0))
    holder = nn.ModuleDict({"extractor": extractor})
    assert list(holder.parameters()) == []
    assert holder.state_dict() == {}
    assert not any(weight.requires_grad for weight in extractor.frozen.network.parameters())
    assert {weight.device.type for weight in holder.to("meta")["extractor"].frozen.network.parameters()} == {"meta"}


@pytest.mark.parametrize(("shape", "dims", "channels"), [((2, 1, 16, 16), 2, 1), ((2, 3, 33, 20), 2, 3), ((2, 2, 16, 18, 20), 3, 2)])
def test_shapes(shape, dims, channels):
    network = trunk(dims, channels, 4, torch.Generator().manual_seed(0))
    assert network(torch.rand(shape)).shape == (2, 32)


def test_configuration():
    node = OmegaConf.create({"data": {"channels": 2}, "image": {"spatial_dims": 3}, "extractor": {}})
    node.extractor.domain = OmegaConf.load(configuration_folder() / "extractor" / "domain.yaml")
    extractor = instantiate(OmegaConf.to_container(node, resolve=True)["extractor"]["domain"], _convert_="all")
    assert (extractor.name, extractor.channels, extractor.spatial_dims) == ("domain", 2, 3)


def test_errors():
    images, labels = stripes(60, seed=0)
    extractor = DomainFeatures(**FAST)
    with pytest.raises(RuntimeError, match="call fit"):
        extractor(images)
    with pytest.raises(ValueError, match="50 real training images or more, got 49"):
        extractor.fit(images[:49], None)
    with pytest.raises(ValueError, match="one for each image, got 3 for 60"):
        extractor.fit(images, labels[:3])
    with pytest.raises(ValueError, match="method=label needs two classes of 25 images or more, got 1"):
        DomainFeatures(method="label", **FAST).fit(images, labels * 0)
    with pytest.raises(ValueError, match="method=label needs two classes of 25 images or more, got 0"):
        DomainFeatures(method="label", **FAST).fit(images, None)
    with pytest.raises(ValueError, match="do the images contain NaN"):
        extractor.fit(images * float("nan"), None)
    with pytest.raises(ValueError, match=r"sides of 16 or more, got \(16, 1, 15, 16\)"):
        extractor.fit(images[:, :, 1:], None)
    with pytest.raises(ValueError, match="set `channels`"):
        extractor.fit(images.expand(-1, 3, -1, -1), None)
    with pytest.raises(ValueError, match="`method` must be"):
        DomainFeatures(method="labels")
    with pytest.raises(ValueError, match="`steps` 1"):
        DomainFeatures(steps=0)
