"""Distances between the features of generated and of real images: Fréchet distance and kernel distance."""

import torch
from jaxtyping import Float
from torch import Tensor

from medgan_pl.core.counts import whole_number
from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.measure import TooFew

A = Float[Tensor, "a_count ..."]
B = Float[Tensor, "b_count ..."]
Distance = Float[Tensor, ""]


def frechet_distance(a: A, b: B) -> Distance:
    """Return the distance of two feature sets (N, F) and (M, F), taken as Gaussians: ‖μa - μb‖² + tr(Ca + Cb - 2 (Ca Cb)^½).

    It is 0 for equal sets and has no upper bound; float64, on the CPU. The estimate is biased upward by a term that falls about as 1/N and
    grows with F. Two halves of one data set are not at 0; compare only distances at equal N and M (Chong & Forsyth 2020, arXiv 1911.07023).
    Raises ValueError for fewer than 2 rows, unequal F, NaN or infinity.

    Source: Heusel et al. 2017 (arXiv 1706.08500), eq. 6. We take tr (Ca Cb)^½ as the sum of singular values of Ra Rbᵀ, with Ra and Rb the
    triangular factors of the centered features (Raᵀ Ra = Ca): no covariance is squared and no matrix root is complex.
    """
    a, b = _comparable(a, b)
    root_a, root_b = _root(a), _root(b)
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    spread = root_a.square().sum() + root_b.square().sum() - 2 * overlap
    return (a.mean(0) - b.mean(0)).square().sum() + spread.clamp(min=0)


def kernel_distance(a: A, b: B, *, subsets: int = 20, subset_size: int = 1000, seed: int = 0) -> Distance:
    """Return the squared maximum mean discrepancy of two feature sets (N, F) and (M, F) with the kernel (x·y/F + 1)³ (KID).

    It is unbiased: its mean does not depend on N and is 0 for equal distributions, so a single value can be below 0. float64, on the CPU.
    Sets of at most `subset_size` rows are used whole; larger sets give the mean over `subsets` draws without replacement, keyed by `seed`.
    Raises ValueError for fewer than 2 rows, unequal F, NaN or infinity.

    Source: Bińkowski et al. 2018 (arXiv 1801.01401), section 4 and eq. 4.
    """
    a, b = _comparable(a, b)
    if max(len(a), len(b)) <= subset_size:
        return _discrepancy(a, b)
    return _of_subsets(a, b, subsets, subset_size, seed).mean()


class Frechet:
    """`frechet_distance` as a measure (see `measure.Measure`): {"fd": …}."""

    keys = ("fd",)

    def __call__(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        return {"fd": frechet_distance(fake, real)}

    def estimates(self, fake: Tensor, real: Tensor, resampling: Resampling) -> dict[str, Estimate]:
        return {"fd": resampling.of_sets(frechet_distance, *_comparable(fake, real))}


class Kernel:
    """`kernel_distance` as a measure (see `measure.Measure`): {"kid": …}; `subsets` and `subset_size` as there.

    The interval for at most `subset_size` rows is that of the bootstrap. For more rows it is ± 1.96 √(m / n) times the standard deviation
    of the values of the subsets, because a subset of m rows varies about √(n / m) times as much as all n.
    """

    keys = ("kid",)

    def __init__(self, subsets: int = 20, subset_size: int = 1000) -> None:
        whole_number("subsets", subsets, 1)
        whole_number("subset_size", subset_size, 2)
        self.subsets, self.subset_size = subsets, subset_size

    def __call__(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        return {"kid": kernel_distance(fake, real, subsets=self.subsets, subset_size=self.subset_size)}

    def estimates(self, fake: Tensor, real: Tensor, resampling: Resampling) -> dict[str, Estimate]:
        a, b = _comparable(fake, real)
        n = min(len(a), len(b))
        if max(len(a), len(b)) > self.subset_size:
            values = _of_subsets(a, b, max(self.subsets, 2), self.subset_size, 0)
            reach = 1.96 * float(values.std()) * min(1.0, self.subset_size / n) ** 0.5
            value = float(values[: self.subsets].mean())
            return {"kid": Estimate(value, value - reach, value + reach)}
        within_a, within_b, between = _kernel(a, a), _kernel(b, b), _kernel(a, b)  # computed once: a resample takes rows and columns

        def of_rows(i: Tensor, j: Tensor) -> Tensor:
            return _off_diagonal_mean(within_a[i][:, i]) + _off_diagonal_mean(within_b[j][:, j]) - 2 * between[i][:, j].mean()

        return {"kid": resampling.of_sets(of_rows, torch.arange(len(a)), torch.arange(len(b)))}


def _comparable(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return both as float64 on the CPU, where float64 exists and small decompositions are fastest."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"features must be (N, F) and (M, F) with one F, got {tuple(a.shape)} and {tuple(b.shape)}")
    for features in (a, b):
        if len(features) < 2:
            raise TooFew(f"a distance between distributions needs 2 rows or more of each, got {len(a)} and {len(b)}")
        if not torch.isfinite(features).all():
            raise ValueError("features must be finite; they contain NaN or infinity")
    return a.detach().cpu().double(), b.detach().cpu().double()


def _root(x: Tensor) -> Tensor:
    """Return R (min(N, F), F) with Rᵀ R = the unbiased covariance of x."""
    return torch.linalg.qr((x - x.mean(0)) / (len(x) - 1) ** 0.5, mode="r").R


def _of_subsets(a: Tensor, b: Tensor, subsets: int, subset_size: int, seed: int) -> Tensor:
    """Return (subsets,) values, each of `subset_size` rows of both sets, drawn without replacement."""
    generator = torch.Generator().manual_seed(seed)
    draws = [[x[torch.randperm(len(x), generator=generator)[:subset_size]] for x in (a, b)] for _ in range(subsets)]
    return torch.stack([_discrepancy(*draw) for draw in draws])


def _discrepancy(a: Tensor, b: Tensor) -> Tensor:
    return _off_diagonal_mean(_kernel(a, a)) + _off_diagonal_mean(_kernel(b, b)) - 2 * _kernel(a, b).mean()


def _kernel(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.T / a.shape[1] + 1) ** 3  # (N, M)


def _off_diagonal_mean(square: Tensor) -> Tensor:
    return (square.sum() - square.trace()) / (len(square) * (len(square) - 1))
