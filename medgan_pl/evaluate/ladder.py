"""The sanity ladder: reals degraded step by step. A metric that does not find each step worse cannot be trusted."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from medgan_pl.data.degrade.resolution import blurred as through_gaussian
from medgan_pl.data.degrade.resolution import reach
from medgan_pl.data.sets import ImageSet, keyed
from medgan_pl.metrics.catalogue import CATALOGUE
from medgan_pl.metrics.result import Result

# Standard deviations: of the blur in pixels for a side of 64 (in proportion for others), of the noise on the [-1, 1] scale.
BLURS, NOISES = (0.5, 1.0, 2.0), (0.05, 0.1, 0.2)
LADDERS = {"blur": [f"blur {sigma:g}" for sigma in BLURS], "noise": [f"noise {sigma:g}" for sigma in NOISES]}


def degraded(reals: ImageSet) -> dict[str, ImageSet]:
    """Return the reals at each severity level, by the names in LADDERS."""
    made = {name: reals.changed(lambda x, s=s: blurred(x, s), name) for name, s in zip(LADDERS["blur"], BLURS, strict=True)}
    return made | {name: with_noise(reals, s, name) for name, s in zip(LADDERS["noise"], NOISES, strict=True)}


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images (B, C, *S) under a Gaussian blur of `sigma` pixels for a side of 64, axis by axis; the border is repeated."""
    for axis, side in enumerate(images.shape[2:]):
        width = sigma * side / 64
        images = through_gaussian(images, width, reach(width), [axis])
    return images


def with_noise(reals: ImageSet, sigma: float, name: str) -> ImageSet:
    """Return the reals with Gaussian noise added, each with noise of its own, clipped to [-1, 1]."""

    def get(rows: Tensor) -> Tensor:
        images = reals[rows]
        noise = torch.stack([torch.randn(images.shape[1:], generator=keyed(row)) for row in rows.tolist()])
        return (images + sigma * noise).clamp(-1, 1)

    return replace(reals.changed(lambda x: x, name), get=get)


def noise_like(reals: ImageSet) -> ImageSet:
    """Return noise of the mean and spread of the reals in place of each: an untrained generator cannot be much worse."""
    sample = reals.first(200)
    mean, spread = sample.mean(), sample.std()

    def get(rows: Tensor) -> Tensor:
        noise = [torch.randn(sample.shape[1:], generator=keyed(row)) for row in rows.tolist()]
        return (mean + spread * torch.stack(noise)).clamp(-1, 1)

    return replace(reals.changed(lambda x: x, "noise in their place"), get=get)


def flagged(result: Result) -> Result:
    """Return the result with `unordered` filled in: the ladders on which this metric does not worsen from level to level.

    Half the length of the floor's interval counts as chance: a step may go the wrong way by that much, and from the first to the last level
    the metric must worsen by more.
    """
    if result.floor is None or not result.ladder:
        return result
    floor, slack = result.floor.value, (result.floor.high - result.floor.low) / 2
    not_followed = []
    for kind, names in LADDERS.items():
        values = [floor, *(result.ladder[name] for name in names if name in result.ladder)]
        worse = badness(values, floor, CATALOGUE[result.key].better)
        ordered = all(after >= before - slack for before, after in pairwise(worse))
        if not ordered or worse[-1] <= worse[0] + slack:
            not_followed.append(f"{kind} ({', '.join(f'{value:.3g}' for value in values)} from untouched reals to the worst)")
    return replace(
        result,
        unordered=f"It does not follow {' nor '.join(not_followed)} on these images: do not rely on it for that." if not_followed else "",
    )


def badness(values: Sequence[float], floor: float, better: str) -> list[float]:
    """Return numbers that are higher for worse values, whichever direction the metric has."""
    signs = {"lower": 1.0, "higher": -1.0}
    return [abs(value - floor) if better == "floor" else signs[better] * value for value in values]
