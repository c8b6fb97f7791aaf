"""The metric that holds fakes against reals in the features of one extractor: the measures' values, in batches, ranks and dimensions."""

import pickle

import pytest
import torch
from torch import nn

from medgan_pl.metrics.distances import Frechet, Kernel, frechet_distance, kernel_distance
from medgan_pl.metrics.extractors.features import Extractor, RandomFeatures
from medgan_pl.metrics.neighbours import DensityCoverage
from medgan_pl.metrics.space import FeatureSpace

MEASURES = {"fd": Frechet(), "kid": Kernel()}


class Means:
    """A measure that one image is enough for."""

    keys = ("mean",)

    def __call__(self, fake, real):
        return {"mean": (fake.mean() - real.mean()).abs()}


class Moments(Extractor):
    """A tiny extractor with weights: mean, spread and corner of each image."""

    name, rules = "moments", {"features": "mean, spread, corner"}

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.dropout = nn.Dropout(0.5)

    def forward(self, images):
        pixels = images.flatten(1)
        return self.dropout(torch.stack([pixels.mean(1), pixels.std(1), pixels[:, 0]], 1) * self.scale)


def pictures(count, seed, shape=(1, 16, 16)):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def random_space(**options):
    return FeatureSpace(RandomFeatures(**{"width": 2, **options}), MEASURES)


def test_values_are_the_distances_of_the_features():
    extractor = RandomFeatures(width=4)
    fake, real = pictures(12, 0) * 0.5, pictures(15, 1)
    metric = FeatureSpace(extractor, MEASURES)
    metric.update(fake[:5], real[:7])
    metric.update(fake[5:], real[7:])
    values = metric.compute()
    assert list(values) == ["fd_random", "kid_random"]
    assert values["fd_random"].dtype == torch.float32
    assert values["fd_random"].item() == pytest.approx(frechet_distance(extractor(fake), extractor(real)).item(), rel=1e-4)
    assert values["kid_random"].item() == pytest.approx(kernel_distance(extractor(fake), extractor(real)).item(), rel=1e-4)
    metric.reset()
    metric.update(real, real)
    assert metric.compute()["fd_random"].item() == pytest.approx(0, abs=1e-5)


def test_one_measure_gives_its_keys_alone():
    metric = FeatureSpace(Moments(), {"kid": Kernel()})
    metric.update(pictures(4, 0), pictures(4, 1))
    assert list(metric.compute()) == ["kid_moments"]


def test_two_metrics_merged_are_one_over_all():
    fake, real = pictures(20, 0), pictures(20, 1)
    whole, first, second = (FeatureSpace(Moments(), MEASURES) for _ in range(3))
    whole.update(fake, real)
    first.update(fake[:8], real[:8])
    second.update(fake[8:], real[8:])
    first.merge_state(second)
    for key, value in whole.compute().items():
        assert first.compute()[key].item() == pytest.approx(value.item(), rel=1e-5), key


def test_three_dimensional_images():
    metric = random_space(spatial_dims=3)
    metric.update(pictures(3, 0, (1, 16, 16, 16)), pictures(3, 1, (1, 16, 16, 16)))
    assert all(value.isfinite() for value in metric.compute().values())


def test_extractor_is_frozen_and_stays_in_eval_mode():
    metric = FeatureSpace(Moments(), MEASURES)
    holder = nn.Sequential(metric).train()
    assert not any(p.requires_grad for p in holder.parameters())
    assert not metric.extractor.dropout.training
    metric.update(pictures(4, 0), pictures(4, 0))
    assert not metric.fake[0].requires_grad
    assert torch.equal(metric.fake[0], metric.real[0])
    assert "fd_moments" in metric.compute()


def test_checkpoint_holds_no_features():
    metric = random_space()
    metric.update(pictures(4, 0), pictures(4, 1))
    assert metric.state_dict() == {}
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute()["fd_random"] == metric.compute()["fd_random"]


def test_errors():
    with pytest.raises(ValueError, match="one measure or more"):
        FeatureSpace(Moments(), {})
    metric = random_space()
    with pytest.raises(ValueError, match="call update"):
        metric.compute()
    with pytest.raises(ValueError, match=r"fake \(2, 1, 16, 16\) and real \(2, 1, 32, 32\)"):
        metric.update(pictures(2, 0), pictures(2, 0, (1, 32, 32)))
    with pytest.raises(ValueError, match="set `channels`"):
        metric.update(pictures(2, 0, (3, 16, 16)), pictures(2, 0, (3, 16, 16)))
    broken = pictures(2, 0)
    broken[1, 0, 3, 3] = float("nan")
    with pytest.raises(ValueError, match="the fake images given to the metric contain NaN"):
        metric.update(broken, pictures(2, 0))
    with pytest.raises(ValueError, match="the real images"):
        metric.update(pictures(2, 0), broken)


def test_too_few_images_for_a_measure_leave_the_others(caplog):
    """One image: no distance of distributions, and no neighbor; means can be compared."""
    given = {"fd": Frechet(), "mean": Means(), "kid": Kernel(), "density": DensityCoverage()}
    single = FeatureSpace(Moments(), given)
    for _ in range(2):
        single.update(pictures(1, 0), pictures(1, 1))
        values = single.compute()
        single.reset()
    assert {key for key, value in values.items() if value.isnan()} == {f"{key}_moments" for key in ("fd", "kid", "density", "coverage")}
    assert values["mean_moments"] > 0
    said = [record.getMessage() for record in caplog.records]
    assert [line.split(":")[1] for line in said] == [
        f" validation cannot compute {keys} (nan)" for keys in ("fd", "kid", "density, coverage")
    ]  # once, not at each validation
    assert "needs 2 rows or more of each, got 1 and 1; hold out more patients (data.fractions)" in said[0]
