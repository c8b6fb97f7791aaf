"""The training of the small networks of `utility`: images of bounded size, batches, slight augmentation, one schedule."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.extractors.features import Images

MAX_SIDE = {2: 64, 3: 32}  # pixels a side, by axes; bounds the cost of a judgement
MIN_SIDE = 16
MIN_IMAGES = 20  # of a class to train on; with fewer the network learns the images, not the class
RATE, WARM_UP = 4e-3, 0.25  # of AdamW at its peak; the share of the steps before the peak
READ_AT_ONCE = 16  # images of any size: 16 volumes of 256³ are 1 GiB
PREDICTED_AT_ONCE = 64  # small images


@dataclass(frozen=True)
class Training:
    """The plan for training each network: `steps` of `batch_size` images whatever the number of images, so that only their content differs.

    `seeds`: networks trained on each set, with seeds from 0 on; fewer than 5 are for trials, not for reports. `width`: channels of the
    first layer, a multiple of 4. `max_images`: the number drawn once from larger training sets.
    Raises ValueError for fewer than 2 seeds, no steps, an odd batch, or another width.
    """

    seeds: int = 5
    steps: int = 400
    batch_size: int = 32
    width: int = 8
    max_images: int = 5000

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"`seeds` must be 2 or more (5 or more for a report) to measure the effect of chance, got {self.seeds}")
        if self.steps < 1 or self.max_images < MIN_IMAGES:
            raise ValueError(f"`steps` must be 1 and `max_images` {MIN_IMAGES} or more, got {self.steps} and {self.max_images}")
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"`batch_size` must be even, for a half of reals and a half of generated images, got {self.batch_size}")
        if self.width < 4 or self.width % 4:
            raise ValueError(f"`width` must be a multiple of 4, the channels that are normalized together, got {self.width}")


@dataclass(frozen=True)
class Labeled:
    """Images with `labels` (N,) int64, None if unknown, and `groups` (N,), the patient of each, None if each image is a patient."""

    images: Images
    labels: Tensor | None
    groups: Tensor | None = None


@dataclass(frozen=True)
class Masked:
    """Images with `masks` (N, 1, *S) in {0, 1} of the same size; `groups` (N,) as in `Labeled`."""

    images: Images
    masks: Images
    groups: Tensor | None = None


def small(images: Images, rows: Int[Tensor, " rows"] | None = None) -> Float[Tensor, "n c *space"]:
    """Return the images at `rows`, or all, in memory, float32, on the CPU, averaged over area so that no side is above 64 (32 in 3-D).

    Smaller ones are unchanged. All sides shrink by one factor, but to no less than 16. Raises ValueError for no images, NaN or infinity,
    other than 2 or 3 axes, and a side below 16.
    """
    rows = torch.arange(len(images)) if rows is None else rows
    if not len(rows):
        raise ValueError("there must be images to train on and to test on, got none")
    parts = []
    for few in rows.split(READ_AT_ONCE):  # never all at their full size
        part = images[few].detach().cpu().float()
        if part.ndim - 2 not in MAX_SIDE or min(part.shape[2:]) < MIN_SIDE:
            raise ValueError(f"images must be (B, C, *S) with 2 or 3 sides of {MIN_SIDE} or more, got {tuple(part.shape)}")
        if not torch.isfinite(part).all():
            raise ValueError(f"images must be finite, got NaN or infinity among images {int(few[0])} to {int(few[-1])}")
        factor = MAX_SIDE[part.ndim - 2] / max(part.shape[2:])
        sides = [max(MIN_SIDE, round(side * factor)) for side in part.shape[2:]]
        parts.append(F.interpolate(part, size=sides, mode="area") if factor < 1 else part)
    return torch.cat(parts)


def some(count: int, max_images: int) -> Int[Tensor, " rows"]:
    """Return rows of `count` images, in order: all, or `max_images` of them, drawn once and always the same."""
    if count <= max_images:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:max_images].sort().values


def labeled(data: Labeled, classes: int, max_images: int, what: str) -> Labeled:
    """Return `data` prepared for training: at most `max_images` images, averaged down, in memory.

    Raises ValueError as `small`, and for no labels, labels outside 0 to `classes` - 1, and fewer than 20 images of a class.
    """
    labels = validated_labels(data, classes, what)
    rows = some(len(labels), max_images)
    counts = labels[rows].bincount(minlength=classes).tolist()
    if min(counts) < MIN_IMAGES:
        raise ValueError(f"the {what} must have {MIN_IMAGES} or more of each class to train on, got {counts}; leave out the rare class")
    return replace(data, images=small(data.images, rows), labels=labels[rows], groups=None if data.groups is None else data.groups[rows])


def validated_labels(data: Labeled, classes: int, what: str) -> Int[Tensor, " n"]:
    """Return the labels, on the CPU. Raises ValueError if there are none or one is not 0 to `classes` - 1."""
    if classes < 2:
        raise ValueError(f"there must be 2 classes or more, got {classes}")
    if data.labels is None:
        raise ValueError(f"the {what} must have labels, got none; the classes come from the data set or from conditional generation")
    if data.labels.shape != (len(data.images),) or (data.groups is not None and len(data.groups) != len(data.images)):
        raise ValueError(f"the {what} must have one label and one group an image, got {len(data.labels)} labels of {len(data.images)}")
    labels = data.labels.detach().cpu().long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())} in the {what}")
    return labels


def same_kind(parts: dict[str, Tensor]) -> None:
    """Raise ValueError unless all have the same channels and size."""
    shapes = {what: tuple(images.shape[1:]) for what, images in parts.items()}
    if len(set(shapes.values())) > 1:
        sizes = ", ".join(f"{what} {shape}" for what, shape in shapes.items())
        raise ValueError(f"all images must have the same channels and size, got {sizes}")


class Balanced:
    """Draws rows with replacement so that each class occurs equally often."""

    def __init__(self, labels: Int[Tensor, " n"], classes: int, generator: torch.Generator) -> None:
        self.order, self.counts = labels.argsort(stable=True), labels.bincount(minlength=classes)
        self.starts, self.generator = self.counts.cumsum(0) - self.counts, generator

    def rows(self, count: int) -> Int[Tensor, " count"]:
        # The first class is random: with 3 classes and a batch of 32 the same class would be over-represented in each batch.
        first = torch.randint(len(self.counts), (1,), generator=self.generator)
        wanted = (first + torch.arange(count)) % len(self.counts)
        place = (torch.rand(count, generator=self.generator, dtype=torch.float64) * self.counts[wanted]).long()
        return self.order[self.starts[wanted] + place]


class SlightAugmentation:
    """One draw of slight augmentation for a batch like `images`: shifts by up to 1/16 of the side, contrast and brightness by up to 10 %.

    No mirroring: the heart is on the left.
    """

    def __init__(self, images: Tensor, generator: torch.Generator) -> None:
        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(len(images), *shape, generator=generator) - 1

        reach = torch.tensor(images.shape[2:]) // 16
        self.moves = (uniform(images.ndim - 2) * (reach + 0.5)).round().long().clamp(-reach, reach)  # (B, axes)
        self.contrast, self.brightness = 1 + 0.1 * uniform(*[1] * (images.ndim - 1)), 0.1 * uniform(*[1] * (images.ndim - 1))

    def moved(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """Return the images shifted by whole pixels; the border is repeated."""
        for axis, move in enumerate(self.moves.T, 2):
            side = images.shape[axis]
            place = (torch.arange(side) + move[:, None]).clamp(0, side - 1)  # (B, side)
            images = images.take_along_dim(place.view(len(place), *[side if a == axis else 1 for a in range(1, images.ndim)]), axis)
        return images

    def __call__(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return self.moved(images) * self.contrast + self.brightness


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """Draw the initial weights of networks built inside from `seed`, and restore torch's global generator."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPU's too
    try:
        yield
    finally:
        torch.set_rng_state(state)


def train_frozen(
    network: nn.Module,
    batch: Callable[[], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    device: torch.device,
) -> None:
    """Run `steps` of AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on `loss(network(images), targets)`, then freeze the network, in
    evaluation mode, on `device`."""
    network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True):
        for step in range(steps):
            images, targets = batch()
            optimizer.param_groups[0]["lr"] = RATE * share_of_rate((step + 1) / (steps + 1))
            optimizer.zero_grad()
            loss(network(images.to(device)), targets.to(device)).backward()
            optimizer.step()
    network.eval().requires_grad_(False)


def share_of_rate(progress: float) -> float:
    """Return the learning rate as a share of its peak at `progress` in 0 to 1: linear up, then along a cosine down, 0 at both ends."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def shares(batch_size: int, parts: Sequence[object]) -> list[int]:
    """Return how many images of a batch each part gives: equally many, with the remainder for the first ones."""
    return [batch_size // len(parts) + (place < batch_size % len(parts)) for place in range(len(parts))]
