"""Batches to draw images from."""

import torch
from torch import Tensor

from medgan_pl.core.batch import Batch
from medgan_pl.core.keys import Purpose
from medgan_pl.models.module import AdversarialModule


def fixed_batch(module: AdversarialModule, labels: Tensor, seed: int, first: int = 0, covariates: Tensor | None = None) -> Batch:
    """Return a drawn batch for the generator, one place for each of `labels`; place i depends only on (seed, first + i).

    So do its covariates, as common as in training, unless standardized ones are given (B, K).
    """
    places = range(first, first + len(labels))
    batch = {"label": labels.to(module.device)}
    if module.covariates.columns:
        if covariates is None:
            covariates = torch.from_numpy(module.covariates.standardize(module.covariates.for_images(seed, places)))
        batch["covariates"] = covariates.to(module.device)
    return module.game.draw_each(batch, seed, places, Purpose.SAMPLES)
