"""The training of the small networks behind `utility`: images of bounded size, batches, slight changes, one schedule."""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from medgan_pl.metrics.extractors.features import Images

LONGEST = {2: 64, 3: 32}  # pixels a side, by axes: what bounds the cost of a judgement
SMALLEST = 16
MIN_IMAGES = 20  # images of a class to teach from; fewer teach the images, not the class
RATE, WARM_UP = 4e-3, 0.25  # of AdamW at its peak; the share of the steps that lead up to it
READ_AT_ONCE = 16  # images of any size: 16 volumes of 256³ are 1 GiB
SHOWN_AT_ONCE = 64  # small images, where nothing is learned


@dataclass(frozen=True)
class Training:
    """The plan by which each network is trained: `steps` of `batch_size` images whatever the number of images, so that only what they
    show differs.

    `seeds`: networks a set is taught to, from 0 on; results of fewer than 5 are for trying out, not to be reported. `width`: channels of
    the first layer, a multiple of 4. `max_images`: of larger training sets this many, drawn once, are used.
    Raises ValueError for fewer than 2 seeds, no steps, an odd batch, or another width.
    """

    seeds: int = 5
    steps: int = 400
    batch_size: int = 32
    width: int = 8
    max_images: int = 5000

    def __post_init__(self) -> None:
        if self.seeds < 2:
            raise ValueError(f"`seeds` must be 2 or more (5 or more for a report) to show how much chance there is, got {self.seeds}")
        if self.steps < 1 or self.max_images < MIN_IMAGES:
            raise ValueError(f"`steps` must be 1 and `max_images` {MIN_IMAGES} or more, got {self.steps} and {self.max_images}")
        if self.batch_size < 2 or self.batch_size % 2:
            raise ValueError(f"`batch_size` must be even, for a half of reals and a half of generated images, got {self.batch_size}")
        if self.width < 4 or self.width % 4:
            raise ValueError(f"`width` must be a multiple of 4, the channels that are normalised together, got {self.width}")


@dataclass(frozen=True)
class Labelled:
    """`images` with `labels` (N,) int64, None where none are known; `groups` (N,): whose image each is, None: each stands for itself."""

    images: Images
    labels: Tensor | None
    groups: Tensor | None = None


@dataclass(frozen=True)
class Masked:
    """`images` with `masks` (N, 1, *S) in {0, 1} of the same size; `groups` (N,) as in Labeled."""

    images: Images
    masks: Images
    groups: Tensor | None = None


def small(images: Images, rows: Int[Tensor, " rows"] | None = None) -> Float[Tensor, "n c *space"]:
    """The images of these `rows`, or all, in memory, float32, on the CPU, averaged over area so that no side is above 64 (32 in 3-D).

    Smaller ones stay as they are. All sides shrink by one factor, though to no less than 16. Raises ValueError for no images, NaN or
    infinity, other than 2 or 3 axes, and a side below 16.
    """
    rows = torch.arange(len(images)) if rows is None else rows
    if not len(rows):
        raise ValueError("there must be images to teach from and to test on, got none")
    parts = []
    for few in rows.split(READ_AT_ONCE):  # never all at their full size
        part = images[few].detach().cpu().float()
        if part.ndim - 2 not in LONGEST or min(part.shape[2:]) < SMALLEST:
            raise ValueError(f"images must be (B, C, *S) with 2 or 3 sides of {SMALLEST} or more, got {tuple(part.shape)}")
        if not torch.isfinite(part).all():
            raise ValueError(f"images must be finite, got NaN or infinity among images {int(few[0])} to {int(few[-1])}")
        factor = LONGEST[part.ndim - 2] / max(part.shape[2:])
        sides = [max(SMALLEST, round(side * factor)) for side in part.shape[2:]]
        parts.append(F.interpolate(part, size=sides, mode="area") if factor < 1 else part)
    return torch.cat(parts)


def some(count: int, max_images: int) -> Int[Tensor, " rows"]:
    """Rows of `count` images, in order: all, or `max_images` of them drawn once and always the same."""
    if count <= max_images:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))[:max_images].sort().values


def labelled(data: Labelled, classes: int, max_images: int, what: str) -> Labelled:
    """`data` ready to teach from: `max_images` images at most, small, in memory.

    Raises ValueError as `small` does, and for no labels, labels outside 0 to `classes` - 1, and fewer than 20 images of a class.
    """
    labels = checked_labels(data, classes, what)
    rows = some(len(labels), max_images)
    counts = labels[rows].bincount(minlength=classes).tolist()
    if min(counts) < MIN_IMAGES:
        raise ValueError(f"the {what} must hold {MIN_IMAGES} or more of each class to teach from, got {counts}; leave out the rare class")
    return replace(data, images=small(data.images, rows), labels=labels[rows], groups=None if data.groups is None else data.groups[rows])


