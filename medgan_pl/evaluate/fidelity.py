"""How real and how varied the fakes are, beside a floor of held-out reals and a ladder of reals made worse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from medgan_pl.evaluate.ladder import flagged, noise_like, rungs
from medgan_pl.evaluate.sets import ImageSet, keyed
from medgan_pl.evaluate.spaces import Features
from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.metrics.distances import Frechet, Kernel
from medgan_pl.metrics.diversity import likeness
from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.neighbours import DensityCoverage, PrecisionRecall
from medgan_pl.metrics.result import Result
from medgan_pl.metrics.space import Measure
from medgan_pl.models.losses.structure import WINDOW

MEASURES: tuple[Measure, ...] = (Frechet(), Kernel(), PrecisionRecall(), DensityCoverage())
LEAST = 20  # images of each side: with fewer an interval says nothing
PAIRS = 256  # of images, for the likeness of pairs


@dataclass(frozen=True)
class Sets:
    """What is held against what: `fake`, and of reals `reference` (which fakes are held against), `floor` (other held-out patients, in
    place of fakes), `train` (what the generator saw; None where nobody says). `classes`: names of the labels. `truth`: in a paired task
    image for image what the fakes are to be; `structures`: where these are masks, what each channel is."""

    fake: ImageSet
    reference: ImageSet
    floor: ImageSet
    train: ImageSet | None = None
    classes: list[str] = field(default_factory=list)
    truth: ImageSet | None = None
    structures: tuple[str, ...] = ()

    def even(self) -> "Sets":
        """As many fakes as reference and floor images: most of what is measured depends on the number."""
        n = min(len(self.fake), len(self.reference), len(self.floor))
        return replace(self, fake=self.fake.at_most(n), reference=self.reference.at_most(n), floor=self.floor.at_most(n))

    def each(self) -> Iterator[tuple[str, "Sets"]]:
        """All of them under "", then each class where fakes and reals have one; evened."""
        yield "", self.even()
        if self.fake.labels is not None and self.reference.labels is not None:
            for number, name in enumerate(self.classes):
                fake, reference, floor = (images.of_class(number) for images in (self.fake, self.reference, self.floor))
                yield name, Sets(fake, reference, floor).even()

    def too_few(self) -> str:
        """Why nothing can be measured, "" where it can."""
        counts = len(self.fake), len(self.reference), len(self.floor)
        if min(counts) >= LEAST:
            return ""
        return "needs {} fakes, reference and floor images each, got {}, {} and {}".format(LEAST, *counts)


@dataclass(frozen=True)
class Ladder:
    """The floor's reals at each rung, and noise in their place; none of either for a class."""

    rungs: Mapping[str, ImageSet] = field(default_factory=dict)
    noise: ImageSet | None = None


def ladder_of(sets: Sets) -> Ladder:
    floor = sets.even().floor
    return Ladder(rungs(floor), noise_like(floor))


@dataclass(frozen=True)
class Crowds:
    """Features (N, F) of one space: as `Sets` and `Ladder`."""

    fake: Tensor
    reference: Tensor
    floor: Tensor
    rungs: Mapping[str, Tensor]
    noise: Tensor | None


def judge_space(sets: Sets, ladder: Ladder, extractor: Extractor, features: Features, draws: int) -> list[Result]:
    """Every measure in the space of one extractor: of all images with the ladder, of each class without."""
    results = []
    for label, part in sets.each():
        why = part.too_few()
        if why:
            made = [Result(key, undefined=why) for measure in MEASURES for key in measure.keys]
        else:
            crowds = crowds_of(part, Ladder() if label else ladder, extractor, features, f" ({label})" if label else "")
            against = Resampling(draws, 0, None, part.reference.groups)
            floor = Resampling(draws, 0, part.floor.groups, part.reference.groups)
            features.watch(f"measures in {extractor.name} features{f' ({label})' if label else ''}")
            made = [result for measure in MEASURES for result in judged(measure, crowds, against, floor)]
        counts = {"n_fake": len(part.fake), "n_real": len(part.reference)}
        results += [replace(result, space=extractor.name, label=label, **counts) for result in made]
    return results


def crowds_of(part: Sets, ladder: Ladder, extractor: Extractor, features: Features, which: str) -> Crowds:
    return Crowds(
        features(extractor, part.fake, f"fakes{which}"),
        features(extractor, part.reference, f"reference reals{which}"),
        features(extractor, part.floor, f"other held-out reals{which}"),
        {name: features(extractor, rung, f"reals under {name}") for name, rung in ladder.rungs.items()},
        ladder.noise and features(extractor, ladder.noise, "images of noise"),
    )


def judged(measure: Measure, crowds: Crowds, against: Resampling, of_floor: Resampling) -> list[Result]:
    """One measure of fakes, floor and ladder against the reference; what it refuses is not defined."""
    real = crowds.reference
    try:
        values = measure.estimates(crowds.fake, real, against)
        floors = measure.estimates(crowds.floor, real, of_floor)
        ladder = {name: measure(rung, real) for name, rung in crowds.rungs.items()}
        noise = {} if crowds.noise is None else measure(crowds.noise, real)
    except ValueError as error:
        return [Result(key, undefined=str(error)) for key in measure.keys]
    results = []
    for key in measure.keys:
        steps = {name: float(rung[key]) for name, rung in ladder.items()}
        result = Result(
            key, estimate=within(key, values[key]), floor=within(key, floors[key]), ladder=steps, noise=float(noise[key]) if noise else None
        )
        results.append(flagged(result))
    return results


def within(key: str, estimate: Estimate) -> Estimate:
    """The interval cut to the range that the metric has: a distance cannot be below 0."""
    least, most = CATALOGUE[key].least, CATALOGUE[key].most
    low = estimate.low if least is None else max(estimate.low, least)
    return replace(estimate, low=low, high=estimate.high if most is None else min(estimate.high, most))


def judge_likeness(sets: Sets, ladder: Ladder, draws: int) -> list[Result]:
    """MS-SSIM between pairs of fakes, beside that between pairs of held-out reals, of all images and of each class."""
    results = []
    for label, part in sets.each():
        why = part.too_few()
        if not why and (side := min(part.reference.first(1).shape[2:])) < WINDOW:
            why = f"needs sides of {WINDOW} pixels or more, got {side}"
        if why:
            result = Result("ms_ssim", undefined=why)
        else:
            steps = {} if label else {name: likeness_of(rung, draws).value for name, rung in ladder.rungs.items()}
            noise = None if label or ladder.noise is None else likeness_of(ladder.noise, draws).value
            fake, floor = likeness_of(part.fake, draws), likeness_of(part.floor, draws)
            result = flagged(Result("ms_ssim", estimate=fake, floor=floor, ladder=steps, noise=noise))
        counts = {"n_fake": min(PAIRS, len(part.fake)), "n_real": min(PAIRS, len(part.floor))}
        results.append(replace(result, label=label, **counts))
    return results


def likeness_of(images: ImageSet, draws: int) -> Estimate:
    """Over at most PAIRS pairs: of images drawn at random, each with the next, the last with the first."""
    chosen = torch.randperm(len(images), generator=keyed(0))[:PAIRS]  # also of few: neighbours in a set are often of one patient
    return Resampling(draws).of_mean(likeness(images[chosen]))
