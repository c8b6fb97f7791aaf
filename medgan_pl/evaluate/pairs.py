"""In a paired task each fake held against its own truth; see `metrics/paired.py`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.metrics.estimate import Resampling
from medgan_pl.metrics.extractors.features import Images
from medgan_pl.metrics.paired import OfPairs, Paired, PairedMasks, Segments
from medgan_pl.metrics.result import Result


@dataclass(frozen=True)
class Scale:
    """What a step means: `half_range`, native `unit`s for a step of 1 on the [-1, 1] scale; `spacing_mm` of the pixels, None where nobody
    says."""

    half_range: float = 1.0
    unit: str = "of [-1, 1]"
    spacing_mm: Sequence[float] | None = None


def judge_pairs(sets: Sets, scale: Scale, draws: int, batch_size: int) -> list[Result]:
    """Of images, and of masks where both sides have them; intervals over the patients of the truth."""
    truth, units = sets.truth, {"mae": scale.unit, "hd95": "mm" if scale.spacing_mm else "pixels"}
    if sets.structures:
        metric = Segments(structures=sets.structures, outlines=True, spacing_mm=scale.spacing_mm)
        found = [(*result.key.partition("_"), result) for result in judged(metric, sets.fake, truth, truth.groups, draws, batch_size)]
        return [replace(result, key=key, label=structure, unit=units.get(key, "")) for key, _, structure, result in found]
    results = judged(Paired(half_range=scale.half_range), sets.fake, truth, truth.groups, draws, batch_size)
    if sets.fake.masks is not None and truth.masks is not None:
        metric = PairedMasks(spacing_mm=scale.spacing_mm)
        results += judged(metric, sets.fake.masks, truth.masks, truth.groups, draws, batch_size)
    return [replace(result, unit=units.get(result.key, "")) for result in results]


def judged(metric: OfPairs, fake: Images, truth: Images, groups: Tensor | None, draws: int, batch_size: int) -> list[Result]:
    try:
        for rows in torch.arange(len(truth)).split(batch_size):
            metric.update(fake[rows], truth[rows])
        estimates = metric.estimates(Resampling(draws, 0, None, groups))
    except ValueError as error:
        return [Result(key, undefined=str(error)) for key in metric.keys]
    results = []
    for key, left_out in metric.undefined().items():
        n = len(truth) - left_out
        why = "" if key in estimates else f"not defined for any of the {len(truth)} pairs: a mask is empty in each"
        results.append(Result(key, estimate=estimates.get(key), undefined=why, n_fake=n, n_real=n))
    return results
