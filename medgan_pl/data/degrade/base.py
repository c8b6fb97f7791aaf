"""The base of all degradations: one row after the other from one generator, random ranges, and chains."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from medgan_pl.data.intensity import Levels
from medgan_pl.data.settings import are_numbers

Images = Float[Tensor, "b c *space"]
Sources = Float[Tensor, "b d *small"]
Ends = float | Sequence[float]


@dataclass(frozen=True)
class Frame:
    """The relation of a source to its image besides the values; a scan for a trained generator must be converted to it.

    - `holes`: the last channel of the source is 1 where it is missing and -1 where it is known. `fill`: value in the holes; None: any.
    - `thickness`: along each axis of the image, the number of slices that one slice of a scan covers, enlarged back to the image's size.
    - `moves_levels`: the degradation changes the whole contrast, as fog does, and with it levels that depend on the values.
    """

    holes: bool = False
    fill: float | None = None
    thickness: tuple[int, ...] = ()
    moves_levels: bool = False


class Degradation(ABC):
    """Map images (B, C, *S) in [-1, 1] to sources (B, C + extra_channels, *S / factor) in [-1, 1].

    The generator, on the images' device, serves the rows in order, so that the first row's source does not depend on the others. Nothing
    else is random. No drawn number is copied to the host.
    """

    factor: int = 1  # each side of the source is smaller by this factor
    extra_channels: int = 0  # further channels of the source, after those of the image
    keeps_the_rest: bool = False  # the source equals the image where its last channel is not 1
    needs_whole: bool = False  # what it does to a part depends on the rest of the image: rays, lines of k-space, clouds
    pixel_mm: float | None = None  # side of an input pixel that it assumes
    windows_hu: Levels | None = None  # values of -1 and 1 in each channel that it assumes

    def __call__(self, images: Images, generator: torch.Generator) -> Sources:
        return torch.cat([self.degraded(image, generator) for image in images.split(1)])

    @abstractmethod
    def degraded(self, image: Float[Tensor, "1 c *space"], generator: torch.Generator) -> Float[Tensor, "1 d *small"]:
        """Return the source of one image."""

    def frame(self, spatial_dims: int) -> Frame:
        """Return the frame of its sources, for images of `spatial_dims` axes."""
        return Frame(holes=self.extra_channels > 0, thickness=(1,) * spatial_dims)

    def parts(self) -> Iterator[tuple[str, int, "Degradation"]]:
        """Yield each part that may assume pixels or windows, here itself.

        With it come its key below data.degrade, and the factor by which each side of its input is smaller than the image.
        """
        yield "", 1, self


class Chain(Degradation):
    """Apply degradations one after the other; without any, the source is the image.

    Raise ValueError for steps that are no degradations, and if one that adds channels is not the last: later ones would degrade its mask.
    """

    def __init__(self, steps: Sequence[Degradation]) -> None:
        self.steps = tuple(steps)
        if strangers := [type(step).__name__ for step in self.steps if not isinstance(step, Degradation)]:
            raise ValueError(
                f"`steps` must be degradations, such as Blur or Gaussian, got {', '.join(strangers)}; put shapes of holes inside Holes"
            )
        if any(step.extra_channels for step in self.steps[:-1]):
            names = ", ".join(type(step).__name__ for step in self.steps)
            raise ValueError(f"a step of `steps` that adds channels must be the last, as later ones would spoil its mask, got {names}")
        self.factor = math.prod(step.factor for step in self.steps)
        self.extra_channels = sum(step.extra_channels for step in self.steps)
        self.needs_whole = any(step.needs_whole for step in self.steps)
        self.keeps_the_rest = len(self.steps) == 1 and self.steps[0].keeps_the_rest

    def degraded(self, image: Tensor, generator: torch.Generator) -> Tensor:
        for step in self.steps:
            image = step(image, generator)
        return image

    def frame(self, spatial_dims: int) -> Frame:
        """Return the frame of the last step's sources. The thickest of several thick axes counts, as later steps act on its grid."""
        frames = [step.frame(spatial_dims) for step in self.steps] or [Frame(thickness=(1,) * spatial_dims)]
        thickness = tuple(max(along) for along in zip(*(frame.thickness for frame in frames), strict=True))
        return Frame(self.extra_channels > 0, frames[-1].fill, thickness, any(frame.moves_levels for frame in frames))

    def parts(self) -> Iterator[tuple[str, int, Degradation]]:
        smaller = 1
        for place, step in enumerate(self.steps):
            for key, own, part in step.parts():
                yield f".steps.{place}{key}", smaller * own, part
            smaller *= step.factor


class Range:
    """A range from which a number is drawn for each row, uniform in `ends` = [low, high]; a single number is constant.

    Raise ValueError, with the setting's `name`, for anything else and for numbers outside `minimum` to `maximum`.
    """

    def __init__(self, name: str, ends: Ends, minimum: float, maximum: float = math.inf) -> None:
        pair = [ends, ends] if isinstance(ends, int | float) else ends
        if not are_numbers(pair, 2) or not minimum <= pair[0] <= pair[1] <= maximum:
            where = f"within {minimum:g} to {maximum:g}" if maximum < math.inf else f"of at least {minimum:g}"
            raise ValueError(f"`{name}` must be a number or [low, high] with low <= high, {where}, got {ends!r}")
        self.low, self.high = pair

    def draw(self, generator: torch.Generator, *shape: int) -> Tensor:
        return self.low + (self.high - self.low) * uniform(generator, *shape)

    def whole(self, generator: torch.Generator, *shape: int) -> Tensor:
        """Return whole numbers, all equally likely, both ends included."""
        return (self.low + (self.high - self.low + 1) * uniform(generator, *shape)).floor().clamp(max=self.high)

    def some(self, generator: torch.Generator) -> Bool[Tensor, " most"]:
        """Return a mask of `high` items, True for the first ones, as many as drawn: all are computed, as shapes must not be random."""
        return torch.arange(int(self.high), device=generator.device) < self.whole(generator)


def counted(name: str, ends: Ends, minimum: int, maximum: float = math.inf) -> Range:
    """Return a range whose ends are whole numbers; raise ValueError as `Range`."""
    span = Range(name, ends, minimum, maximum)
    if span.low != int(span.low) or span.high != int(span.high):
        raise ValueError(f"`{name}` must be whole numbers, got {ends!r}; use [{math.floor(span.low)}, {math.ceil(span.high)}]")
    return span


def uniform(generator: torch.Generator, *shape: int) -> Tensor:
    """Return numbers uniform in [0, 1), on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)


def normal(generator: torch.Generator, *shape: int) -> Tensor:
    """Return numbers from N(0, 1), on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device)
