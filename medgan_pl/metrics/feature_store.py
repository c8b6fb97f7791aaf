"""Features of whole sets of images; those of reals are cached on disk from one judgement to the next."""

import io
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgan_pl.core.sealed import read_sealed, write_sealed
from medgan_pl.data.sets import ImageSet, digest
from medgan_pl.metrics.extractors.features import Extractor

log = logging.getLogger(__name__)


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
        path = images.key and self.folder / f"{digest(images.key, json.dumps(extractor.rules, sort_keys=True))}.features"
        if path and (known := recalled(path)) is not None:
            return torch.from_numpy(known)
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


def recalled(path: Path) -> np.ndarray | None:
    """Return the values that `remember` wrote; None if there are none, or if the file was changed."""
    content = read_sealed(path)
    return None if content is None else np.load(io.BytesIO(content))


def remember(path: Path, values: np.ndarray) -> None:
    """Write the values `sealed`; another judgement may be writing the same. Warn if they cannot be written: nothing needs the file."""
    file = io.BytesIO()
    np.save(file, values)
    try:
        write_sealed(path, file.getvalue())
    except OSError as error:
        log.warning("%s cannot be written (%s): these features are computed again by each judgement", path, error.strerror)
