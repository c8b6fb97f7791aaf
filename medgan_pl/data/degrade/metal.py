"""An imitation of metal in a CT."""

import torch
from jaxtyping import Bool
from torch import Tensor

from medgan_pl.data.degrade.base import Degradation, Ends, Range, counted, uniform
from medgan_pl.data.masks import with_holes

STREAKS = 180  # directions that a streak can have, over half a turn


class MetalLike(Degradation):
    """Add `number` bright discs with streaks, and a last channel with their mask: 1 metal, -1 none.

    It is an imitation without the physics: real streaks come from beam hardening and photon starvation along the whole ray. A disc, of
    `radius` as a share of the slice's shorter side, has the largest value. Bright and dark streaks of random strength pass through it, up
    to `streaks` on the [-1, 1] scale at its rim, and fade as radius / distance. In a volume the discs are rods along the first axis, over a
    random half or more of the slices; only these have streaks.
    """

    needs_whole = True

    extra_channels = 1

    def __init__(self, *, number: Ends, radius: Ends, streaks: Ends) -> None:
        self.number, self.radius = counted("number", number, 1, 16), Range("radius", radius, 0.005, 0.5)
        self.streaks = Range("streaks", streaks, 0, 2)

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        there = self.number.some(generator)[:, None, None]
        metal, streaks = self.slice(image.shape[-2:], len(there), generator)
        metal, streaks = (metal & there).any(0), (streaks * there).sum(0)
        if image.ndim == 5:
            reached = self.depth(image.shape[2], generator)[:, None, None]
            metal, streaks = metal & reached, streaks * reached
        return with_holes(torch.where(metal, 1.0, image + streaks).clamp(-1, 1), metal[None, None], fill=None)

    def slice(self, sides: torch.Size, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the mask of each disc, (k, H, W) bool, and its streaks, (k, H, W)."""
        radius = self.radius.draw(generator, count, 1, 1) * min(sides)
        middle = 0.2 + 0.6 * uniform(generator, 2, count, 1, 1)
        down = torch.arange(sides[0], device=generator.device)[:, None] + 0.5 - sides[0] * middle[0]
        right = torch.arange(sides[1], device=generator.device) + 0.5 - sides[1] * middle[1]
        distance = (down.square() + right.square()).sqrt()
        direction = (torch.atan2(down, right) * (STREAKS / torch.pi)).floor().long() % STREAKS  # both ways alike
        strength = self.streaks.draw(generator) * (2 * uniform(generator, count, STREAKS) - 1)
        streaks = strength.gather(1, direction.flatten(1)).view_as(distance)
        return distance <= radius, streaks * (radius / distance.clamp(min=1e-6)).clamp(max=1)

    def depth(self, slices: int, generator: torch.Generator) -> Bool[Tensor, " slices"]:
        length = ((0.5 + 0.5 * uniform(generator)) * slices).ceil()
        start = (uniform(generator) * (slices - length + 1)).floor()
        place = torch.arange(slices, device=generator.device)
        return (place >= start) & (place < start + length)
