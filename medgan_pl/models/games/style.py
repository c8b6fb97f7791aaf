"""Synthesis with a style-based generator: style mixing, noise in every layer, the path length penalty (StyleGAN2)."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from medgan_pl.core.batch import Batch, from_batch
from medgan_pl.models.games.base import Fakes
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.networks.stylegan2 import count_noise


class Style(Synthesis):
    """Synthesis by g(f(z)) (networks/stylegan2.py), trained with style mixing and path length regularization.

    - `mixing`: the share of training images whose layers, from a random one on, have the style of another z; none in `generate`.
    - `path_weight`, `path_every`: every `path_every` turns G has the loss weight · every · E(‖Jᵀy‖ - a)² on the first half of the batch.
      J is the derivative of the image by w, y an image of N(0, 1) noise over the root of its pixels, ‖·‖ is over the root of the layers, a
      is the running mean of ‖Jᵀy‖ (`path_length`, saved with the run; it starts at the first mean). Weight 0 switches it off.
    - `spatial_dims`, `size`: of the images; they set how many numbers of noise an image needs.

    The noise of the layers is drawn with z and kept in the batch: an image depends only on its seed, and no two have the same noise.
    With these units a weight of 2 is the papers' γ = ln 2 / (r² (ln r - ln 2)) at every size. The lazy penalty is added to the turn's own
    loss: Adam makes no extra steps, and needs none of the papers' corrections by k / (k + 1). With `accumulate`, each part has the loss on
    its own half and updates a. It runs in float32, outside autocast.

    Source: mixing: Karras et al. 2019 (arXiv 1812.04948), section 3.1; the penalty: Karras et al. 2020 (arXiv 1912.04958), eq. 4 and
    appendix B, with every 8th turn; here as in arXiv 2006.06676 every 4th.
    """

    needs: ClassVar[Mapping[str, Sequence[str]]] = MappingProxyType({"path_every": ("path_weight",), "path_decay": ("path_weight",)})

    def __init__(
        self,
        *,
        spatial_dims: int,
        size: int | Sequence[int],
        mixing: float = 0.9,
        path_weight: float = 2.0,
        path_every: int = 4,
        path_decay: float = 0.01,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if not 0 <= mixing <= 1 or path_weight < 0 or path_every < 1 or not 0 < path_decay <= 1:
            raise ValueError(
                "`mixing` must be in [0, 1], `path_weight` at least 0, `path_every` at least 1 and `path_decay` in (0, 1], got "
                f"{mixing}, {path_weight}, {path_every} and {path_decay}"
            )
        self.numbers, self.mixing = count_noise(size, spatial_dims), mixing
        self.path_weight, self.path_every, self.path_decay = path_weight, path_every, path_decay
        self.register_buffer("path_length", torch.zeros(()))

    def draw(self, batch: Batch) -> Batch:
        batch = super().draw(batch)
        count, device = len(batch["z"]), batch["z"].device
        if "noise" not in batch:
            batch = {**batch, "noise": torch.randn(count, self.numbers, device=device)}
        if self.mixing and "z_mixed" not in batch:
            batch = {
                **batch,
                "z_mixed": self.noise(count, self.latent, device),
                "crossover": torch.rand(count, device=device) / self.mixing,
            }
        return batch

    def generate(self, g: nn.Module, batch: Batch) -> Tensor:
        return g(from_batch(batch, "z", "the generator starts from noise"), self.condition(batch), batch["noise"])

    def play(self, g: nn.Module, batch: Batch) -> Fakes:
        return g(batch["z"], self.condition(batch), batch["noise"], batch.get("z_mixed"), batch.get("crossover"))

    def generator_penalties(self, g: nn.Module, batch: Batch, turn: int) -> dict[str, Tensor]:
        if not self.path_weight or turn % self.path_every:
            return {}
        rows = -(-len(batch["z"]) // 2)
        half = {key: value[:rows] for key, value in batch.items()}
        with torch.autocast(half["z"].device.type, enabled=False):
            lengths = path_lengths(g, half["z"], self.condition(half), half["noise"])
        mean = lengths.detach().mean()
        after = torch.where(self.path_length == 0, mean, self.path_length.lerp(mean, self.path_decay))
        self.path_length.copy_(torch.where(after.isfinite(), after, self.path_length))  # a skipped step changes nothing
        return {"path": self.path_weight * self.path_every * (lengths - self.path_length.clone()).square().mean()}


def path_lengths(g: nn.Module, z: Tensor, condition: Tensor | None, noise: Tensor | None) -> Tensor:
    """Return ‖Jᵀy‖ of each image, (B,), in the units of `Style`, with the graph to the generator's weights."""
    w = g.mapping(z, condition)
    image = g.synthesis(g.every_layer(w), noise)
    y = torch.randn_like(image) / math.sqrt(image[0, 0].numel())
    (slope,) = torch.autograd.grad((image * y).sum(), w, create_graph=True)
    # The slope of the square root at 0 is infinite: 1e-12 keeps it finite where the image does not move.
    return (slope.square().sum(1) / g.layers + 1e-12).sqrt()
