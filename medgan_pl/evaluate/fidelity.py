"""Fidelity and diversity of the fakes, with a floor of held-out reals and a ladder of degraded reals."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from medgan_pl.data.sets import ImageSet, keyed
from medgan_pl.evaluate.ladder import degraded, flagged, noise_like
from medgan_pl.metrics.catalogue import clipped, measures
from medgan_pl.metrics.diversity import pair_similarity
from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.feature_store import FeatureStore
from medgan_pl.metrics.measure import Measure
from medgan_pl.metrics.result import Result
from medgan_pl.models.losses.structure import WINDOW

MIN_IMAGES = 20  # of each side; with fewer an interval means nothing
MAX_PAIRS = 256  # of images, for the similarity of pairs


@dataclass(frozen=True)
class Sets:
    """The sets of a judgement.

    - `fake`: the images that are judged.
    - `reference`: the reals that fakes are compared with.
    - `floor`: other held-out patients, measured in place of the fakes.
    - `train`: the reals that the generator was trained on, None if they are not known.
    - `classes`: names of the labels.
    - `truth`: of a paired task, the image that each fake should be; `structures`: if these are masks, the name of each channel.
    """

    fake: ImageSet
    reference: ImageSet
    floor: ImageSet
    train: ImageSet | None = None
    classes: list[str] = field(default_factory=list)
    truth: ImageSet | None = None
    structures: tuple[str, ...] = ()

    def even(self) -> "Sets":
        """Return as many fakes as reference and floor images, because most measures depend on the number of images."""
        n = min(len(self.fake), len(self.reference), len(self.floor))
        return replace(self, fake=self.fake.at_most(n), reference=self.reference.at_most(n), floor=self.floor.at_most(n))

    def each(self) -> Iterator[tuple[str, "Sets"]]:
        """Yield all images under "", then each class by its name if fakes and reals have classes; all evened."""
        yield "", self.even()
        if self.fake.labels is not None and self.reference.labels is not None:
            for number, name in enumerate(self.classes):
                fake, reference, floor = (images.of_class(number) for images in (self.fake, self.reference, self.floor))
                yield name, Sets(fake, reference, floor).even()

    def too_few(self) -> str:
        """Return why there are too few images to measure anything, "" if there are enough."""
        counts = len(self.fake), len(self.reference), len(self.floor)
        if min(counts) >= MIN_IMAGES:
            return ""
        return "needs {} fakes, reference and floor images each, got {}, {} and {}".format(MIN_IMAGES, *counts)


@dataclass(frozen=True)
class Ladder:
    """The floor's reals at each severity level of degradation, and noise in their place; empty for a single class."""

    levels: Mapping[str, ImageSet] = field(default_factory=dict)
    noise: ImageSet | None = None


def ladder_of(sets: Sets) -> Ladder:
    """Return the ladder of the floor."""
    floor = sets.even().floor
    return Ladder(degraded(floor), noise_like(floor))


@dataclass(frozen=True)
class Crowds:
    """Features (N, F) in one space of the sets of `Sets` and `Ladder`."""

    fake: Tensor
    reference: Tensor
    floor: Tensor
    levels: Mapping[str, Tensor]
    noise: Tensor | None


def judge_space(sets: Sets, ladder: Ladder, extractor: Extractor, features: FeatureStore, draws: int) -> list[Result]:
    """Return every measure in the space of one extractor: of all images with the ladder, of each class without."""
    results, known = [], measures()
    for label, part in sets.each():
        why = part.too_few()
        if why:
            made = [Result(key, undefined=why) for measure in known for key in measure.keys]
        else:
            crowds = crowds_of(part, Ladder() if label else ladder, extractor, features, f" ({label})" if label else "")
            against = Resampling(draws, 0, None, part.reference.groups)
            floor = Resampling(draws, 0, part.floor.groups, part.reference.groups)
            features.announce(f"measuring in {extractor.name} features{f' ({label})' if label else ''}")
            made = [result for measure in known for result in measure_crowds(measure, crowds, against, floor)]
        counts = {"n_fake": len(part.fake), "n_real": len(part.reference)}
        results += [replace(result, space=extractor.name, label=label, **counts) for result in made]
    return results


