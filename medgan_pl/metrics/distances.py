"""Distances between the features of generated and of real images: Fréchet distance and kernel distance."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

A = Float[Tensor, "a_count ..."]
B = Float[Tensor, "b_count ..."]
Distance = Float[Tensor, ""]


def frechet_distance(a: A, b: B) -> Distance:
    """Distance of two feature sets (N, F) and (M, F) that are taken for Gaussians: ‖μa - μb‖² + tr(Ca + Cb - 2 (Ca Cb)^½).

    0 for equal sets, no upper bound; float64, on the CPU. The estimate is too high, by a term that falls about as 1/N and grows with F: two
    halves of one data set are not at 0, and only distances at equal N and M may be compared (Chong & Forsyth 2020, arXiv 1911.07023).
    Raises ValueError for fewer than 2 rows, unequal F, NaN or infinity.

    Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6. We take tr (Ca Cb)^½ as the sum of singular values of Ra Rbᵀ, with Ra and Rb the
    triangular factors of the centred features (Raᵀ Ra = Ca): no covariance is squared and no matrix root is complex.
    """
    a, b = _comparable(a, b)
    root_a, root_b = _root(a), _root(b)
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    spread = root_a.square().sum() + root_b.square().sum() - 2 * overlap
    return (a.mean(0) - b.mean(0)).square().sum() + spread.clamp(min=0)


def kernel_distance(a: A, b: B, *, subsets: int = 20, subset_size: int = 1000, seed: int = 0) -> Distance:
    """Squared maximum mean discrepancy of two feature sets (N, F) and (M, F) with the kernel (x·y/F + 1)³ (KID).

    Unbiased: its mean over draws does not depend on N, and is 0 for equal distributions, so a single value can fall below 0. float64, on
    the CPU.
    Sets of at most `subset_size` rows are used whole; of larger ones the mean over `subsets` draws without replacement, keyed by `seed`.
    Raises ValueError for fewer than 2 rows, unequal F, NaN or infinity.

    Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 4 and eq. 4.
    """
    a, b = _comparable(a, b)
    if max(len(a), len(b)) <= subset_size:
        return _discrepancy(a, b)
    generator = torch.Generator().manual_seed(seed)
    draws = [[x[torch.randperm(len(x), generator=generator)[:subset_size]] for x in (a, b)] for _ in range(subsets)]
    return torch.stack([_discrepancy(*draw) for draw in draws]).mean()


class FeatureDistances(Metric):
    """Fréchet and kernel distance between fakes and reals in the features of one extractor; lower is better.

    `compute` returns {"fd_<name>": …, "kid_<name>": …}. `extractor` maps images (B, C, *S) in [-1, 1] to features (B, F) and carries its
    `name`; it is frozen here. Features, not images, are kept and gathered over ranks. `subsets` and `subset_size`: see `kernel_distance`.
    Raises ValueError for fakes and reals of unequal shape, NaN, and fewer than two images of either kind.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = False

    fake: list[Tensor]
    real: list[Tensor]

    def __init__(self, extractor: nn.Module, subsets: int = 20, subset_size: int = 1000) -> None:
        super().__init__()
        if subsets < 1 or subset_size < 2:
            raise ValueError(f"`subsets` must be 1 or more and `subset_size` 2 or more, got {subsets} and {subset_size}")
        self.extractor = extractor.requires_grad_(False).eval()
        self.subsets = subsets
        self.subset_size = subset_size
        self.add_state("fake", default=[], dist_reduce_fx="cat")
        self.add_state("real", default=[], dist_reduce_fx="cat")

    def update(self, fake: Float[Tensor, "fake_count ..."], real: Float[Tensor, "real_count ..."]) -> None:
        if fake.shape[1:] != real.shape[1:]:
            raise ValueError(
                f"fake and real must have the same channels and size, got fake {tuple(fake.shape)} and real {tuple(real.shape)}"
            )
        for kind, images in (("fake", fake), ("real", real)):
            if not torch.isfinite(images).all():
                raise ValueError(f"the {kind} images given to the metric hold NaN or infinity; has the training diverged?")
        self.fake.append(self.extractor(fake))
        self.real.append(self.extractor(real))

    def compute(self) -> dict[str, Tensor]:
        fake, real = dim_zero_cat(self.fake), dim_zero_cat(self.real)
        name = self.extractor.name
        values = {
            f"fd_{name}": frechet_distance(fake, real),
            f"kid_{name}": kernel_distance(fake, real, subsets=self.subsets, subset_size=self.subset_size),
        }
        return {key: value.to(fake) for key, value in values.items()}

    def train(self, mode: bool = True) -> "FeatureDistances":
        super().train(mode)
        self.extractor.eval()
        return self

    def _wrap_compute(self, compute: Callable) -> Callable:
        """torchmetrics only warns when nothing has been seen; a distance of nothing is an error."""
        wrapped = super()._wrap_compute(compute)

        def guarded() -> dict[str, Tensor]:
            if not self.update_called:
                raise ValueError("FeatureDistances.compute needs images: call update(fake, real) first; none came")
            return wrapped()

        return guarded


def _comparable(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 on the CPU, where 64 bits exist and small decompositions are fastest."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be (N, F) and (M, F) with one F, got {tuple(a.shape)} and {tuple(b.shape)}")
    for features in (a, b):
        if len(features) < 2:
            raise ValueError(f"a distance between distributions needs 2 rows or more of each, got {len(a)} and {len(b)}")
        if not torch.isfinite(features).all():
            raise ValueError("features must be finite; they hold NaN or infinity")
    return a.detach().cpu().double(), b.detach().cpu().double()


def _root(x: Tensor) -> Tensor:
    """R (min(N, F), F) with Rᵀ R = the unbiased covariance of x."""
    return torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r").R


def _discrepancy(a: Tensor, b: Tensor) -> Tensor:
    return _off_diagonal_mean(_kernel(a, a)) + _off_diagonal_mean(_kernel(b, b)) - 2 * _kernel(a, b).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3  # (N, M)


def _off_diagonal_mean(square: Tensor) -> Tensor:
    return (square.sum() - square.trace()) / (len(square) * (len(square) - 1))
