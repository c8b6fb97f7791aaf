"""A paired metric over two whole sets, with intervals."""

from collections.abc import Callable

import torch
from torch import Tensor

from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.extractors.features import Images
from medgan_pl.metrics.of_pairs import OfPairs
from medgan_pl.metrics.result import Result


def measure_pairs(
    metric: OfPairs,
    fake: Images,
    truth: Images,
    groups: Tensor | None,
    *,
    draws: int,
    batch_size: int,
    inside: Callable[[Tensor], Tensor] | None = None,
) -> list[Result]:
    """Return one result for each key of `metric`, comparing each fake image with the truth at its place.

    - `groups`: (N,) the patient of each truth, None if each image is a patient of its own; intervals are over patients.
    - `inside`: returns the part of the images at some places that is image and no padding, as `ImageSet.inside`; None: all.
    - `draws`: bootstrap samples. `batch_size`: images at once.

    A key that is defined for no pair, or for too few for an interval, or that the metric refuses, is returned undefined, with the reason;
    the others have their values.
    """
    try:
        for rows in torch.arange(len(truth)).split(batch_size):
            metric.update(fake[rows], truth[rows], None if inside is None else inside(rows))
    except ValueError as error:
        return [Result(key, undefined=str(error)) for key in metric.keys]
    resampling = Resampling(draws, 0, None, groups)
    return [measured(metric, key, resampling, len(truth), left_out) for key, left_out in metric.undefined().items()]


def measured(metric: OfPairs, key: str, resampling: Resampling, pairs: int, left_out: int) -> Result:
    """Return the result of one key over the pairs, of which `left_out` have no such value."""
    why, n = f"not defined for any of the {pairs} pairs: a mask is empty in each, or the part that is image is too small", pairs - left_out
    try:
        estimate = metric.estimate(key, resampling)
    except ValueError as error:
        estimate, why = None, str(error)
    return Result(key, estimate=estimate, undefined="" if estimate else why, n_fake=n, n_real=n)