def crowds_of(part: Sets, ladder: Ladder, extractor: Extractor, features: FeatureStore, which: str) -> Crowds:
    """Return the features of all sets; `which` names the class in messages."""
    return Crowds(
        features(extractor, part.fake, f"fakes{which}"),
        features(extractor, part.reference, f"reference reals{which}"),
        features(extractor, part.floor, f"other held-out reals{which}"),
        {name: features(extractor, images, f"reals under {name}") for name, images in ladder.levels.items()},
        ladder.noise and features(extractor, ladder.noise, "images of noise"),
    )


def measure_crowds(measure: Measure, crowds: Crowds, against: Resampling, of_floor: Resampling) -> list[Result]:
    """Return one measure of fakes, floor and ladder against the reference; if the measure refuses them, its results are undefined."""
    real = crowds.reference
    try:
        values = measure.estimates(crowds.fake, real, against)
        floors = measure.estimates(crowds.floor, real, of_floor)
        ladder = {name: measure(images, real) for name, images in crowds.levels.items()}
        noise = {} if crowds.noise is None else measure(crowds.noise, real)
    except ValueError as error:
        return [Result(key, undefined=str(error)) for key in measure.keys]
    results = []
    for key in measure.keys:
        steps = {name: float(level[key]) for name, level in ladder.items()}
        result = Result(
            key,
            estimate=clipped(key, values[key]),
            floor=clipped(key, floors[key]),
            ladder=steps,
            noise=float(noise[key]) if noise else None,
        )
        results.append(flagged(result))
    return results


def judge_pair_similarity(sets: Sets, ladder: Ladder, draws: int) -> list[Result]:
    """Return MS-SSIM between pairs of fakes, with that between pairs of held-out reals as floor, of all images and of each class."""
    results = []
    for label, part in sets.each():
        why = part.too_few()
        if not why and (side := min(part.reference.first(1).shape[2:])) < WINDOW:
            why = f"needs sides of {WINDOW} pixels or more, got {side}"
        if why:
            result = Result("ms_ssim", undefined=why)
        else:
            common = common_part([part.fake, part.floor])
            steps = {} if label else {name: similarity_of(images, draws, common).value for name, images in ladder.levels.items()}
            noise = None if label or ladder.noise is None else similarity_of(ladder.noise, draws, common).value
            fake, floor = similarity_of(part.fake, draws, common), similarity_of(part.floor, draws, common)
            result = flagged(Result("ms_ssim", estimate=fake, floor=floor, ladder=steps, noise=noise))
        counts = {"n_fake": min(MAX_PAIRS, len(part.fake)), "n_real": min(MAX_PAIRS, len(part.floor))}
        results.append(replace(result, label=label, **counts))
    return results


def similarity_of(images: ImageSet, draws: int, common: Tensor | None = None) -> Estimate:
    """Return the mean MS-SSIM over at most MAX_PAIRS pairs, where `common` is 1: of images drawn at random, each with the next, the last
    with the first."""
    return Resampling(draws).of_mean(pair_similarity(images[drawn(images)], common))


def drawn(images: ImageSet) -> Tensor:
    """Return the rows of the images whose pairs are compared."""
    return torch.randperm(len(images), generator=keyed(0))[:MAX_PAIRS]  # of few images too: neighbors are often of one patient


def common_part(sets: Sequence[ImageSet]) -> Tensor | None:
    """Return (1, 1, *S): 1 where all images whose pairs are compared are image and no padding; None if no set has padding.

    Of fakes drawn from noise the padding is unknown: they are compared in the part that the reals have in common.
    """
    parts = [images.inside(drawn(images)).amin(0, keepdim=True) for images in sets if images.inside is not None]
    return torch.stack(parts).amin(0) if parts else None
