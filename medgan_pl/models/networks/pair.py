"""Two networks as one player, one for each of two domains."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Pair(nn.Module):
    """Apply `to_a` to the rows of domain 0 and `to_b` to the rows of domain 1; image (B, C, *S), domain (B,) of {0, 1}.

    A generator's domain is the target domain of an image; a discriminator's is the image's own domain. Both networks must return tensors
    of one shape. A network whose domain is not in the batch is not called.

    Source: Zhu et al. 2017 (arXiv 1703.10593), figure 3: G is `to_b`, F is `to_a`, D_X judges `to_a`, D_Y `to_b`.
    """

    def __init__(self, *, to_a: nn.Module, to_b: nn.Module) -> None:
        super().__init__()
        self.to_a, self.to_b = to_a, to_b

    @property
    def factors(self) -> tuple[int, ...]:
        """Return how many times larger than its source an image is, along each axis."""
        return self.to_b.factors

    @property
    def multiple(self) -> int:
        """Windows of an image must begin at multiples of it (networks/translator.py)."""
        return self.to_b.multiple

    def forward(self, image: Float[Tensor, "b c *space"], domain: Int[Tensor, " b"]) -> Float[Tensor, "b ..."]:
        rows = [(domain == number).nonzero().squeeze(1) for number in (0, 1)]
        made = [network(image[own]) for network, own in zip((self.to_a, self.to_b), rows, strict=True) if len(own)]
        return torch.cat(made)[torch.cat(rows).argsort()]
