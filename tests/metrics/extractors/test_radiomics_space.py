"""Radiomic features as a space for distances: z-scores by the training images, what they see, what is refused."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from smooth_noise import image

from medgan_pl.data.modalities import XRay
from medgan_pl.data.phantom import draw_patient
from medgan_pl.metrics.distances import frechet_distance
from medgan_pl.metrics.extractors import radiomics
from medgan_pl.metrics.extractors.radiomics import (
    RadiomicsFeatures,
)


@pytest.fixture(scope="module")
def films():
    """(48, 1, 24, 24) in [-1, 1]."""
    made = [XRay().simulate(draw_patient(0, i), (24, 24)).pixels for i in range(48)]
    return torch.from_numpy(np.stack(made))[:, None].float() / 2047.5 - 1


def fitted(images, **arguments):
    extractor = RadiomicsFeatures(**arguments)
    extractor.fit(images, None)
    return extractor


@pytest.mark.parametrize(("channels", "shape", "count"), [(1, (16, 16), 36), (2, (20, 9), 72), (1, (8, 10, 12), 48), (2, (8, 8, 8), 96)])
def test_z_scores_of_the_training_images(channels, shape, count):
    images = torch.from_numpy(np.stack([image(channels, *shape, seed=s) * (0.5 + s / 20) for s in range(10)])).float()
    extractor = fitted(images, channels=channels, spatial_dims=len(shape))
    z = extractor(images)
    assert z.shape == (10, count)
    assert len(extractor.names) == len(set(extractor.names)) == count
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.mean(0), torch.zeros(count), atol=1e-5, rtol=0)
    torch.testing.assert_close(z.std(0, correction=0), torch.ones(count), atol=1e-4, rtol=0)
    torch.testing.assert_close(torch.cat([extractor(one[None]) for one in images]), z)  # each by itself


def test_channels_stand_one_after_the_other(films):
    pair = torch.cat([films, films.flip(0)], 1)
    z = fitted(pair, channels=2)(pair)
    alone = fitted(films)(films)
    torch.testing.assert_close(z, torch.cat([alone, alone.flip(0)], 1))


def test_what_never_varies_does_not_drown_the_rest(films):
    """All films end at exactly -1 and 1; fakes that only come near must stay near."""
    ended = films.clone()
    ended[:, :, 0, 0], ended[:, :, 0, 1] = -1, 1
    extractor = fitted(ended)
    ends = [extractor.names.index(name) for name in ("minimum", "maximum", "range")]
    assert extractor(ended * 0.99)[:, ends].abs().max() < 0.5
    assert extractor(ended * 0.5)[:, ends].abs().min() > 5
    flat = fitted(torch.zeros(3, 1, 16, 16))
    assert flat(torch.zeros(3, 1, 16, 16)).abs().max() == 0
    assert flat(films).isfinite().all()


def test_distance_grows_with_blur_and_with_noise(films):
    train, rest = films[:24], films[24:]
    extractor = fitted(train)
    real = extractor(train)
    noise = torch.randn(rest.shape, generator=torch.Generator().manual_seed(0))

    def distance(images):
        return frechet_distance(extractor(images), real).item()

    def blurred(sigma):
        return torch.from_numpy(gaussian_filter(rest.numpy(), (0, 0, sigma, sigma)))

    floor = distance(rest)
    blur = [distance(blurred(sigma)) for sigma in (0.5, 1, 2, 4)]
    noisy = [distance((rest + by * noise).clamp(-1, 1)) for by in (0.02, 0.05, 0.1, 0.3)]
    for rungs in (blur, noisy):
        assert floor * 2 < rungs[0]
        assert rungs == sorted(rungs)
    assert distance(noise.clamp(-1, 1)) > max(blur + noisy)
    assert distance(rest[:1].expand(24, -1, -1, -1)) > 2 * floor  # one patient over and over


def test_rules_tell_one_fit_from_another(films):
    first, again, other = fitted(films), fitted(films), fitted(films[:30])
    assert first.rules == again.rules
    assert first.rules != other.rules
    assert "48 real training images" in first.rules["normalisation"]
    assert "definition 1" in first.rules["features"]
    assert first.state_dict() == {}
    first.fit(films[:30], None)  # anew: nothing of the first is left
    assert first.rules == other.rules
    torch.testing.assert_close(first(films), other(films))


class Counting:
    """10,000 images of which only those asked for exist."""

    def __init__(self):
        self.asked = []

    def __len__(self):
        return 10_000

    def __getitem__(self, rows):
        self.asked += rows.tolist()
        return torch.rand(len(rows), 1, 8, 8, generator=torch.Generator().manual_seed(int(rows[0]))) * 2 - 1


def test_fit_takes_at_most_so_many_evenly_spaced(monkeypatch):
    assert radiomics.FIT_IMAGES == 2000
    monkeypatch.setattr(radiomics, "FIT_IMAGES", 100)
    images = Counting()
    fitted(images)
    assert len(images.asked) == 100
    assert (images.asked[0], images.asked[-1]) == (0, 9999)
    assert set(np.diff(images.asked)) == {101}


def test_what_it_refuses(films):
    with pytest.raises(ValueError, match="`spatial_dims` must be 2 or 3, got 4"):
        RadiomicsFeatures(spatial_dims=4)
    with pytest.raises(RuntimeError, match="call fit"):
        RadiomicsFeatures()(films)
    with pytest.raises(ValueError, match=r"2 real images or more for its z-scores, .*got 1"):
        fitted(films[:1])
    extractor = fitted(films[:8])
    with pytest.raises(ValueError, match="NaN or infinity"):
        extractor(films * torch.nan)
    with pytest.raises(ValueError, match="NaN or infinity"):
        fitted(films * torch.inf)
    with pytest.raises(ValueError, match="set `channels`"):
        extractor(films.expand(-1, 3, -1, -1))
    with pytest.raises(ValueError, match="8 pixels or more"):
        extractor(films[..., :7])
