"""Who is compared with whom, by numbers worked out by hand: the sides of the attack, the patients behind each interval, equal numbers."""

from itertools import permutations

import pytest
import torch
from torch import Tensor

from medgan_pl.data.scale import Scale
from medgan_pl.data.sets import ImageSet
from medgan_pl.evaluate.fidelity import Ladder, Sets, judge_pair_similarity, judge_space
from medgan_pl.evaluate.pairs import judge_pairs
from medgan_pl.evaluate.privacy import by_discriminator, judge_privacy
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.feature_store import FeatureStore
from medgan_pl.metrics.result import Result


class Corners(Extractor):
    """Two numbers of an image, its first and its last pixel."""

    name = "corners"
    rules: dict[str, str] = {}  # noqa: RUF012

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([images[:, 0, 0, 0], images[:, 0, -1, -1]], 1)


def crowd_at(x: float, y: float, images: int, patients: int) -> ImageSet:
    """Images whose corners lie about (x, y), no two alike, as many of each patient; both mirror images have the same corners."""
    fields = torch.zeros(images, 1, 12, 12)
    fields[:, 0, 0, 0] = fields[:, 0, 0, -1] = x + 1e-3 * torch.arange(images)
    fields[:, 0, -1, -1] = fields[:, 0, -1, 0] = y
    return ImageSet(lambda rows: fields[rows], images, groups=torch.arange(images) % patients)


def reach(patients: int) -> float:
    """The far end of the interval of a share that is 0 among so many (Clopper and Pearson)."""
    return 1 - 0.025 ** (1 / patients)


@pytest.fixture
def sets() -> Sets:
    """Fakes at -1, training images near them, the floor nearer to training than the reference is; 40 images each."""
    places = {"fake": (-0.9, 40), "train": (-0.8, 25), "floor": (0.0, 10), "reference": (0.8, 20)}
    return Sets(**{name: crowd_at(x, 0, 40, patients) for name, (x, patients) in places.items()})


def check_attack(results: dict[str, Result]) -> None:
    auc, gain = results["mia_auc"], results["mia_advantage"]
    assert (auc.estimate.value, auc.floor.value, gain.estimate.value) == (1, 1, 0), "train and floor are both nearer than the reference"
    assert auc.estimate.low == pytest.approx(1 - reach(20)), "25 patients of train against 20 of the reference"
    assert auc.floor.low == pytest.approx(1 - reach(10)), "10 patients of the floor against 20 of the reference"
    assert (gain.estimate.low, gain.estimate.high) == pytest.approx((-reach(20), reach(10))), "what either may lack"


def test_the_sides_of_the_membership_attack(sets: Sets, tmp_path) -> None:
    found = judge_privacy(sets, "", [Corners()], FeatureStore(tmp_path), 20, 2)
    check_attack({r.key: r for r in found.results})
    check_attack({r.key: r for r in by_discriminator(sets, lambda images: -images.first(len(images))[:, 0, 0, 0], 20)})


def test_the_floor_of_nearness_is_of_other_patients(sets: Sets, tmp_path) -> None:
    results = {r.key: r for r in judge_privacy(sets, "", [Corners()], FeatureStore(tmp_path), 20, 2).results}
    train = -0.8 + 1e-3 * 39  # the image of train that is the nearest to all others
    ratio = results["nn_ratio"]
    assert ratio.estimate.value == pytest.approx((0.9 - 0.8) / (0.8 + 1e-3 * 19.5 - train), abs=0.05)
    assert ratio.floor.value == pytest.approx((1e-3 * 19.5 - train) / (0.8 + 1e-3 * 19.5 - train), rel=1e-3)


def test_intervals_are_over_patients_and_each_side_has_its_own(tmp_path) -> None:
    """Fakes, reference and floor lie far from each other: each share is 0, and its interval says how many patients stand behind it."""
    sets = Sets(crowd_at(-0.9, 0, 40, 40), crowd_at(0, 0, 40, 20), crowd_at(0.9, 0, 40, 10))
    results = {r.key: r for r in judge_space(sets, Ladder(), Corners(), FeatureStore(tmp_path), 20)}
    ends = {key: (results[key].estimate.high, results[key].floor.high) for key in ("precision", "recall", "coverage")}
    assert ends["precision"] == pytest.approx((reach(40), reach(10))), "of the fakes, and of the floor's patients in their place"
    assert ends["recall"] == ends["coverage"] == pytest.approx((reach(20), reach(20))), "of the reference's patients"


def test_pairs_have_the_intervals_of_their_patients() -> None:
    """Errors of 0.1 and 0.3 in two patients of 20 images each: their mean is 0.1 or 0.3 in some draws, and never of 40 images."""
    truth = crowd_at(0, 0, 40, 2)
    fake = ImageSet(lambda rows: truth[rows] + 0.1 + 0.2 * truth.groups[rows].view(-1, 1, 1, 1), 40)
    (mae,) = (r for r in judge_pairs(Sets(fake, truth, truth, truth=truth), Scale(), 50, 16) if r.key == "mae")
    assert mae.estimate.value == pytest.approx(0.2)
    assert (mae.estimate.low, mae.estimate.high) == pytest.approx((0.1, 0.3))


@pytest.mark.parametrize("counts", [*permutations((21, 25, 30))])
def test_all_sides_are_cut_to_the_smallest(counts: tuple[int, int, int]) -> None:
    sides = [crowd_at(place, 0, count, count) for place, count in zip((-0.5, 0, 0.5), counts, strict=True)]
    labelled = [ImageSet(side.get, len(side), labels=torch.zeros(len(side), dtype=torch.int64), groups=side.groups) for side in sides]
    for _, part in Sets(*labelled, classes=["all"]).each():
        assert [len(side) for side in (part.fake, part.reference, part.floor)] == [21] * 3


def test_nineteen_of_any_side_are_too_few_and_twenty_are_not() -> None:
    for counts in permutations((20, 20, 19)):
        sides = [crowd_at(0, 0, count, count) for count in counts]
        assert "needs 20 fakes, reference and floor images each, got {}, {} and {}".format(*counts) == Sets(*sides).too_few()
    assert Sets(*(crowd_at(0, 0, 20, 20) for _ in range(3))).too_few() == ""


def test_likeness_within_fakes_and_within_the_floor() -> None:
    """Fakes that are all one image, a floor of noise: 1 and far below, not the other way round."""
    noise = torch.rand(30, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    alike, unlike = ImageSet(lambda rows: noise[:1].expand(len(rows), -1, -1, -1), 30), ImageSet(lambda rows: noise[rows], 30)
    (found,) = judge_pair_similarity(Sets(alike, unlike, unlike), Ladder({"blur": alike}, unlike), 20)
    assert found.estimate.value == pytest.approx(1)
    assert found.floor.value < 0.5
    assert (found.ladder["blur"], found.noise) == pytest.approx((1, found.floor.value))
