"""Estimates with 95 % intervals by the bootstrap, over images or over patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEVEL = 0.95  # of every interval
ROUNDING = 1e-12  # of a mean of many ones


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval, in the same unit."""

    value: float
    low: float
    high: float

    def as_share(self, n: int) -> "Estimate":
        """Return the estimate of a share of `n` independent cases. At its end, 0 or 1, no resample differs from it and the bootstrap knows
        no spread: there the interval is at least the exact one.

        Source: Clopper & Pearson 1934 (doi 10.1093/biomet/26.4.404): of n cases all alike, the far end is (α/2)^(1/n) from the other side.
        """
        reach = 1 - ((1 - LEVEL) / 2) ** (1 / n)
        if self.value <= ROUNDING:
            return Estimate(self.value, self.low, max(self.high, reach))
        if self.value >= 1 - ROUNDING:
            return Estimate(self.value, min(self.low, 1 - reach), self.high)
        return self


def cases(n: int, groups: Int[Tensor, " n"] | None) -> int:
    """Return how many of `n` images are independent: the number of their patients, if `groups` names them."""
    return n if groups is None else len(groups.unique())


def resampled(n: int, groups: Int[Tensor, " n"] | None, generator: torch.Generator) -> Int[Tensor, " m"]:
    """Return the places of `n` images drawn with replacement. With `groups` (patients) whole groups are drawn, because images of one
    patient are alike and do not count as independent.

    Raises ValueError for fewer than two images or groups, whose spread is unknown, and unless there is one group for each image.
    """
    if groups is None:
        if n < 2:
            raise ValueError(f"an interval needs two images or more, got {n}")
        return torch.randint(n, (n,), generator=generator)
    if len(groups) != n:
        raise ValueError(f"`groups` must give the patient of each image, got {len(groups)} for {n} images")
    _, place, counts = groups.unique(return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(f"an interval needs two patients or more, got {len(counts)}")
    order, starts = place.argsort(stable=True), counts.cumsum(0) - counts
    drawn = torch.randint(len(counts), (len(counts),), generator=generator)
    return torch.cat([order[starts[group] : starts[group] + counts[group]] for group in drawn.tolist()])


@dataclass(frozen=True)
class Resampling:
    """The bootstrap behind the intervals: `draws` samples keyed by `seed`. `fake_groups` (N,) and `real_groups` (M,) give the patient of
    each image; None makes each image a patient of its own.

    Source: Efron & Tibshirani 1993, chapters 13 (percentile interval) and 8.2 (resampling of groups). Raises ValueError for fewer than 20
    draws, which have no 2.5th percentile.
    """

    draws: int = 200
    seed: int = 0
    fake_groups: Tensor | None = None
    real_groups: Tensor | None = None

    def __post_init__(self) -> None:
        if self.draws < 20:
            raise ValueError(f"`draws` must be 20 or more for a 95 % interval, got {self.draws}")

    def of_mean(self, values: Float[Tensor, " n"], groups: Int[Tensor, " n"] | None = None) -> Estimate:
        """Return the mean of one value an image, with the percentile interval over bootstrap samples. Raises ValueError for NaN."""
        if not values.isfinite().all():
            raise ValueError("values must be finite to have a mean; they contain NaN or infinity")
        values, generator = values.detach().cpu().double(), torch.Generator().manual_seed(self.seed)
        means = torch.stack([values[resampled(len(values), groups, generator)].mean() for _ in range(self.draws)])
        low, high = self._ends(means)
        return Estimate(float(values.mean()), low, high)

    def of_sets(self, statistic: Callable[[Tensor, Tensor], Tensor], fake: Tensor, real: Tensor) -> Estimate:
        """Return a statistic of two sets (N, …) and (M, …), both resampled, with the interval of the bootstrap about its own mean, shifted
        to the value.

        A resample repeats images, which alone increases a distance between distributions. So only the spread of the draws is used, not
        their mean (Efron & Tibshirani 1993, section 10.2: the bootstrap estimate of bias).
        """

        def drawn(generator: torch.Generator) -> Tensor:
            rows = resampled(len(fake), self.fake_groups, generator), resampled(len(real), self.real_groups, generator)
            return statistic(fake[rows[0]], real[rows[1]])

        return self._about(statistic(fake, real), drawn)

    def of_pairs(self, statistic: Callable[[Tensor], Tensor], n: int) -> Estimate:
        """Return a statistic of places (m,) among `n` images that belong together, such as two methods' results for one truth. All are
        resampled as one by `real_groups`, with the interval as in `of_sets`, so a difference of two distances is free of what both owe to
        the same patients.
        """
        return self._about(statistic(torch.arange(n)), lambda generator: statistic(resampled(n, self.real_groups, generator)))

    def of_samples(self, statistic: Callable[..., Tensor], samples: Sequence[Tensor], groups: Sequence[Tensor | None]) -> list[Estimate]:
        """Return values (K,) of a statistic of several sets, each resampled by its own groups, with the percentile interval of each value.

        Use it for quantiles, shares and ranks, which repeated images hardly change. All K values share the same draws, so a difference is
        paired.
        """
        generator = torch.Generator().manual_seed(self.seed)
        draws = []
        for _ in range(self.draws):
            rows = [resampled(len(sample), own, generator) for sample, own in zip(samples, groups, strict=True)]
            draws.append(statistic(*(sample[drawn] for sample, drawn in zip(samples, rows, strict=True))))
        ends = [self._ends(values) for values in torch.stack(draws).T]
        return [Estimate(float(value), *own) for value, own in zip(statistic(*samples), ends, strict=True)]

    def _about(self, value: Tensor, drawn: Callable[[torch.Generator], Tensor]) -> Estimate:
        """Return the value with the spread of the draws about their own mean."""
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.tensor([float(drawn(generator)) for _ in range(self.draws)], dtype=torch.float64)
        low, high = self._ends(values - values.mean())
        return Estimate(float(value), float(value) + low, float(value) + high)

    @staticmethod
    def _ends(values: Tensor) -> tuple[float, float]:
        ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype)
        low, high = values.quantile(ends).tolist()
        return low, high
