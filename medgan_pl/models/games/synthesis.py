"""Images from noise, with or without a condition (Goodfellow et al. 2014; Mirza & Osindero 2014)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.models.games.base import Game
from medgan_pl.models.games.noise import Noise, Normal
from medgan_pl.models.games.parts import Critic


class Synthesis(Game):
    """G(z) or G(z, condition) against D(image) or D(image, condition); z has `latent` numbers from `noise`, unless the batch has its own.

    - `classes`: the number of classes of `label`, 0 for none. `covariates`: the names of the columns of `covariates`, empty for none.
      Both may be unknown for an image: a label below 0, a covariate that is NaN.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"image", "label", "covariates"})
    settings: ClassVar[frozenset[str]] = Game.settings | {"noise", "model.latent", "model.classes", "model.covariates"}

    def __init__(self, *, latent: int, classes: int = 0, covariates: Sequence[str] = (), noise: Noise | None = None, **shared: Any) -> None:
        super().__init__(**shared)
        self.latent, self.classes, self.covariates = latent, classes, tuple(covariates)
        self.noise = noise or Normal()

    def draw(self, batch: Batch) -> Batch:
        if "z" not in batch:
            like = next(iter(batch.values()))
            batch = {**batch, "z": self.noise(len(like), self.latent, like.device)}
        return super().draw(batch)

    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        return g(from_batch(batch, "z", "the generator starts from noise"), self.condition(batch))

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        condition = self.condition(batch)
        return lambda image: d(image, condition)

    def condition(self, batch: Batch) -> Tensor | None:
        """Return the condition (B, K) as the networks need it (networks/layers.py, `conditions`), or None without one.

        It is the one-hot class, then the covariates (0, their mean, if unknown), then 1 for each unknown covariate.
        """
        parts = []
        if self.classes:
            label = from_batch(batch, "label", f"the model is conditional (model.classes={self.classes})")
            known = (label >= 0).unsqueeze(1)
            parts.append(F.one_hot(label.clamp(min=0), self.classes).float() * known)
        if self.covariates:
            values = from_batch(batch, "covariates", f"the model is conditional (model.covariates={list(self.covariates)})")
            known = values.isfinite()
            parts += [torch.where(known, values, 0.0), (~known).float()]
        return torch.cat(parts, 1) if parts else None
