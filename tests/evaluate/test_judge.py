"""The judgement without a command line: a paired game, a copier of a part, what the discriminator tells, classes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from crowd import crowd

from medgan_pl.data.scale import Scale
from medgan_pl.data.sets import ImageSet
from medgan_pl.evaluate.fidelity import Ladder, Sets, judge_space, ladder_of, similarity_of
from medgan_pl.evaluate.judge import Judge, Options
from medgan_pl.evaluate.pairs import judge_pairs
from medgan_pl.evaluate.privacy import judge_privacy
from medgan_pl.metrics.diversity import pair_similarity
from medgan_pl.metrics.extractors.features import RandomFeatures
from medgan_pl.metrics.feature_store import FeatureStore
from medgan_pl.metrics.memorization import PixelFeatures
from medgan_pl.metrics.utility.teaching import Training
from medgan_pl.models.games.base import Game
from medgan_pl.models.generated import discriminator_scores, translate


@pytest.fixture(scope="module")
def films():
    """440 images of 16² of as many patients, with their classes."""
    return crowd(0, 440)


def part(films, rows, key="", groups=True):
    images, labels = films[0][rows], films[1][rows]
    return ImageSet(lambda asked: images[asked], len(images), key, labels, torch.arange(len(images)) if groups else None)


@pytest.fixture
def sets(films):
    """Fakes that are films of other patients: an honest generator."""
    names = {"fake": slice(0, 110), "reference": slice(110, 220), "floor": slice(220, 330), "train": slice(330, 440)}
    return Sets(**{name: part(films, rows, name) for name, rows in names.items()}, classes=["well", "ill"])


def test_an_honest_generator_passes_and_a_copier_of_a_third_is_caught(sets, films, tmp_path):
    features = FeatureStore(tmp_path)
    honest = judge_privacy(sets, "", [PixelFeatures()], features, 40, 4)
    assert honest.leaks == ""
    assert all(result.estimate for result in honest.results)
    mixed = films[0][:110].clone()
    mixed[:36] = films[0][330:366].flip(-1) * 0.9 + 0.02  # mirrored, and another contrast
    thief = Sets(ImageSet(lambda rows: mixed[rows], 110), sets.reference, sets.floor, sets.train)
    caught = judge_privacy(thief, "", [PixelFeatures()], features, 40, 4)
    assert "training images are repeated" in caught.leaks
    copies = next(result for result in caught.results if result.key == "copies")
    assert copies.estimate.value >= 36 / 110
    pairs = caught.closest["pixels"]
    assert pairs.fake.shape == pairs.fake_train.shape == (4, 1, 16, 16)
    assert pairs.fake_distance.max() < pairs.held_out_distance.min() / 2


def test_a_discriminator_that_knows_its_images_is_told(sets, tmp_path):
    known = {tuple(image.flatten()[:20].tolist()) for image in sets.train.first(110)}

    def critic(images):
        return torch.tensor([float(tuple(image.flatten()[:20].tolist()) in known) for image in images[torch.arange(len(images))]])

    results = {r.name: r for r in judge_privacy(sets, "", [PixelFeatures()], FeatureStore(tmp_path), 30, 2, critic).results}
    assert results["mia_auc_discriminator"].estimate.value == 1
    assert results["mia_auc_discriminator"].floor.value == 0.5
    assert results["mia_advantage_discriminator"].estimate.low > 0.4


def test_strangers_are_not_judged_but_repeats_are(sets, tmp_path):
    results = {r.key: r for r in judge_privacy(sets, "another split", [PixelFeatures()], FeatureStore(tmp_path), 30, 2).results}
    assert results["copies"].undefined == "another split"
    assert results["duplicates"].estimate is not None


def test_classes_are_judged_apart_and_only_all_have_a_ladder(sets, tmp_path):
    results = judge_space(sets, ladder_of(sets), RandomFeatures(width=4), FeatureStore(tmp_path), 20)
    by_label = {label: [r for r in results if r.label == label] for label in ("", "well", "ill")}
    assert all(len(rows) == 6 for rows in by_label.values())
    assert all(r.ladder and r.noise is not None for r in by_label[""])
    assert not any(r.ladder for r in by_label["ill"])
    assert {r.n_fake for r in by_label["ill"]} == {min(int(s.labels.sum()) for s in (sets.fake, sets.reference, sets.floor))}


def test_too_few_are_not_measured(sets, tmp_path):
    few = Sets(sets.fake.take(torch.arange(19)), sets.reference, sets.floor)
    results = judge_space(few, Ladder(), RandomFeatures(width=4), FeatureStore(tmp_path), 20)
    assert all("needs 20" in r.undefined and r.estimate is None for r in results)


class Twice(Game):
    """Is to make the image from its half."""

    paired = True

    def generate(self, g, batch):
        return g(batch["image"])


def test_a_paired_game_is_held_against_its_truth(films):
    images = films[0]
    data = SimpleNamespace(
        batch=lambda rows, places: {"image": images[rows[places]]}, labels=None, image_records=np.arange(len(images)), phantom=True
    )
    game = Twice(objective=None, penalty=SimpleNamespace(mixed=False))
    module = SimpleNamespace(game=game, device="cpu", generate=lambda batch: game.generate(lambda x: (x + 0.01).clamp(-1, 1), batch))
    rows = np.arange(100, 130)
    fake = translate(module, data, rows, seed=0, batch_size=8)
    truth = ImageSet(lambda asked: images[rows][asked], len(rows), groups=torch.arange(len(rows)) // 2)
    results = {r.key: r for r in judge_pairs(Sets(fake, truth, truth, truth=truth), Scale(700, "HU"), 20, 7)}
    expected = (fake.first(30) - images[rows]).abs().mean() * 700
    assert results["mae"].estimate.value == pytest.approx(float(expected), rel=1e-4)
    assert results["mae"].unit == "HU"
    assert results["psnr"].estimate.value == pytest.approx(46, abs=0.5)
    assert results["ssim"].estimate.value > 0.99


def test_logits_come_with_the_label_and_as_one_number(films):
    game = SimpleNamespace(discriminator="d", critic=lambda d, batch: lambda image: d(image) + 10 * batch["label"].view(-1, 1, 1))
    module = SimpleNamespace(game=game, device="cpu", networks={"d": lambda image: image[:, 0, :2, :2]})
    images = part(films, slice(0, 9))
    expected = films[0][:9, 0, :2, :2].mean((1, 2)) + 10 * films[1][:9]
    torch.testing.assert_close(discriminator_scores(module, 4)(images), expected)


class Centred(RandomFeatures):
    """Learns the mean of what it is fitted to."""

    def fit(self, images, labels):
        self.mean = images[torch.arange(len(images))].mean()
        self.rules = {**self.rules, "mean": float(self.mean)}

    def forward(self, images):
        return super().forward((images - self.mean).clamp(-1, 1))


def test_without_training_images_an_extractor_is_fitted_to_the_floor_and_it_is_said(sets, tmp_path):
    options = Options(("fidelity",), Training(), 20, 2, 32, 0, "cpu", tmp_path)
    alone = Sets(sets.fake, sets.reference, sets.floor)
    found = Judge(alone, [Centred()], options, membership_unknown_because="nobody says").judge()
    assert any("fitted to the reals of the floor" in note for note in found.notes)
    whole = Judge(sets, [Centred()], options).judge()
    assert not any("fitted" in note for note in whole.notes)
    assert whole.verdicts["fidelity"]["mark"] == "good"


def test_pairs_are_not_neighbours_of_one_patient(films):
    """Ten images each of eleven patients, in order: the likeness is that of strangers, whatever the order."""
    alike = films[0][:11].repeat_interleave(10, 0)
    ordered = ImageSet(lambda rows: alike[rows], 110)
    strangers = similarity_of(ImageSet(lambda rows: films[0][:110][rows], 110), 20).value
    neighbours = float(pair_similarity(alike).mean())
    assert abs(similarity_of(ordered, 20).value - strangers) < 0.5 * (neighbours - strangers)