def checked_labels(data: Labelled, classes: int, what: str) -> Int[Tensor, " n"]:
    """The labels, on the CPU; raises ValueError where there are none or one is not 0 to `classes` - 1."""
    if classes < 2:
        raise ValueError(f"there must be 2 classes or more to tell apart, got {classes}")
    if data.labels is None:
        raise ValueError(f"the {what} must have labels, got none; the classes come from the data set or from conditional generation")
    if data.labels.shape != (len(data.images),) or (data.groups is not None and len(data.groups) != len(data.images)):
        raise ValueError(f"the {what} must have one label and one group an image, got {len(data.labels)} labels of {len(data.images)}")
    labels = data.labels.detach().cpu().long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(f"labels must lie in 0 to {classes - 1}, got {int(labels.min())} to {int(labels.max())} in the {what}")
    return labels


def same_kind(parts: dict[str, Tensor]) -> None:
    """Raises ValueError unless all have the same channels and size."""
    shapes = {what: tuple(images.shape[1:]) for what, images in parts.items()}
    if len(set(shapes.values())) > 1:
        told = ", ".join(f"{what} {shape}" for what, shape in shapes.items())
        raise ValueError(f"all images must have the same channels and size, got {told}")


class Balanced:
    """Rows drawn with replacement so that each class comes equally often."""

    def __init__(self, labels: Int[Tensor, " n"], classes: int, generator: torch.Generator) -> None:
        self.order, self.counts = labels.argsort(stable=True), labels.bincount(minlength=classes)
        self.starts, self.generator = self.counts.cumsum(0) - self.counts, generator

    def rows(self, count: int) -> Int[Tensor, " count"]:
        # The first class is drawn too: with 3 classes and a batch of 32 the same one would come once too often each time.
        first = torch.randint(len(self.counts), (1,), generator=self.generator)
        wanted = (first + torch.arange(count)) % len(self.counts)
        place = (torch.rand(count, generator=self.generator, dtype=torch.float64) * self.counts[wanted]).long()
        return self.order[self.starts[wanted] + place]


class SlightAugmentation:
    """One draw of slight changes for a batch like `images`: moves by up to 1/16 of the side, contrast and brightness by up to 10 %.

    No mirroring: the heart is on the left.
    """

    def __init__(self, images: Tensor, generator: torch.Generator) -> None:
        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(len(images), *shape, generator=generator) - 1

        reach = torch.tensor(images.shape[2:]) // 16
        self.moves = (uniform(images.ndim - 2) * (reach + 0.5)).round().long().clamp(-reach, reach)  # (B, axes)
        self.contrast, self.brightness = 1 + 0.1 * uniform(*[1] * (images.ndim - 1)), 0.1 * uniform(*[1] * (images.ndim - 1))

    def moved(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        """Moved by whole pixels; what comes in repeats the border."""
        for axis, move in enumerate(self.moves.T, 2):
            side = images.shape[axis]
            place = (torch.arange(side) + move[:, None]).clamp(0, side - 1)  # (B, side)
            images = images.take_along_dim(place.view(len(place), *[side if a == axis else 1 for a in range(1, images.ndim)]), axis)
        return images

    def __call__(self, images: Float[Tensor, "b c *space"]) -> Float[Tensor, "b c *space"]:
        return self.moved(images) * self.contrast + self.brightness


@contextmanager
def weights_from(seed: int) -> Iterator[None]:
    """The initial weights of networks built inside come from `seed`; torch's global generator is left as it was found."""
    state = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPU's too
    try:
        yield
    finally:
        torch.set_rng_state(state)


def teach(
    network: nn.Module,
    batch: Callable[[], tuple[Tensor, Tensor]],
    loss: Callable[[Tensor, Tensor], Tensor],
    steps: int,
    device: torch.device,
) -> None:
    """`steps` of AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) on `loss(network(images), targets)`; then the network is frozen, in
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
    """Return the share of the peak rate when `progress` of the steps, in 0 to 1, is done: up along a line, down along a cosine, 0 at both
    ends."""
    if progress < WARM_UP:
        return progress / WARM_UP
    return (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP))) / 2


def shares(batch_size: int, parts: Sequence[object]) -> list[int]:
    """Return how many images of a batch each part gives: equally many, the first ones more where it does not divide."""
    return [batch_size // len(parts) + (place < batch_size % len(parts)) for place in range(len(parts))]
