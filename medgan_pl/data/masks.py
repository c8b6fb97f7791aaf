"""Masks and holes: the two number formats of a mask, and the channel that marks where an image is missing.

A mask in a batch holds 0 (outside) and 1 (inside). A mask that is treated as an image (cached, augmented, generated) holds -1 and 1.
All conversions between the two are here.
"""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

# A voxel that a structure covers by this share or more is inside.
INSIDE = 0.5
# A resampled mask channel is -1 only where nothing is missing. Other values are a partly missing pixel, which is unknown.
PARTLY_MISSING = -0.999


def as_image(mask: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Return a mask, or a probability, in [0, 1] on the scale of an image: 0 becomes -1, and 1 stays 1."""
    return 2 * mask - 1


def as_share(image: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Return an image in [-1, 1] as a share or probability in [0, 1], the inverse of `as_image`."""
    return (image + 1) / 2


def as_mask(image: Shaped[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Return the mask of 0 and 1, float32, of an image in [-1, 1]: 1 where the image is above 0."""
    return (image > 0).float()


def covered(share: Shaped[Tensor, "*shape"]) -> Bool[Tensor, "*shape"]:
    """Return True where a share in [0, 1] of a resampled mask is at least one half."""
    return share >= INSIDE


# Holes ------------------------------------------------------------------------------------------------------------------------------


def with_holes(image: Float[Tensor, "b c *space"], missing: Bool[Tensor, "*broadcast"], fill: float | None) -> Float[Tensor, "b d *space"]:
    """Return an image with `fill` where it is missing, and a further last channel: 1 where it is missing, -1 where it is known.

    `missing` is (B or 1, 1, *S). With `fill` None the values in the holes stay as they are.
    """
    filled = image if fill is None else torch.where(missing, fill, image)
    mask = as_image(missing.to(image.dtype))
    return torch.cat([filled, mask.expand(len(image), 1, *image.shape[2:])], 1)


def holes_of(source: Float[Tensor, "b d *space"]) -> Bool[Tensor, "b 1 *space"]:
    """Return True where the last channel of a source marks a missing pixel, also if a resampled pixel is only partly missing."""
    return source[:, -1:] > PARTLY_MISSING


def keep_known(source: Float[Tensor, "b d *space"], made: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
    """Return the generated image where the last channel of the source is above 0 (missing), and the source elsewhere."""
    return torch.where(source[:, -1:] > 0, made, source[:, : made.shape[1]])
