"""Nearest neighbors among features, found block by block, and two measures by them: precision and recall, density and coverage.

Distances are computed as |a|² + |b|² - 2 a·b, a matrix product, in float64 on the CPU, after the mean of all rows is subtracted. The error
is at most (F + 4) 2⁻⁵² (|a|² + |b|²), lengths measured from the mean (Higham 2002, section 3.1): negligible between different images, but
it hides the 0 between equal rows. So these distances only select. Each distance that is returned, and each that is close to the border of a
ball, is computed directly as √ Σ (a - b)². A neighbor can be the wrong one only if two distances² differ by less than that bound.
Memory: centered copies of the features in float64, and a few blocks of `BLOCK_BYTES`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from medgan_pl.core.counts import whole_number
from medgan_pl.metrics.estimate import Estimate, Resampling, cases
from medgan_pl.metrics.measure import TooFew

BLOCK_BYTES = 2**26  # of one block of the matrix of distances
TIE = 1e-12  # relative: distances² this near to each other differ by rounding alone


def kth_distances(x: Float[Tensor, "n f"], k: int) -> Float[Tensor, " n"]:
    """Return the distance (float64) of each row to its `k`-th nearest other row. Raises ValueError for N <= `k`, NaN or infinity."""
    if len(x) <= k:
        raise TooFew(f"the {k}-th nearest other row needs {k + 1} rows or more, got {len(x)}")
    (x,) = _centered(x)
    found = []
    for block in _blocks(x, x):
        block.squares[torch.arange(len(block.rows)), block.rows] = torch.inf
        places = block.squares.topk(k, largest=False, sorted=False).indices  # (B, k)
        found.append(block.measured(torch.arange(len(places)).repeat_interleave(k), places.flatten()).view(-1, k).amax(1))
    return torch.cat(found).sqrt()


def nearest(
    query: Float[Tensor, "n f"],
    base: Float[Tensor, "m f"],
    query_groups: Int[Tensor, " n"] | None = None,
    base_groups: Int[Tensor, " m"] | None = None,
) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Return the distance (float64) and the place in `base` of the row nearest to each row of `query`; with groups, nearest of another
    group.

    Raises ValueError for NaN, infinity, unequal F, an empty set, groups of one set only, and a query row without a row of another group.
    """
    if (query_groups is None) != (base_groups is None):
        raise ValueError("`query_groups` and `base_groups` must both be given, or neither")
    query, base = _centered(query, base)
    distances, places = [], []
    for block in _blocks(query, base):
        if query_groups is not None:
            block.squares[query_groups.cpu()[block.rows, None] == base_groups.cpu()] = torch.inf
        least, place = block.squares.min(1)
        if least.isinf().any():
            raise ValueError("each row needs a row of another group to be compared with; there is one group only")
        distances.append(block.measured(torch.arange(len(place)), place))
        places.append(place)
    return torch.cat(distances).sqrt(), torch.cat(places)


def nearest_other(x: Float[Tensor, "n f"], groups: Int[Tensor, " n"] | None = None) -> tuple[Float[Tensor, " n"], Int[Tensor, " n"]]:
    """Return `nearest` within one set: the nearest other row, of another group if `groups` are given. Raises ValueError as `nearest`."""
    groups = torch.arange(len(x)) if groups is None else groups
    return nearest(x, x, groups, groups)


