"""Tensors to pictures inside the page: each a small PNG, so that a grid can fold to the width of a phone."""

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
LARGEST, SMALLEST = 160, 32  # pixels on the longer side of a picture
BUDGET = 2_400_000  # bytes of all pictures before compression: noise does not compress, and base64 adds a third


@dataclass(frozen=True)
class Pairs:
    """Images (M, C, *S) in [-1, 1], the nearest training image of each, and their distance (M,) in `space`: an extractor or pixels."""

    space: str
    images: Float[Tensor, "m c *space"]
    train: Float[Tensor, "m c *space"]
    distance: Float[Tensor, " m"]


@dataclass(frozen=True)
class Pictures:
    """What a report shows, all in [-1, 1] and (N, C, *S).

    - `fake`, `real`: for the grids; `per_class`: class -> the same two. `pairs`: the closest pairs of fakes and training images, one for
      each space; `held_out_pairs`: those of held-out reals and training images, found by the space.
    - `ladder`: rung -> one image (C, *S), in the order of the rungs. `paired`: of a paired task what was given, made and right, by name.
    """

    fake: Float[Tensor, "n c *space"]
    real: Float[Tensor, "m c *space"]
    per_class: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    pairs: Sequence[Pairs] = ()
    held_out_pairs: Sequence[Pairs] = ()
    ladder: Mapping[str, Tensor] = field(default_factory=dict)
    paired: Mapping[str, Tensor] = field(default_factory=dict)


def tile_side(pictures: Pictures) -> int:
    """Pixels on the longer side, so that all pictures together stay within BUDGET."""
    counts = [min(SHOWN, len(images)) for images in (pictures.fake, pictures.real)]
    counts += [min(SHOWN_PER_CLASS, len(images)) for both in pictures.per_class.values() for images in both]
    counts += [2 * min(SHOWN_PAIRS, len(pairs.images)) for pairs in (*pictures.pairs, *pictures.held_out_pairs)]
    counts += [len(pictures.ladder), sum(min(SHOWN_PAIRS, len(images)) for images in pictures.paired.values())]
    side = int((BUDGET / max(1, sum(counts)) / (3 if pictures.real.shape[1] == 3 else 1)) ** 0.5)
    return max(SMALLEST, min(LARGEST, side))


def flat(images: Float[Tensor, "n c ..."]) -> Float[Tensor, "n one_or_three h w"]:
    """Pictures of images: of a volume its middle slice, of channels other than 1 and 3 the first. Raises ValueError for NaN or infinity."""
    if images.ndim == 5:
        images = images[:, :, images.shape[2] // 2]
    if images.ndim != 4:
        raise ValueError(f"pictures must be (N, C, H, W) or (N, C, D, H, W), got {tuple(images.shape)}")
    if not torch.isfinite(images).all():
        raise ValueError("pictures must be finite; the images hold NaN or infinity")
    return images if images.shape[1] in (1, 3) else images[:, :1]


def levels(images: Float[Tensor, "n c ..."], side: int) -> list[UInt8[np.ndarray, "..."]]:
    """8-bit pixels (H, W) or (H, W, 3) of each, averaged down to `side` pixels on the longer side, never up."""
    pictures = flat(images).detach().float().cpu().clamp(-1, 1)
    longest = max(pictures.shape[2:])
    if longest > side and len(pictures):
        shape = [max(1, round(length * side / longest)) for length in pictures.shape[2:]]
        pictures = F.interpolate(pictures, shape, mode="area")
    pixels = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [picture[..., 0] if picture.shape[2] == 1 else picture for picture in pixels]


def tiles(images: Float[Tensor, "n c ..."], side: int, *, synthetic: bool = False) -> list[str]:
    """A data URI for each image; `synthetic` marks the file as those of `data.export` are marked."""
    return [png_uri(pixels, synthetic=synthetic) for pixels in levels(images, side)]


def png_uri(pixels: UInt8[np.ndarray, "..."], *, synthetic: bool = False) -> str:
    mark = PngInfo()
    if synthetic:
        mark.add_text("Synthetic", "medgan_pl")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", pnginfo=mark)
    return data_uri("image/png", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
