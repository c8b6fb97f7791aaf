"""Images from noise, with or without a class (Goodfellow et al. 2014; Mirza & Osindero 2014)."""

import torch
from torch import Tensor, nn

from medgan_pl.batch import Batch, require
from medgan_pl.games.base import Critic, Game, Objective, Penalty


class Synthesis(Game):
    """G(z) or G(z, label) against D(image) or D(image, label); z ~ N(0, 1) of `latent` numbers, unless the batch brings its own."""

    def __init__(self, *, objective: Objective, penalty: Penalty, latent: int, classes: int = 0) -> None:
        super().__init__(objective=objective, penalty=penalty)
        self.latent, self.classes = latent, classes

    def draw(self, batch: Batch) -> Batch:
        if "z" not in batch:
            like = next(iter(batch.values()))
            batch = {**batch, "z": torch.randn(len(like), self.latent, device=like.device)}
        return super().draw(batch)

    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        return g(require(batch, "z", "the generator starts from noise"), self.label(batch))

    def critic(self, d: nn.Module, batch: Batch) -> Critic:
        label = self.label(batch)
        return lambda image: d(image, label)

    def label(self, batch: Batch) -> Tensor | None:
        return require(batch, "label", f"the model is conditional (model.classes={self.classes})") if self.classes else None
