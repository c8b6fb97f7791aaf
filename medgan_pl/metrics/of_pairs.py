"""The base of metrics that each pair of images has by itself."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medgan_pl.metrics.estimate import Estimate, Resampling


class OfPairs(Metric):
    """Means of values that each pair of images has by itself; `keys` names the columns of `values`.

    The values of all images are kept, a few numbers each, and gathered over ranks; no result depends on the batch size. `compute` and
    `estimates` raise ValueError if there were no images.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    keys: tuple[str, ...]
    rows: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def measured(self, fake: Tensor, real: Tensor, inside: Tensor | None = None) -> Tensor:
        """Return (B, keys) of two batches (B, C, *S), NaN where a value is not defined. Only where `inside` is 1 they are compared."""

    def update(
        self,
        fake: Shaped[Tensor, "fake_count ..."],
        real: Shaped[Tensor, "real_count ..."],
        inside: Shaped[Tensor, "real_count ..."] | None = None,
    ) -> None:
        """Add pairs. `inside` (B, 1, *S) of {0, 1} is 0 in padding, which is no image; None: nothing is padding."""
        with torch.no_grad():
            self.rows.append(self.measured(fake, real, inside))

    @property
    def values(self) -> Tensor:
        """Return (N, keys) in the order of `update`, NaN where a value is not defined."""
        if not self.update_called:
            raise ValueError(f"{type(self).__name__} needs images: call update(fake, real) first; got none")
        return dim_zero_cat(self.rows)

    def compute(self) -> dict[str, Tensor]:
        """Return the means over images, NaN for a value that is defined for no image."""
        return dict(zip(self.keys, self.values.nanmean(0), strict=True))

    def estimates(self, resampling: Resampling) -> dict[str, Estimate]:
        """Return the means with their intervals, without keys that are defined for no image.

        Pairs are resampled whole: by `real_groups` (N,), in the order of `update`, if there are any. Raises ValueError for another number
        of groups.
        """
        found = {key: self.estimate(key, resampling) for key in self.keys}
        return {key: estimate for key, estimate in found.items() if estimate is not None}

    def estimate(self, key: str, resampling: Resampling) -> Estimate | None:
        """Return the mean of one key with its interval, None if it is defined for no image.

        Raises ValueError as `estimates`, and if too few images or patients have the value.
        """
        column, groups = self.values.cpu()[:, self.keys.index(key)], resampling.real_groups
        if groups is not None and groups.shape != column.shape:
            raise ValueError(f"`real_groups` must name the patient of each of the {len(column)} pairs, got {tuple(groups.shape)}")
        known = ~column.isnan()
        return resampling.of_mean(column[known], None if groups is None else groups.cpu()[known]) if known.any() else None

    def undefined(self) -> dict[str, int]:
        """Return for each key how many pairs have no such value and are left out of its mean."""
        return dict(zip(self.keys, self.values.isnan().sum(0).tolist(), strict=True))

    def _wrap_compute(self, compute: Callable) -> Callable:
        """Raise ValueError in `compute` before any update; torchmetrics would only warn."""
        wrapped = super()._wrap_compute(compute)

        def guarded() -> dict[str, Tensor]:
            if not self.update_called:
                raise ValueError(f"{type(self).__name__}.compute needs images: call update(fake, real) first; got none")
            return wrapped()

        return guarded
