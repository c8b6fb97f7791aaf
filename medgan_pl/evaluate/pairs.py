"""Paired tasks: each fake is compared with its own truth; see `metrics/paired.py`."""

from dataclasses import replace

from medgan_pl.data.scale import Scale
from medgan_pl.evaluate.fidelity import Sets
from medgan_pl.metrics.paired import Paired, PairedMasks, Segments
from medgan_pl.metrics.pairs import measure_pairs
from medgan_pl.metrics.result import Result


def judge_pairs(sets: Sets, scale: Scale, draws: int, batch_size: int) -> list[Result]:
    """Return the results for images, and for masks if both sides have them; intervals are over the patients of the truth."""
    truth, units = sets.truth, {"mae": scale.unit, "hd95": "mm" if scale.spacing_mm else "pixels"}
    how = {"groups": truth.groups, "draws": draws, "batch_size": batch_size, "inside": truth.inside}
    if sets.structures:
        metric = Segments(structures=sets.structures, outlines=True, spacing_mm=scale.spacing_mm)
        found = [(*result.key.partition("_"), result) for result in measure_pairs(metric, sets.fake, truth, **how)]
        return [replace(result, key=key, label=structure, unit=units.get(key, "")) for key, _, structure, result in found]
    results = measure_pairs(Paired(half_range=scale.half_range), sets.fake, truth, **how)
    if sets.fake.masks is not None and truth.masks is not None:
        metric = PairedMasks(spacing_mm=scale.spacing_mm)
        results += measure_pairs(metric, sets.fake.masks, truth.masks, **how)
    return [replace(result, unit=units.get(result.key, "")) for result in results]
