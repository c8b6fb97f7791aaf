"""Features of whole sets: the same as at once, remembered for reals by content and extractor, never for what has no key."""

from dataclasses import replace

import pytest
import torch

from medgan_pl.data.sets import ImageSet
from medgan_pl.metrics.extractors.features import Extractor, RandomFeatures
from medgan_pl.metrics.feature_store import FeatureStore


class Means(Extractor):
    name = "means"

    def __init__(self, factor=1.0):
        super().__init__()
        self.rules, self.factor, self.calls = {"factor": factor}, factor, 0

    def forward(self, images):
        self.calls += 1
        return self.factor * images.flatten(1)[:, :3]


@pytest.fixture
def images():
    values = torch.rand(10, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return ImageSet(lambda rows: values[rows], 10, "content")


def test_features_are_those_of_all_images_at_once(images, tmp_path):
    extractor = RandomFeatures(width=4)
    found = FeatureStore(tmp_path, batch_size=3)(extractor, images, "reals")
    torch.testing.assert_close(found, extractor(images[torch.arange(10)]))
    mirrored = FeatureStore(tmp_path, batch_size=3)(extractor, images, "reals", mirror=True)
    torch.testing.assert_close(mirrored, extractor(images[torch.arange(10)].flip(-1)))


def test_remembered_by_content_and_extractor(images, tmp_path):
    features, extractor = FeatureStore(tmp_path), Means()
    first = features(extractor, images, "reals")
    assert torch.equal(features(extractor, images, "reals"), first)
    assert extractor.calls == 1
    again, other = Means(), Means(2.0)
    assert torch.equal(features(again, images, "reals"), first)
    assert again.calls == 0
    assert torch.equal(features(other, images, "reals"), 2 * first)
    features(again, images.take(torch.tensor([1, 0])), "reals")
    features(again, images, "reals", mirror=True)
    assert again.calls == 2
    nameless = replace(images, key="")
    for _ in range(2):
        features(extractor, nameless, "fakes")
    assert extractor.calls == 3
    assert len(list(tmp_path.iterdir())) == 4


def test_what_is_not_finite_is_refused(images, tmp_path):
    with pytest.raises(ValueError, match="some of the reals"):
        FeatureStore(tmp_path)(Means(float("inf")), images, "reals")
    assert not list(tmp_path.iterdir())


def test_features_that_were_changed_on_the_disk_are_computed_again(images, tmp_path):
    features, extractor = FeatureStore(tmp_path), Means()
    first = features(extractor, images, "reals")
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    for n, content in enumerate((whole[:-1], whole[:-1] + bytes([whole[-1] ^ 64]), b"", bytes(len(whole)), whole[33:]), 2):
        file.write_bytes(content)
        assert torch.equal(features(extractor, images, "reals"), first)
        assert extractor.calls == n
        assert file.read_bytes() == whole
    features(extractor, images, "reals", mirror=True)
    for other in set(tmp_path.iterdir()) - {file}:
        file.write_bytes(other.read_bytes())  # of other images
    assert torch.equal(features(extractor, images, "reals"), first)


def test_a_store_that_cannot_be_written_computes_again(images, tmp_path, caplog):
    (tmp_path / "file").touch()
    features, extractor = FeatureStore(tmp_path / "file" / "features"), Means()
    assert torch.equal(features(extractor, images, "reals"), features(extractor, images, "reals"))
    assert extractor.calls == 2
    assert "cannot be written (Not a directory)" in caplog.text
