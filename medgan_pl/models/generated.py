"""Sets of images that a trained module generates, and its discriminator's logits for a set."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medgan_pl.core.keys import Purpose
from medgan_pl.data.sets import ImageSet, keyed, stored
from medgan_pl.models.draw import fixed_batch

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.models.module import AdversarialModule


def draw_like(module: "AdversarialModule", train: ImageSet, n: int, *, seed: int, batch_size: int) -> ImageSet:
    """Return `n` images of the averaged generator, with the joint distribution of classes and covariates of `train`.

    Each has the class and the covariates of a training image drawn at random. For these, image i is image i of `medgan_pl.sample`.
    """
    rows = torch.randint(len(train), (n,), generator=keyed(seed))
    asked = train.labels[rows] if module.config["model"]["classes"] else torch.zeros(n, dtype=torch.int64)
    covariates = train.covariates[rows] if module.covariates.columns else None

    def parts() -> Iterator[Tensor]:
        for start in range(0, n, batch_size):
            part = slice(start, start + batch_size)
            yield module.generate(fixed_batch(module, asked[part], seed, start, None if covariates is None else covariates[part]))

    return stored(parts(), n, asked if module.config["model"]["classes"] else None)


def translate(module: "AdversarialModule", data: "ImageDataModule", rows: np.ndarray, *, seed: int, batch_size: int) -> ImageSet:
    """Return the output of the averaged generator of an image-to-image game for each image at `rows` of the data's table, in order.

    A game of domains translates into the last domain.
    """

    def parts() -> Iterator[Tensor]:
        for places in np.split(np.arange(len(rows)), range(batch_size, len(rows), batch_size)):
            batch = {key: value.to(module.device) for key, value in data.batch(rows, places).items()}
            batch = module.game.draw_each(batch, seed, places.tolist(), Purpose.SAMPLES)
            if "target" in batch:
                batch["target"] = torch.full_like(batch["target"], len(data.classes) - 1)
            yield module.generate(batch)

    labels = None if data.labels is None or not module.game.paired else torch.from_numpy(data.labels[data.image_records[rows]])
    return stored(parts(), len(rows), labels)


def true_targets(module: "AdversarialModule", data: "ImageDataModule", rows: np.ndarray, real: ImageSet) -> ImageSet:
    """Return the target of each image of `translate`; `real` is the set of the reals at `rows`."""
    return replace(real, get=lambda asked: module.game.real(data.batch(rows, asked.numpy())))


def discriminator_scores(module: "AdversarialModule", batch_size: int) -> Callable[[ImageSet], Tensor]:
    """Return a function from a set of images to D's logits (N,), each image with its own label and covariates; a map counts by its mean."""

    @torch.no_grad()
    def scores(images: ImageSet) -> Tensor:
        found = []
        for rows in torch.arange(len(images)).split(batch_size):
            batch = {"image": images[rows].to(module.device)}
            if images.labels is not None:
                batch["label"] = images.labels[rows].to(module.device)
            if images.covariates is not None:
                batch["covariates"] = images.covariates[rows].to(module.device)
            logits = module.game.critic(module.networks[module.game.discriminator], batch)(batch["image"])
            found.append(logits.float().reshape(len(rows), -1).mean(1).cpu())
        return torch.cat(found)

    return scores
