"""Differentiable augmentation of real and fake images before the discriminator, for training on few images.

Every image that D sees is augmented with some probability, and G gets its gradient by the augmentation. So that G does not learn the
augmentation, each operation leaves an image unchanged with a probability above 0, or is uniform (Karras et al. 2020, arXiv 2006.06676,
section 2.2). The game draws `numbers` uniform numbers in [0, 1) for each image, so that a batch accumulated in parts is augmented as the
whole, and the real and the fake of one row alike.
"""

import math
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from medgan_pl.data.affine import in_shares, places, product, rotation
from medgan_pl.models.resample import Resample
from medgan_pl.models.strength import Ask, Strength

Images = Float[Tensor, "b c *space"]


class NoAugmentation(nn.Module):
    """Leave images unchanged."""

    numbers = 0

    def forward(self, images: Tensor, numbers: Tensor) -> Tensor:
        return images

    def adapt(self, accuracy: Ask, images: int, new_images: int, total_images: int) -> None:
        """Do nothing: there is nothing to adapt."""

    def logged(self) -> dict[str, float]:
        return {}


# How often --------------------------------------------------------------------------------------------------------------------------


# What -------------------------------------------------------------------------------------------------------------------------------


class Augment(nn.Module):
    """Change gray values, then flip, rotate, scale and shift in one resampling, then cut a box out: each with probability `p`.

    images (B, C, *S) in [-1, 1], numbers (B, `numbers`) in [0, 1) -> images (B, C, *S) in [-1, 1]; differentiable any number of times.
    0 or False switches an operation off; all draws are uniform:

    - `brightness`, `contrast`: x <- x + (1 - x²)(b + c x), |b| <= brightness, |c| <= contrast: mid-gray moves by b and the slope there
      becomes 1 + c; -1 (air) and 1 (such as bone) stay, and the order of gray values too. On a CT window of [-1000, 400] HU b = 0.1 is
      70 HU at its middle. The sum of the two is at most 0.5; above it the curve is not monotonic.
    - `flip`: left and right, half the time; refused with `laterality`, as the sides then differ.
    - `rotate_deg`: largest angle in degrees, in 3-D about each axis; `scale`: by 1/(1 + scale) to 1 + scale, log-uniform; `shift`: whole
      pixels, up to that share of each side and at least one. Bilinear; the image is reflected at its border.
    - `cutout`: a box of that share of each side, centered anywhere, set to 0: a flat mid-gray that is no tissue.
    - `strength`: sets p. Raise ValueError for values outside these ranges, and for images of other than `spatial_dims` axes.

    Source: Zhao et al. 2020 (arXiv 2006.10738), p = 1 with color, translation, cut-out; Karras et al. 2020 (arXiv 2006.06676), appendix B.
    Both add and multiply gray values, which would change air, and DiffAugment shifts zeros in; ADA's filters, noise and unequal scaling are
    left out.
    """

    operations: ClassVar = ("flip", "rotate_deg", "scale", "shift", "brightness", "contrast", "cutout")

    def __init__(
        self,
        *,
        spatial_dims: int,
        strength: Strength,
        flip: bool = False,
        laterality: bool = True,
        shift: float = 0.0,
        scale: float = 0.0,
        rotate_deg: float = 0.0,
        brightness: float = 0.0,
        contrast: float = 0.0,
        cutout: float = 0.0,
    ) -> None:
        super().__init__()
        if flip and laterality:
            raise ValueError(
                "augment.flip=true mirrors left and right, and the data says that its sides differ (data.laterality=true: the heart lies "
                "left); use augment.flip=false, or data.laterality=false if a mirrored image could be a patient's"
            )
        ranges = {"shift": (shift, 0.5), "scale": (scale, 1), "rotate_deg": (rotate_deg, 180), "cutout": (cutout, 1)}
        ranges |= {"brightness": (brightness, 0.5), "contrast": (contrast, 0.5), "brightness + contrast": (brightness + contrast, 0.5)}
        for name, (value, top) in ranges.items():
            if not 0 <= value <= top:
                raise ValueError(f"augment: {name} must lie in 0 to {top:g}, got {value}; 0 turns it off")
        self.spatial_dims, self.strength = spatial_dims, strength
        self.shift, self.scale, self.rotate_deg = shift, scale, rotate_deg
        self.brightness, self.contrast, self.cutout = brightness, contrast, cutout
        turns = 1 if spatial_dims == 2 else 3
        needs = {"flip": (flip, 1), "shift": (shift, spatial_dims), "scale": (scale, 1), "rotate": (rotate_deg, turns)}
        needs |= {"brightness": (brightness, 1), "contrast": (contrast, 1), "cutout": (cutout, spatial_dims)}
        # For each operation that is on: the column that decides whether it applies, and the columns of its strength.
        self.columns: dict[str, tuple[int, slice]] = {}
        self.numbers = 0
        for name, (on, count) in needs.items():
            if on:
                self.columns[name] = (self.numbers, slice(self.numbers + 1, self.numbers + 1 + count))
                self.numbers += 1 + count

    def forward(self, images: Images, numbers: Float[Tensor, "b k"]) -> Images:
        if images.ndim - 2 != self.spatial_dims or numbers.shape != (len(images), self.numbers):
            raise ValueError(
                f"augment: images must have {self.spatial_dims} axes of space and {self.numbers} numbers each, got {tuple(images.shape)} "
                f"and {tuple(numbers.shape)}"
            )
        drawn = {name: self.drawn(numbers, name) for name in self.columns}
        images = self.bent(images, drawn)
        if drawn.keys() & {"flip", "shift", "scale", "rotate"}:
            images = self.moved(images, drawn)
        return self.cut(images, drawn["cutout"]) if self.cutout else images

    def drawn(self, numbers: Tensor, name: str) -> Tensor:
        """Return the strengths of an operation, (B, k) in [-1, 1); NaN where it does not apply."""
        gate, how = self.columns[name]
        done = numbers[:, gate : gate + 1] < self.strength.p
        return torch.where(done, 2 * numbers[:, how] - 1, torch.nan)

    def bent(self, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        if not drawn.keys() & {"brightness", "contrast"}:
            return images
        by = {"brightness": self.brightness, "contrast": self.contrast}
        one = (-1, *[1] * (images.ndim - 1))
        b, c = (drawn[name].nan_to_num().view(one) * most if name in drawn else 0.0 for name, most in by.items())
        inside = images.clamp(-1, 1)  # a G without tanh may leave the range, where the curve is not monotonic
        return images + (1 - inside.square()) * (b + c * inside)

    def moved(self, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        motion = self.motion(images, {name: value.nan_to_num() for name, value in drawn.items()})
        still = (motion == torch.eye(*motion.shape[1:], device=motion.device)).flatten(1).all(1)
        resampled = Resample.apply(images.to(motion.dtype), places(motion, images.shape[2:]))
        return torch.where(still.view(-1, *[1] * (images.ndim - 1)), images, resampled)  # bit-equal if nothing moves

    def motion(self, images: Tensor, drawn: dict[str, Tensor]) -> Tensor:
        """Return for each image the map from new to old places, (B, n, n + 1), x first, each axis from -1 to 1 (edge to edge)."""
        n, size = self.spatial_dims, len(images)
        sides = torch.tensor(images.shape[:1:-1], device=images.device, dtype=torch.promote_types(images.dtype, torch.float32))  # x first
        turn = torch.eye(n, device=sides.device, dtype=sides.dtype).repeat(size, 1, 1)
        if "flip" in drawn:
            turn[:, 0, 0] = torch.where(drawn["flip"][:, 0] < 0, -1.0, 1.0)
        if "rotate" in drawn:
            angles = drawn["rotate"].to(sides) * math.radians(self.rotate_deg)
            for plane, angle in zip([(0, 1), (0, 2), (1, 2)], angles.unbind(1), strict=False):
                turn = product(turn, rotation(n, plane, angle))
        if "scale" in drawn:
            turn = turn / (drawn["scale"].to(sides) * math.log1p(self.scale)).exp().unsqueeze(2)
        turn = in_shares(turn, sides)
        offset = sides.new_zeros(size, n, 1)
        if "shift" in drawn:
            max_shift = (self.shift * sides + 0.5).floor().clamp(min=1)  # all integers from -max_shift to max_shift are equally likely
            pixels = (drawn["shift"].to(sides) * (max_shift + 0.5)).round().clamp(-max_shift, max_shift)
            offset = -product(turn, (2 * pixels / sides).unsqueeze(2))
        return torch.cat([turn, offset], 2)

    def cut(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Set a box of `cutout` of each side to 0; a center of NaN gives no box."""
        inside = torch.ones((), dtype=torch.bool, device=images.device)
        for axis, side in enumerate(images.shape[2:]):
            view = [-1 if i == axis + 2 else 1 for i in range(images.ndim)]
            place = (torch.arange(side, device=images.device) + 0.5).view(view)
            center = ((drawn[:, axis] + 1) / 2 * side).view(-1, *[1] * (images.ndim - 1))
            inside = inside & ((place - center).abs() < self.cutout * side / 2)
        return torch.where(inside, 0.0, images)

    def adapt(self, accuracy: Ask, images: int, new_images: int, total_images: int) -> None:
        self.strength.adapt(accuracy, images, new_images, total_images)

    def logged(self) -> dict[str, float]:
        return {"p": float(self.strength.p)}