class _Neighborhoods(ABC):
    """The base of the two measures of this file: one number an image, averaged over the fakes (first key) and the reals (second key)."""

    keys: tuple[str, str]
    shares: tuple[str, ...]  # those that are shares of images

    def __init__(self, k: int) -> None:
        self.k = whole_number("k", k, 1)

    @abstractmethod
    def _per_image(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Return one number for each fake (N,) and one for each real (M,), float64."""

    def __call__(self, fake: Float[Tensor, "n ..."], real: Float[Tensor, "m ..."]) -> dict[str, Tensor]:
        return dict(zip(self.keys, (values.mean() for values in self._per_image(fake, real)), strict=True))

    def estimates(self, fake: Float[Tensor, "n ..."], real: Float[Tensor, "m ..."], resampling: Resampling) -> dict[str, Estimate]:
        """Return the values with their intervals: the numbers of the images are resampled, the neighborhoods are kept.

        In a resample a quarter of the images occur twice or more; a twin at distance 0 shrinks the distance of the k-th neighbor, to 0 with
        k twins. New neighborhoods would measure this repetition. So the interval does not include the variation of the neighborhoods from
        one sample to the next, and is somewhat narrow.
        """
        groups = resampling.fake_groups, resampling.real_groups
        found = {}
        for key, values, own in zip(self.keys, self._per_image(fake, real), groups, strict=True):
            found[key] = resampling.of_mean(values, own)
            if key in self.shares or not values.any():  # no fake in any ball: density 0, of which no resample knows more than 0
                found[key] = found[key].as_share(cases(len(values), own))
        return found

    def _radii(self, kind: str, x: Tensor) -> Tensor:
        if len(x) <= self.k:
            raise TooFew(f"{' and '.join(self.keys)} with k = {self.k} need {self.k + 1} {kind} images or more, got {len(x)}")
        return kth_distances(x, self.k)


class PrecisionRecall(_Neighborhoods):
    """Precision, the share of fakes inside the ball of any real, and recall, the share of reals inside the ball of any fake; 0 to 1.

    The ball of an image reaches to its `k`-th nearest neighbor of its own kind, which is included. A measure (see `measure.Measure`) of
    {"precision": …, "recall": …}. Both grow with the number of images: compare at equal N and M. Images of one patient are near to one
    another, which shrinks the balls: use few images a patient of volumes and series.
    Raises ValueError for `k` or fewer fakes or reals, unequal F, NaN or infinity.

    Source: Kynkäänniemi et al. 2019 (arXiv 1904.06991), eqs. 1 and 2, with their k = 3.
    """

    keys = shares = ("precision", "recall")

    def __init__(self, k: int = 3) -> None:
        super().__init__(k)

    def _per_image(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        centered_fake, centered_real = _centered(fake, real)
        fake_radii, real_radii = self._radii("fake", fake), self._radii("real", real)
        precise, recalled = [], torch.zeros(len(real), dtype=torch.bool)
        for block in _blocks(centered_fake, centered_real):
            precise.append(block.within(real_radii[None]).any(1))
            recalled |= block.within(fake_radii[block.rows, None]).any(0)
        return torch.cat(precise).double(), recalled.double()


class DensityCoverage(_Neighborhoods):
    """Density, the number of balls of reals that contain a fake, divided by k (0 up, about 1 for reals), and coverage, the share of reals
    whose ball contains a fake (0 to 1).

    The ball of a real reaches to its `k`-th nearest neighbor among the reals, which is included. A measure (see `measure.Measure`) of
    {"density": …, "coverage": …}. For equal distributions and as many fakes as reals, coverage is 1 - 2⁻ᵏ on average, not 1. For several
    images of one patient see `PrecisionRecall`. Raises ValueError for `k` or fewer reals, no fake, unequal F, NaN or infinity.

    Source: Naeem et al. 2020 (arXiv 2002.09797), section 3.2, with their k = 5. An outlier among the reals, whose ball is large, adds one
    ball to density, but makes precision 1 wherever it reaches.
    """

    keys, shares = ("density", "coverage"), ("coverage",)

    def __init__(self, k: int = 5) -> None:
        super().__init__(k)

    def _per_image(self, fake: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        centered_fake, centered_real = _centered(fake, real)
        radii = self._radii("real", real)
        balls, covered = [], torch.zeros(len(real), dtype=torch.bool)
        for block in _blocks(centered_fake, centered_real):
            inside = block.within(radii[None])
            balls.append(inside.sum(1))
            covered |= inside.any(0)
        return torch.cat(balls).double() / self.k, covered.double()


def _centered(*sets: Tensor) -> list[Tensor]:
    """Return the sets in float64 on the CPU minus the mean of all their rows: close to 0, squared lengths lose little precision."""
    if any(x.ndim != 2 or x.shape[1] != sets[0].shape[1] or not x.numel() for x in sets):
        raise ValueError(
            f"features must be (rows, F) with one F, one row or more of each, got {', '.join(str(tuple(x.shape)) for x in sets)}"
        )
    if not all(torch.isfinite(x).all() for x in sets):
        raise ValueError("features must be finite; they contain NaN or infinity")
    sets = tuple(x.detach().cpu() for x in sets)
    mean = sum(x.sum(0, dtype=torch.float64) for x in sets) / sum(len(x) for x in sets)
    return [x.to(torch.float64, copy=True).sub_(mean) for x in sets]


@dataclass(frozen=True)
class _Block:
    """Squared distances (B, M), by the matrix product, of rows `rows` (B,) of `query` to all of `base`; `lengths` are |a|² and |b|²."""

    rows: Tensor
    squares: Tensor
    query: Tensor
    base: Tensor
    lengths: tuple[Tensor, Tensor]

    def measured(self, i: Tensor, j: Tensor) -> Tensor:
        """Return (P,) squared distances, computed directly, of the block's i-th query to the j-th base."""
        step = max(1, BLOCK_BYTES // (8 * self.base.shape[1]))
        pairs = zip(self.rows[i].split(step), j.split(step), strict=True)
        return torch.cat([(self.query[a] - self.base[b]).square_().sum(1) for a, b in pairs])

    def within(self, radii: Float[Tensor, "b_or_1 m_or_1"]) -> Bool[Tensor, "b m"]:
        """Return which distances are at most `radii`, one a query (B, 1) or one a base (1, M)."""
        limits = radii.square().expand_as(self.squares)
        gap = self.squares - limits
        inside = gap <= 0
        error = (self.lengths[0][:, None] + self.lengths[1]).mul_((self.base.shape[1] + 4) * torch.finfo(torch.float64).eps)
        i, j = (gap.abs_() <= error).nonzero(as_tuple=True)
        inside[i, j] = self.measured(i, j) <= limits[i, j] * (1 + TIE)
        return inside


def _blocks(query: Tensor, base: Tensor) -> Iterator[_Block]:
    """Yield the squared distances of all pairs, `BLOCK_BYTES` at a time."""
    base_lengths = torch.linalg.vecdot(base, base)
    for rows in torch.arange(len(query)).split(max(1, BLOCK_BYTES // (8 * len(base)))):
        part = query[rows]
        lengths = torch.linalg.vecdot(part, part)
        squares = torch.addmm(base_lengths.expand(len(rows), -1), part, base.T, alpha=-2).add_(lengths[:, None])
        yield _Block(rows, squares.clamp_(min=0), query, base, (lengths, base_lengths))
