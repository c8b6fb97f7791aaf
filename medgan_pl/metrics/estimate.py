"""Numbers with their uncertainty: the bootstrap, over images or over patients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Estimate:
    """A value and the ends of its 95 % interval, in one unit."""

    value: float
    low: float
    high: float


def resampled(n: int, groups: Int[Tensor, " n"] | None, generator: torch.Generator) -> Int[Tensor, " m"]:
    """Places of `n` images drawn anew with replacement: images where there are no `groups`, else whole groups (patients), so that images of
    one patient, which are alike, do not count as independent.

    Raises ValueError for fewer than two of what is drawn, whose spread nobody can know, and groups that are not one an image.
    """
    if groups is None:
        if n < 2:
            raise ValueError(f"an interval needs two images or more, got {n}")
        return torch.randint(n, (n,), generator=generator)
    if len(groups) != n:
        raise ValueError(f"`groups` must say the patient of each image, got {len(groups)} for {n} images")
    _, place, counts = groups.unique(return_inverse=True, return_counts=True)
    if len(counts) < 2:
        raise ValueError(f"an interval needs two patients or more, got {len(counts)}")
    order, starts = place.argsort(stable=True), counts.cumsum(0) - counts
    drawn = torch.randint(len(counts), (len(counts),), generator=generator)
    return torch.cat([order[starts[group] : starts[group] + counts[group]] for group in drawn.tolist()])


@dataclass(frozen=True)
class Resampling:
    """The bootstrap behind the intervals: `draws` bootstrap samples keyed by `seed`; `fake_groups` (N,), `real_groups` (M,): whose image
    each is, None where each stands for itself.

    Source: Efron & Tibshirani 1993, chapters 13 (percentile interval) and 8.2 (resampling of groups). Raises ValueError for fewer than 20
    draws, which have no 2.5th percentile to speak of.
    """

    draws: int = 200
    seed: int = 0
    fake_groups: Tensor | None = None
    real_groups: Tensor | None = None

    def __post_init__(self) -> None:
        if self.draws < 20:
            raise ValueError(f"`draws` must be 20 or more for a 95 % interval, got {self.draws}")

    def of_mean(self, values: Float[Tensor, " n"], groups: Int[Tensor, " n"] | None = None) -> Estimate:
        """Mean of one value an image, with the percentile interval of the mean over bootstrap samples. Raises ValueError for NaN."""
        if not values.isfinite().all():
            raise ValueError("values must be finite to have a mean; they hold NaN or infinity")
        values, generator = values.detach().cpu().double(), torch.Generator().manual_seed(self.seed)
        means = torch.stack([values[resampled(len(values), groups, generator)].mean() for _ in range(self.draws)])
        low, high = self._ends(means)
        return Estimate(float(values.mean()), low, high)

    def of_sets(self, statistic: Callable[[Tensor, Tensor], Tensor], fake: Tensor, real: Tensor) -> Estimate:
        """A statistic of two sets (N, …) and (M, …), both resampled; the interval is that of the bootstrap about its own mean, moved to the
        value.

        A resample repeats images, which moves a distance between distributions up by itself: of the draws only their spread can be used,
        not their place (Efron & Tibshirani 1993, section 10.2: the bootstrap estimate of bias).
        """

        def drawn(generator: torch.Generator) -> Tensor:
            rows = resampled(len(fake), self.fake_groups, generator), resampled(len(real), self.real_groups, generator)
            return statistic(fake[rows[0]], real[rows[1]])

        return self._about(statistic(fake, real), drawn)

    def of_pairs(self, statistic: Callable[[Tensor], Tensor], n: int) -> Estimate:
        """A statistic of places (m,) among `n` images that belong together, such as each method's of one truth; resampled as one by
        `real_groups`, the interval as in `of_sets`. So a difference of two distances is free of what both have of the same patients."""
        return self._about(statistic(torch.arange(n)), lambda generator: statistic(resampled(n, self.real_groups, generator)))

    def of_samples(self, statistic: Callable[..., Tensor], samples: Sequence[Tensor], groups: Sequence[Tensor | None]) -> list[Estimate]:
        """Values (K,) of a statistic of any number of sets, each resampled by its own groups, with the percentile interval of each value.

        For quantiles, shares and ranks, which repeated images hardly move. All K values meet the same draws, so a difference is paired.
        """
        generator = torch.Generator().manual_seed(self.seed)
        draws = []
        for _ in range(self.draws):
            rows = [resampled(len(sample), own, generator) for sample, own in zip(samples, groups, strict=True)]
            draws.append(statistic(*(sample[drawn] for sample, drawn in zip(samples, rows, strict=True))))
        ends = [self._ends(values) for values in torch.stack(draws).T]
        return [Estimate(float(value), *own) for value, own in zip(statistic(*samples), ends, strict=True)]

    def _about(self, value: Tensor, drawn: Callable[[torch.Generator], Tensor]) -> Estimate:
        """The value, with the spread of as many draws about their own mean."""
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.tensor([float(drawn(generator)) for _ in range(self.draws)], dtype=torch.float64)
        low, high = self._ends(values - values.mean())
        return Estimate(float(value), float(value) + low, float(value) + high)

    @staticmethod
    def _ends(values: Tensor) -> tuple[float, float]:
        ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=values.dtype)
        low, high = values.quantile(ends).tolist()
        return low, high
