"""Images as pictures inside the page: each a small PNG, so that a grid can fold to the width of a phone."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.nn import functional as F

SHOWN, SHOWN_PER_CLASS, SHOWN_PAIRS = 24, 6, 8
MAX_SIDE, MIN_SIDE = 160, 32  # pixels on the longer side of a picture
BUDGET = 2_400_000  # bytes of all pictures before compression: noise does not compress, and base64 adds a third
# A pair is marked if its distance is below this part of the smallest distance of held-out patients. The part is below 1 because the
# nearest of more images is somewhat nearer by chance.
TOO_NEAR = 0.5
ShownPair = tuple[str, str, float, bool]  # data URIs of the image and its nearest training image, their distance, True if too near


@dataclass(frozen=True)
class Pairs:
    """Images (M, C, *S) in [-1, 1], the nearest training image of each, and their distance (M,).

    `space` names what the distance was measured in: an extractor or pixels.
    """

    space: str
    images: Float[Tensor, "m c *space"]
    train: Float[Tensor, "m c *space"]
    distance: Float[Tensor, " m"]


@dataclass(frozen=True)
class Pictures:
    """The images that a report shows, all in [-1, 1] and (N, C, *S).

    - `fake`, `real`: images for the grids. `per_class`: class -> the same two.
    - `pairs`: the closest pairs of fakes and training images, one entry per space. `held_out_pairs`: those of held-out reals and training
      images, matched by their space.
    - `ladder`: severity level -> one image (C, *S), the mildest first. `paired`: name -> images of a paired task, such as its input, its
      output and the truth, in the same order.
    """

    fake: Float[Tensor, "n c *space"]
    real: Float[Tensor, "m c *space"]
    per_class: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    pairs: Sequence[Pairs] = ()
    held_out_pairs: Sequence[Pairs] = ()
    ladder: Mapping[str, Tensor] = field(default_factory=dict)
    paired: Mapping[str, Tensor] = field(default_factory=dict)


def tile_side(pictures: Pictures) -> int:
    """Return the pixels on the longer side with which all pictures together stay within BUDGET."""
    counts = [min(SHOWN, len(images)) for images in (pictures.fake, pictures.real)]
    counts += [min(SHOWN_PER_CLASS, len(images)) for both in pictures.per_class.values() for images in both]
    counts += [2 * min(SHOWN_PAIRS, len(pairs.images)) for pairs in (*pictures.pairs, *pictures.held_out_pairs)]
    counts += [len(pictures.ladder), sum(min(SHOWN_PAIRS, len(images)) for images in pictures.paired.values())]
    side = int((BUDGET / max(1, sum(counts)) / (3 if pictures.real.shape[1] == 3 else 1)) ** 0.5)
    return max(MIN_SIDE, min(MAX_SIDE, side))


def closest_pairs(pictures: Pictures, side: int, *, synthetic: bool) -> list[tuple[str, list[ShownPair], list[ShownPair] | None]]:
    """Return for each space its name, the closest pairs of the judged images, and those of held-out patients, None if not measured."""
    controls = {pairs.space: pairs for pairs in pictures.held_out_pairs}
    shown = []
    for pairs in pictures.pairs:
        control = controls.get(pairs.space)
        nearest = float(control.distance.min()) if control is not None and len(control.distance) else 0.0
        judged = _nearest_first(pairs, side, TOO_NEAR * nearest, synthetic=synthetic)
        shown.append((pairs.space, judged, None if control is None else _nearest_first(control, side, 0.0, synthetic=False)))
    return shown


def _nearest_first(pairs: Pairs, side: int, limit: float, *, synthetic: bool) -> list[ShownPair]:
    order = pairs.distance.argsort()[:SHOWN_PAIRS]
    columns = tiles(pairs.images[order], side, synthetic=synthetic), tiles(pairs.train[order], side), pairs.distance[order].tolist()
    return [(image, train, distance, distance < limit) for image, train, distance in zip(*columns, strict=True)]


def flat(images: Float[Tensor, "n c ..."]) -> Float[Tensor, "n one_or_three h w"]:
    """Return 2-D pictures of images: the middle slice of a volume; the first channel if there are neither 1 nor 3.

    Raise ValueError for NaN, infinity or another number of dimensions.
    """
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
    if images.ndim != 4:
        raise ValueError(f"pictures must be (N, C, H, W) or (N, C, D, H, W), got {tuple(images.shape)}; add the missing dimension")
    if not torch.isfinite(images).all():
        raise ValueError("pictures must be finite, got NaN or infinity; look for the step that makes them")
    return images if images.shape[1] in (1, 3) else images[:, :1]


def pixels_of(images: Float[Tensor, "n c ..."], side: int) -> list[UInt8[np.ndarray, "..."]]:
    """Return 8-bit pixels (H, W) or (H, W, 3) of each image, averaged down to `side` pixels on the longer side, never enlarged."""
    pictures = flat(images).detach().float().cpu().clamp(-1, 1)
    longest = max(pictures.shape[2:])
    if longest > side and len(pictures):
        shape = [max(1, round(length * side / longest)) for length in pictures.shape[2:]]
        pictures = F.interpolate(pictures, shape, mode="area")
    pixels = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [picture[..., 0] if picture.shape[2] == 1 else picture for picture in pixels]


def tiles(images: Float[Tensor, "n c ..."], side: int, *, synthetic: bool = False) -> list[str]:
    """Return a data URI for each image. `synthetic` marks the file as `data.export` marks its files."""
    return [_png_uri(pixels, synthetic=synthetic) for pixels in pixels_of(images, side)]


def _png_uri(pixels: UInt8[np.ndarray, "..."], *, synthetic: bool) -> str:
    mark = PngInfo()
    if synthetic:
        mark.add_text("Synthetic", "medgan_pl")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=mark)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
