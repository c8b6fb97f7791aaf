"""Random augmentation of a whole batch at once, on its device."""

import math
from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from medgan_pl.core.batch import Batch
from medgan_pl.data.affine import in_shares, rotation
from medgan_pl.data.masks import as_image, as_mask


class Randomize:
    """Random scaling, rotation, translation, flip and noise for each image of a batch. With all off (0, False) it returns the same tensor.

    - `scale`: the largest relative change of size, drawn log-uniformly between 1/(1+scale) and 1+scale.
    - `rotate_deg`: the largest rotation in degrees, in the plane of the last two axes.
    - `shift`: the largest translation as a fraction of each side; with `scale`, a random crop.
    - `flip`: mirror the last axis half the time. Wrong for chests, whose heart is on the left.
    - `noise`: the standard deviation of white Gaussian noise.

    Scale, rotation and translation are one bilinear resampling that repeats the border. Random numbers come from torch's global generator.
    """

    def __init__(self, *, scale: float = 0.0, rotate_deg: float = 0.0, shift: float = 0.0, flip: bool = False, noise: float = 0.0) -> None:
        for name, value, top in (("scale", scale, 1.0), ("rotate_deg", rotate_deg, 180.0), ("shift", shift, 0.5), ("noise", noise, 1.0)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= top:
                raise ValueError(f"data.augment.{name} must lie in 0 to {top:g}, got {value}; 0 turns it off")
        if not isinstance(flip, bool):
            raise ValueError(f"data.augment.flip must be true or false, got {flip!r}")
        self.scale, self.rotate_deg, self.shift, self.flip, self.noise = scale, rotate_deg, shift, flip, noise

    def __call__(self, image: Float[Tensor, "b c *space"], clean: int = 0) -> Float[Tensor, "b c *space"]:
        """Return the images (B, C, H, W) or (B, C, D, H, W) in [-1, 1], augmented. The last `clean` channels, masks, get no noise."""
        if self.scale or self.rotate_deg or self.shift:
            grid = F.affine_grid(self.motion(image), list(image.shape), align_corners=False)
            image = F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)
        if self.flip:
            mirrored = torch.rand(len(image), device=image.device) < 0.5
            image = torch.where(mirrored.view(-1, *[1] * (image.ndim - 1)), image.flip(-1), image)
        if self.noise:
            noisy, rest = image.tensor_split([image.shape[1] - clean], 1)
            image = torch.cat([(noisy + self.noise * torch.randn_like(noisy)).clamp(-1, 1), rest], 1)
        return image

    def together(self, batch: Batch, parts: Mapping[str, int]) -> Batch:
        """Return the batch with its images and their companions augmented alike; `parts`: key -> number of channels."""
        masks = {"mask": parts.get("mask", 0), "inside": 1}
        keys = sorted((key for key in {**parts, **masks} if key in batch), key=lambda key: key in masks)  # masks last
        if keys == ["image"]:
            return {**batch, "image": self(batch["image"])}
        joined = torch.cat([as_image(batch[key]) if key in masks else batch[key] for key in keys], 1)
        moved = self(joined, clean=sum(masks[key] for key in keys if key in masks))
        found = dict(zip(keys, moved.split([{**parts, **masks}[key] for key in keys], 1), strict=True))
        return batch | {key: as_mask(part) if key in masks else part for key, part in found.items()}

    def motion(self, image: Tensor) -> Tensor:
        """Return for each image the map from new to old places, (B, n, n+1), in `affine_grid`'s coordinates (x first, [-1, 1])."""
        n, size = image.ndim - 2, len(image)

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(size, *shape, device=image.device) - 1

        factor = torch.exp(uniform() * math.log1p(self.scale))  # (B,)
        angle = uniform() * math.radians(self.rotate_deg)
        sides = torch.tensor(image.shape[:1:-1], device=image.device, dtype=angle.dtype)  # x first
        turn = in_shares(rotation(n, (0, 1), angle), sides) / factor.view(-1, 1, 1)
        return torch.cat([turn, 2 * self.shift * uniform(n, 1)], dim=2).to(image.dtype)
