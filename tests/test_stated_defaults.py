"""The values that docstrings and docs state as those of the papers, or as ours, are the defaults of the code."""

from inspect import signature
from typing import Any

import pytest

from medgan_pl.data.intensity import Percentiles, ZScore
from medgan_pl.metrics import distances, diversity, memorization, neighbours
from medgan_pl.metrics.estimate import LEVEL, Resampling
from medgan_pl.models.games.auxiliary import AuxiliaryClassifier
from medgan_pl.models.games.contrastive import Contrastive
from medgan_pl.models.games.cycle import Cycle
from medgan_pl.models.games.reconstruction import Reconstruction
from medgan_pl.models.games.star import Star
from medgan_pl.models.games.style import Style
from medgan_pl.models.games.translation import Translation
from medgan_pl.models.losses import adversarial, image, penalties, regularizers, structure

STATED = [
    (AuxiliaryClassifier, {"weight": 1.0, "fake_weight": 0.0}),
    (Contrastive, {"nce": 1.0, "identity": 1.0, "patches": 256, "temperature": 0.07}),
    (Cycle, {"cycle": 10.0, "identity": 0.5, "gradient": 0.0, "pool": 50}),
    (Reconstruction, {"weight": 1.0}),
    (Star, {"style": 1.0, "diversity": 1.0, "cycle": 1.0, "referred": 0.5, "schedule_diversity": None}),
    (Style, {"mixing": 0.9, "path_weight": 2.0, "path_every": 4, "path_decay": 0.01}),
    (Translation, {"conditional": True, "keep_known": False}),
    (adversarial.LeastSquares, {"real_target": 1.0, "fake_target": 0.0}),
    (adversarial.Hybrid, {"separate": 0.5}),
    (penalties.WassersteinPenalty, {"weight": 10.0, "every": 1}),
    (penalties.R1, {"every": 1}),
    (penalties.R1R2, {"every": 1, "reference": None}),
    (regularizers.LeCam, {"decay": 0.99, "warmup": 1}),
    (regularizers.Consistency, {"weight": 10.0, "fake_weight": 0.0}),
    (image.StructuralSimilarity, {"scales": 1}),
    (neighbours.PrecisionRecall, {"k": 3}),
    (neighbours.DensityCoverage, {"k": 5}),
    (distances.Kernel, {"subsets": 20, "subset_size": 1000}),
    (distances.kernel_distance, {"subsets": 20, "subset_size": 1000, "seed": 0}),
    (diversity.Diversity, {"n": 64}),
    (memorization.copies, {"quantile": 0.01}),
    (memorization.duplicates, {"quantile": 0.01}),
    (Resampling, {"draws": 200, "seed": 0, "fake_groups": None, "real_groups": None}),
    (Percentiles, {"low_percentile": 0.5, "high_percentile": 99.5, "nonzero": False}),
    (ZScore, {"clip_sd": 4.0}),
]


@pytest.mark.parametrize(("part", "stated"), STATED, ids=lambda value: getattr(value, "__name__", ""))
def test_defaults_are_what_is_stated(part: Any, stated: dict[str, Any]) -> None:
    found = {name: each.default for name, each in signature(part).parameters.items() if each.default is not each.empty}
    assert found == stated


def test_constants_are_what_is_stated() -> None:
    assert LEVEL == 0.95
    assert (memorization.QUANTILE, memorization.MIN_IMAGES, memorization.CAUGHT_COPIES, memorization.CAUGHT_ADVANTAGE) == (
        0.01,
        10,
        0.05,
        0.02,
    )
    assert structure.WEIGHTS == (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
    assert (structure.WINDOW, structure.SIGMA, structure.C1, structure.C2) == (11, 1.5, 0.01**2, 0.03**2)
    assert (image.MIN_SIMILARITY, image.SMOOTH) == (0.01, 1.0)
