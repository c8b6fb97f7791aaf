"""Multi-scale structural similarity between pairs of generated images and between pairs of real ones."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, distributed
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medgan_pl.core.counts import whole_number
from medgan_pl.metrics.measure import TooFew, where_enough
from medgan_pl.models.losses.structure import WINDOW, scale_means, scale_weights, scales_within, whole_windows

PIXELS_AT_ONCE = 2**18  # of pairs filtered together: bounds the memory and stays in the CPU's cache; no value depends on it


def ms_ssim(
    a: Float[Tensor, "a_count ..."], b: Float[Tensor, "b_count ..."], inside: Float[Tensor, "a_count ..."] | None = None
) -> Float[Tensor, " a_count"]:
    """Return the multi-scale structural similarity of image i of `a` and image i of `b`, both (B, C, *S) in [-1, 1], 2-D or 3-D: 0 unlike,
    1 equal.

    It is the product over scales j of mean(cs)^w_j, at the last scale of mean(l · cs)^w_j; l = (2 μa μb + C1) / (μa² + μb² + C1), cs = (2
    σab + C2) / (σa² + σb² + C2) in a Gaussian window of 11 pixels without border; each scale halves by averaging.
    With `inside` (B, 1, *S) only windows where it is 1 count, see `structure.scale_means`.
    Raises ValueError for unequal shapes, other than 2 or 3 axes, and a side under 11.

    Source: Wang et al. 2003 (doi 10.1109/ACSSC.2003.1292216), eq. 7. Where we differ: images are mapped to [0, 1] first, because l is
    defined for brightness that is not negative. A mean below 0 counts as 0, because its power is not real. Sides under 176 allow fewer than
    five scales; the weights of the scales used then sum to 1. MONAI convolves with the whole window, 1,331 taps a voxel in 3-D; we filter
    one axis after the other, 33 taps, to the same value (tests).
    """
    if a.shape != b.shape or a.ndim not in (4, 5) or min(a.shape[2:]) < WINDOW:
        raise ValueError(
            f"images must be two equal (B, C, *S) with 2 or 3 sides of {WINDOW} or more, got {tuple(a.shape)} and {tuple(b.shape)}"
        )
    x, y = ((images.float() + 1) / 2 for images in (a, b))
    scales = scales_within(a.shape[2:])
    means = scale_means(x, y, scales, inside).clamp(min=0)
    return (means ** means.new_tensor(scale_weights(scales))).prod(1)


class Diversity(Metric):
    """Mean MS-SSIM between pairs of fakes and between pairs of reals. Fakes should be as similar as reals; far above is mode collapse.

    `compute` returns {"ms_ssim_fake": …, "ms_ssim_real": …}, each 0 (all unlike) to 1 (all equal).
    Pairing: images are numbered in the order of the data (rank r gets every world-th, starting with the r-th). A fixed scramble of the
    numbers orders them, the first `n` are kept, each is paired with the next and the last with the first. So no result depends on the batch
    size or the number of devices, neighboring slices are not paired, and fakes are paired like the reals whose labels they have.
    Memory: 2 `n` images a rank.
    `common` of `update` (1, 1, *S) is 1 where all real images are image and no padding. The similarity is then that of this part, of fakes
    and of reals; if no window fits in it, that of the whole.
    Fewer than two images give NaN, with a warning. Raises ValueError for fakes and reals of unequal shape, NaN, and sides under 11.

    Source: Odena et al. 2017 (arXiv 1610.09585), section 4.2; they pair within classes, we pair over all classes, fakes and reals alike.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    fake: list[Tensor]
    real: list[Tensor]
    order: list[Tensor]
    seen: Tensor
    common: Tensor

    def __init__(self, *, n: int = 64) -> None:
        super().__init__()
        whole_number("n", n, 2)
        self.n, self.said = n, set()
        for state in ("fake", "real", "order"):
            self.add_state(state, default=[], dist_reduce_fx="cat")
        self.add_state("seen", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("common", default=torch.tensor(1.0), dist_reduce_fx="min")

    def update(
        self,
        fake: Float[Tensor, "fake_count ..."],
        real: Float[Tensor, "real_count ..."],
        common: Float[Tensor, "1 1 *space"] | None = None,
    ) -> None:
        if fake.shape != real.shape:
            raise ValueError(f"fake and real must be equal in number and size, got fake {tuple(fake.shape)} and real {tuple(real.shape)}")
        for kind, images in (("fake", fake), ("real", real)):
            if not torch.isfinite(images).all():
                raise ValueError(f"the {kind} images given to the metric contain NaN or infinity; has the training diverged?")
        if common is not None:
            self.common = torch.minimum(self.common, common)
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        numbers = rank + world * (self.seen + torch.arange(len(fake), device=fake.device))
        self.seen = self.seen + len(fake)
        self._keep([*self.order, scrambled(numbers)], [*self.fake, fake.detach()], [*self.real, real.detach()])

    def _keep(self, order: list[Tensor], fake: list[Tensor], real: list[Tensor]) -> None:
        all_order = torch.cat(order)
        first = all_order.argsort()[: self.n]
        self.order, self.fake, self.real = [all_order[first]], [torch.cat(fake)[first]], [torch.cat(real)[first]]

    def compute(self) -> dict[str, Tensor]:
        return where_enough(("ms_ssim_fake", "ms_ssim_real"), self._of_pairs, self.said)

    def _of_pairs(self) -> dict[str, Tensor]:
        first = dim_zero_cat(self.order).argsort()[: self.n]
        if len(first) < 2:
            raise TooFew(f"diversity needs pairs: 2 images or more, got {len(first)}")
        kept = {"fake": self.fake, "real": self.real}
        part = self.common if self.common.ndim else None
        return {f"ms_ssim_{kind}": pair_similarity(dim_zero_cat(images)[first], part).mean() for kind, images in kept.items()}

    def _wrap_compute(self, compute: Callable) -> Callable:
        """Raise ValueError in `compute` before any update; torchmetrics would only warn."""
        wrapped = super()._wrap_compute(compute)

        def guarded() -> dict[str, Tensor]:
            if not self.update_called:
                raise ValueError("Diversity.compute needs images: call update(fake, real) first; got none")
            return wrapped()

        return guarded


def scrambled(numbers: Int[Tensor, " b"]) -> Int[Tensor, " b"]:
    """Map whole numbers in [0, 2³²) to others, one to one and without pattern, equal on every device: MurmurHash3's finalizer (Appleby)."""
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        numbers = (numbers ^ (numbers >> shift)) * factor & 0xFFFFFFFF  # the low 32 bits are right though 64 overflow
    return numbers ^ (numbers >> 16)


def pair_similarity(images: Float[Tensor, "n ..."], common: Float[Tensor, "1 1 *space"] | None = None) -> Float[Tensor, " n"]:
    """Return the MS-SSIM of each image (N, C, *S) and the next, and of the last and the first, where `common` is 1. Raises as `ms_ssim`.

    The images are cut to the box about `common`, so that the size of a canvas changes nothing. If no window fits in `common`, the whole
    images count.
    """
    inside = None
    if common is not None and common.any():
        places = [axis.unique() for axis in common[0, 0].nonzero().unbind(1)]
        box = (..., *(slice(int(axis.min()), int(axis.max()) + 1) for axis in places))
        if min(common[box].shape[2:]) >= WINDOW and whole_windows(common[box]).any():
            images, inside = images[box], None if common[box].all() else common[box]
    pairs = max(1, PIXELS_AT_ONCE // images[0].numel())
    found = []
    for a, b in zip(images.split(pairs), images.roll(-1, 0).split(pairs), strict=True):
        found.append(ms_ssim(a, b, None if inside is None else inside.expand(len(a), *inside.shape[1:])))
    return torch.cat(found)
