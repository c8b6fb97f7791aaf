"""A translator with projection heads that embed places of an image (CUT: Park et al. 2020, arXiv 2007.15651)."""

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.models.networks.layers import space
from medgan_pl.models.networks.resnet import init_weights


class PatchTranslator(nn.Module):
    """Translate an image (B, channels, *S) to (B, C, *S) by `translator`, with a projection head for each map of its `features`.

    - `translator`: has `features(image)`, a list of maps (B, C', *S') of its encoder. `channels`, `size`: of its input images.
    - `features`: numbers of an embedding, and units of the one hidden layer of a head.

    The heads are trained, averaged and saved with the translator; only the loss uses them. Source: section 3.2, H_l.
    """

    def __init__(self, *, translator: nn.Module, spatial_dims: int, channels: int, size: int | Sequence[int], features: int = 256) -> None:
        super().__init__()
        self.translator, self.heads = translator, nn.ModuleList()
        with torch.no_grad():  # only shapes, no computation
            maps = copy.deepcopy(translator).to("meta").features(torch.empty(1, channels, *space(size, spatial_dims), device="meta"))
        for h in maps:
            self.heads.append(nn.Sequential(nn.Linear(h.shape[1], features), nn.ReLU(), nn.Linear(features, features)))
        init_weights(self.heads)

    @property
    def factors(self) -> tuple[int, ...]:
        """Return how many times larger than its source an image is, along each axis."""
        return self.translator.factors

    @property
    def multiple(self) -> int:
        """Windows of an image must begin at multiples of it (networks/translator.py)."""
        return self.translator.multiple

    def forward(self, image: Float[Tensor, "b s *space"]) -> Float[Tensor, "b c *space"]:
        return self.translator(image)

    def patches(
        self, image: Float[Tensor, "b s *space"], numbers: Float[Tensor, "b places"]
    ) -> list[tuple[Float[Tensor, "b some features"], Int[Tensor, "b some"]]]:
        """Return for each map the embeddings, of length 1, at the places given by `numbers` in [0, 1), and the indices of these places."""
        found = []
        for h, head in zip(self.translator.features(image), self.heads, strict=True):
            h = h.flatten(2)  # (B, C, N)
            places = places_of(numbers, h.shape[2])
            at = h.gather(2, places[:, None].expand(-1, h.shape[1], -1)).transpose(1, 2)  # (B, P, C)
            found.append((F.normalize(head(at).float(), dim=2), places))
        return found


def places_of(numbers: Float[Tensor, "b places"], count: int) -> Int[Tensor, "b some"]:
    """Return the index, below `count`, of each number in [0, 1); all indices once if there are at most as many places as numbers."""
    if count <= numbers.shape[1]:
        return torch.arange(count, device=numbers.device).expand(len(numbers), -1)
    return (numbers * count).long().clamp(max=count - 1)  # in float32 the product may round up to count
