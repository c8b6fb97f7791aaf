"""Features of whole sets of images; those of reals are cached on disk from one judgement to the next."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan_pl.core.files import atomically
from medgan_pl.data.sets import ImageSet, digest
from medgan_pl.metrics.extractors.features import Extractor


def mirrored(images: Tensor) -> Tensor:
    """Return the images with left and right exchanged: the last axis flipped, in 2-D and 3-D."""
    return images.flip(-1)


@dataclass(frozen=True)
class FeatureStore:
    """Computes features (N, F) float32, on the CPU, of whole sets, and caches them in `folder` by the keys of the images and the rules of
    the extractor.

    `batch_size`: images at once on `device`. `announce(text)` is called before work that takes time. Raises ValueError, naming the set, for
    features that are not finite.
    """

    folder: Path
    device: str = "cpu"
    batch_size: int = 64
    announce: Callable[[str], None] = lambda what: None

    def __call__(self, extractor: Extractor, images: ImageSet, what: str, mirror: bool = False) -> Tensor:
        """Return the features of `images`, with `mirror` of their mirror images; `what` names the set on the screen and in errors."""
        if mirror:
            images = images.changed(mirrored, "mirrored")
        path = images.key and self.folder / f"{digest(images.key, json.dumps(extractor.rules, sort_keys=True))}.npy"
        if path and path.is_file():
            return torch.from_numpy(np.load(path))
        self.announce(f"{extractor.name} features of {len(images):,} {what}")
        found = self.extract(extractor, images)
        if not found.isfinite().all():
            raise ValueError(f"features must be finite, and `{extractor.name}` gives NaN or infinity for some of the {what}")
        if path:
            remember(path, found.numpy())
        return found

    @torch.no_grad()
    def extract(self, extractor: Extractor, images: ImageSet) -> Tensor:
        extractor.to(self.device).eval()
        return torch.cat([extractor(part.to(self.device)).float().cpu() for part in images.parts(self.batch_size)])


def remember(path: Path, values: np.ndarray) -> None:
    """Write the values `atomically`: another judgement may be writing the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomically(path) as temporary, temporary.open("wb") as file:
        np.save(file, values)
