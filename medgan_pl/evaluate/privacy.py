"""Whether the fakes give training patients away; see `metrics/memorisation.py` and `metrics/membership.py`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.evaluate.sets import ImageSet
from medgan_pl.evaluate.spaces import Features
from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.membership import closeness, membership_advantage
from medgan_pl.metrics.memorisation import closest_pairs, copies, duplicates, leaks, nearest_of_views, nearest_ratio, twins
from medgan_pl.metrics.result import Result

OF_TRAINING = ("nn_ratio", "copies", "mia_auc", "mia_advantage")
DISCRIMINATOR = "discriminator"


@dataclass(frozen=True)
class Closest:
    """The fakes nearest to training images, and the held-out reals nearest to them: images (M, C, *S), the training image beside each,
    their distance (M,)."""

    fake: Tensor
    fake_train: Tensor
    fake_distance: Tensor
    held_out: Tensor
    held_out_train: Tensor
    held_out_distance: Tensor


@dataclass
class Leak:
    """`results`; `caught`: what leaks, "" for nothing; `closest`: space -> pairs; `notes` as in metrics.json."""

    results: list[Result] = field(default_factory=list)
    caught: str = ""
    closest: dict[str, Closest] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def judge_privacy(
    sets: Sets, strangers: str, spaces: Sequence[Extractor], features: Features, draws: int, pairs: int, critic: "Critic | None" = None
) -> Leak:
    """Copies, repeats and membership in each space; by `critic`, D's logits, what who has D could tell too.

    `strangers`: why training images cannot be told from others, "" where they can.
    """
    leak = Leak()
    for extractor in spaces:
        seen = Seen(sets, extractor, features, draws)
        results = [seen.repeats()]
        if strangers or sets.train is None:
            results += [Result(key, undefined=strangers or "needs the training images") for key in OF_TRAINING]
        else:
            results += seen.nearness() + seen.membership()
            leak.closest[extractor.name] = seen.closest(pairs)
            said = leaks(*(next(r.estimate for r in results if r.key == key) for key in ("copies", "mia_advantage")))
            leak.caught += f"By {extractor.name}: {said} " if said else ""
            same = int(twins(seen.held_out_distance).sum())
            if same:
                leak.notes.append(f"{same} held-out images equal a training image in {extractor.name} features: the split leaks.")
        counts = {"n_fake": len(sets.fake), "n_real": len(sets.reference)}
        leak.results += [replace(result, space=extractor.name, **counts) for result in results]
    if critic is not None and not strangers:
        leak.results += by_discriminator(sets, critic, draws)
    leak.caught = leak.caught.strip()
    return leak


class Seen:
    """The sets in the features of one extractor, with the mirror images of what is looked for."""

    def __init__(self, sets: Sets, extractor: Extractor, features: Features, draws: int) -> None:
        self.sets, self.draws = sets, draws

        def views(images: ImageSet, what: str) -> tuple[Tensor, Tensor]:
            return features(extractor, images, what), features(extractor, images, f"{what}, mirrored", mirror=True)

        self.fake, self.reference = views(sets.fake, "fakes"), views(sets.reference, "reference reals")
        self.floor = views(sets.floor, "other held-out reals")
        if sets.train is None:
            return
        self.train = features(extractor, sets.train, "training reals")
        features.watch(f"nearest training images in {extractor.name} features")
        self.members = views(sets.train.at_most(len(sets.reference)), "training reals, a part")
        self.fake_distance, self.fake_place = nearest_of_views(self.fake, self.train)
        self.held_out_distance, self.held_out_place = nearest_of_views(self.reference, self.train)
        self.floor_distance, _ = nearest_of_views(self.floor, self.train)

    def resampling(self, fake_groups: Tensor | None = None) -> Resampling:
        return Resampling(self.draws, 0, fake_groups, self.sets.reference.groups)

    def repeats(self) -> Result:
        groups = self.sets.floor.groups
        return defined(
            "duplicates",
            lambda: duplicates(self.fake[0], self.reference[0], self.resampling()),
            lambda: duplicates(self.floor[0], self.reference[0], self.resampling(groups)),
        )

    def nearness(self) -> list[Result]:
        ours, floor = self.resampling(), self.resampling(self.sets.floor.groups)
        near, far, strange = self.fake_distance, self.floor_distance, self.held_out_distance
        return [
            defined("nn_ratio", lambda: nearest_ratio(near, strange, ours), lambda: nearest_ratio(far, strange, floor)),
            defined("copies", lambda: copies(near, strange, ours), lambda: copies(far, strange, floor)),
        ]

    def membership(self) -> list[Result]:
        members, groups = self.sets.train.at_most(len(self.sets.reference)), (self.sets.reference.groups, self.sets.floor.groups)
        scores = [closeness(views, self.fake[0]) for views in (self.members, self.reference, self.floor)]
        return told_apart(*scores, self.resampling(), (members.groups, *groups))

    def closest(self, n: int) -> Closest:
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


def defined(key: str, value: Callable[[], Estimate], floor: Callable[[], Estimate]) -> Result:
    """The result, and its floor where that can be had; what the metric refuses is not defined."""
    try:
        estimate = value()
    except ValueError as error:
        return Result(key, undefined=str(error))
    try:
        return Result(key, estimate=estimate, floor=floor())
    except ValueError:
        return Result(key, estimate=estimate)


def told_apart(train: Tensor, test: Tensor, control: Tensor, resampling: Resampling, groups: tuple[Tensor | None, ...]) -> list[Result]:
    try:
        found = membership_advantage(train, test, control, resampling, groups)
    except ValueError as error:
        return [Result(key, undefined=str(error)) for key in ("mia_auc", "mia_advantage")]
    return [
        Result("mia_auc", estimate=found["mia_auc"], floor=found["mia_control"]),
        Result("mia_advantage", estimate=found["mia_advantage"]),
    ]


# D's logits (N,) of a set of images, higher = more like what it was taught.
Critic = Callable[[ImageSet], Tensor]


def by_discriminator(sets: Sets, critic: Critic, draws: int) -> list[Result]:
    """The same attack with D's logits for scores, for where the discriminator is shared too (LOGAN, Hayes et al. 2019)."""
    members = sets.train.at_most(len(sets.reference))
    groups = (members.groups, sets.reference.groups, sets.floor.groups)
    results = told_apart(*(critic(images) for images in (members, sets.reference, sets.floor)), Resampling(draws), groups)
    return [replace(result, space=DISCRIMINATOR, n_fake=0, n_real=len(sets.reference)) for result in results]
