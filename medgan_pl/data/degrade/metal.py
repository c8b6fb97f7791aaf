"""Metal in a CT, imitated."""

import torch
from jaxtyping import Bool
from torch import Tensor

from medgan_pl.data.degrade.base import Degradation, Ends, Range, counted, uniform
from medgan_pl.data.masks import with_holes

STREAKS = 180  # directions that a streak can have, over half a turn


class MetalLike(Degradation):
    """`number` bright discs with streaks through them, and a channel more, the last, that says where the discs are: 1 metal, -1 none.

    An imitation, not the physics: a disc, `radius` of the slice's shorter side, is as bright as can be; through it go bright and dark
    streaks of random strength, up to `streaks` on the [-1, 1] scale at its rim, that fade as radius / distance. Beam hardening and photon
    starvation, which make the real ones, depend on all that a ray meets. In a volume the discs are rods along the first axis, over a random
    half or more of the slices, which alone have streaks.
    """

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
        """Return, for each disc, where it is and what it adds around itself: (k, H, W) bool, (k, H, W)."""
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
