"""Privacy: copies of training images and membership inference; see `metrics/memorization.py` and `metrics/membership.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from medgan_pl.data.sets import ImageSet
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.feature_store import FeatureStore
from medgan_pl.metrics.membership import closeness, membership_advantage
from medgan_pl.metrics.memorization import closest_pairs, copies, duplicates, leaks, nearest_of_views, nearest_ratio, twins
from medgan_pl.metrics.result import Result

OF_TRAINING = ("nn_ratio", "copies", "mia_auc", "mia_advantage")
DISCRIMINATOR = "discriminator"

# The discriminator's logits (N,) of a set of images, higher = more like what it was trained on.
Scores = Callable[[ImageSet], Tensor]


@dataclass(frozen=True)
class Closest:
    """The fakes nearest to training images, and the held-out reals nearest to them.

    Images (M, C, *S), the training image nearest to each, and their distance (M,).
    """

    fake: Tensor
    fake_train: Tensor
    fake_distance: Tensor
    held_out: Tensor
    held_out_train: Tensor
    held_out_distance: Tensor


@dataclass
class PrivacyResult:
    """The findings on privacy: `results`; `leaks`, a sentence for each leak, "" for none; `closest`, extractor -> pairs; `notes`."""

    results: list[Result] = field(default_factory=list)
    leaks: str = ""
    closest: dict[str, Closest] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def judge_privacy(
    sets: Sets,
    membership_unknown_because: str,
    spaces: Sequence[Extractor],
    features: FeatureStore,
    draws: int,
    pairs: int,
    discriminator: Scores | None = None,
) -> PrivacyResult:
    """Measure copies, duplicates and membership inference in each space and, with `discriminator`, by the scores of D.

    `membership_unknown_because`: why it is not known which images were used in training, "" if it is known.
    """
    found = PrivacyResult()
    for extractor in spaces:
        embedded = Embedded(sets, extractor, features, draws)
        results = [embedded.duplicates()]
        if membership_unknown_because or sets.train is None:
            results += [Result(key, undefined=membership_unknown_because or "needs the training images") for key in OF_TRAINING]
        else:
            results += embedded.nearness() + embedded.membership()
            found.closest[extractor.name] = embedded.closest(pairs)
            sentences = leaks(*(next(r.estimate for r in results if r.key == key) for key in ("copies", "mia_advantage")))
            found.leaks += f"By {extractor.name}: {sentences} " if sentences else ""
            same = int(twins(embedded.held_out_distance).sum())
            if same:
                found.notes.append(f"{same} held-out images equal a training image in {extractor.name} features: the split leaks.")
        counts = {"n_fake": len(sets.fake), "n_real": len(sets.reference)}
        found.results += [replace(result, space=extractor.name, **counts) for result in results]
    if discriminator is not None and not membership_unknown_because:
        found.results += by_discriminator(sets, discriminator, draws)
    found.leaks = found.leaks.strip()
    return found


class Embedded:
    """The sets in the features of one extractor, with the mirror images of all images that are searched for."""

    def __init__(self, sets: Sets, extractor: Extractor, features: FeatureStore, draws: int) -> None:
        self.sets, self.draws = sets, draws

        def views(images: ImageSet, what: str) -> tuple[Tensor, Tensor]:
            return features(extractor, images, what), features(extractor, images, f"{what}, mirrored", mirror=True)

        self.fake, self.reference = views(sets.fake, "fakes"), views(sets.reference, "reference reals")
        self.floor = views(sets.floor, "other held-out reals")
        if sets.train is None:
            return
        self.train = features(extractor, sets.train, "training reals")
        features.announce(f"searching the nearest training images in {extractor.name} features")
        self.members = views(sets.train.at_most(len(sets.reference)), "training reals, a part")
        self.fake_distance, self.fake_place = nearest_of_views(self.fake, self.train)
        self.held_out_distance, self.held_out_place = nearest_of_views(self.reference, self.train)
        self.floor_distance, _ = nearest_of_views(self.floor, self.train)

    def resampling(self, fake_groups: Tensor | None = None) -> Resampling:
        return Resampling(self.draws, 0, fake_groups, self.sets.reference.groups)

    def duplicates(self) -> Result:
        groups = self.sets.floor.groups
        return _result(
            "duplicates",
            lambda: duplicates(self.fake[0], self.reference[0], self.resampling()),
            lambda: duplicates(self.floor[0], self.reference[0], self.resampling(groups)),
        )

    def nearness(self) -> list[Result]:
        """Return how near the fakes are to the training images."""
        ours, floor = self.resampling(), self.resampling(self.sets.floor.groups)
        near, far, held_out = self.fake_distance, self.floor_distance, self.held_out_distance
        return [
            _result("nn_ratio", lambda: nearest_ratio(near, held_out, ours), lambda: nearest_ratio(far, held_out, floor)),
            _result("copies", lambda: copies(near, held_out, ours), lambda: copies(far, held_out, floor)),
        ]

    def membership(self) -> list[Result]:
        """Return the results of an attacker who sees only the fakes."""
        members, groups = self.sets.train.at_most(len(self.sets.reference)), (self.sets.reference.groups, self.sets.floor.groups)
        scores = [closeness(views, self.fake[0]) for views in (self.members, self.reference, self.floor)]
        return membership_results(*scores, self.resampling(), (members.groups, *groups))

    def closest(self, n: int) -> Closest:
        """Return the `n` closest pairs of fakes and of held-out reals."""
        rows, places = closest_pairs(self.fake_distance, self.fake_place, n)
        held_out, held_out_places = closest_pairs(self.held_out_distance, self.held_out_place, n)
        sets = self.sets
        return Closest(
            sets.fake[rows],
            sets.train[places],
            self.fake_distance[rows],
            sets.reference[held_out],
            sets.train[held_out_places],
            self.held_out_distance[held_out],
        )


def _result(key: str, value: Callable[[], Estimate], floor: Callable[[], Estimate]) -> Result:
    """Return the result, with its floor if there is one; if the metric refuses the images, the result is undefined."""
    try:
        estimate = value()
    except ValueError as error:
        return Result(key, undefined=str(error))
    try:
        return Result(key, estimate=estimate, floor=floor())
    except ValueError:
        return Result(key, estimate=estimate)


def membership_results(
    train: Tensor, test: Tensor, control: Tensor, resampling: Resampling, groups: tuple[Tensor | None, ...]
) -> list[Result]:
    """Return the results of a membership attack by scores; the control is the floor."""
    try:
        found = membership_advantage(train, test, control, resampling, groups)
    except ValueError as error:
        return [Result(key, undefined=str(error)) for key in ("mia_auc", "mia_advantage")]
    return [
        Result("mia_auc", estimate=found["mia_auc"], floor=found["mia_control"]),
        Result("mia_advantage", estimate=found["mia_advantage"]),
    ]


def by_discriminator(sets: Sets, discriminator: Scores, draws: int) -> list[Result]:
    """Return the same attack with D's logits as scores, for a discriminator that is shared too (LOGAN, Hayes et al. 2019)."""
    members = sets.train.at_most(len(sets.reference))
    groups = (members.groups, sets.reference.groups, sets.floor.groups)
    results = membership_results(*(discriminator(images) for images in (members, sets.reference, sets.floor)), Resampling(draws), groups)
    return [replace(result, space=DISCRIMINATOR, n_fake=0, n_real=len(sets.reference)) for result in results]
