"""The protocol of a measure of features."""

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from medgan_pl.metrics.estimate import Estimate, Resampling


@runtime_checkable
class Measure(Protocol):
    """A comparison of fake features (N, F) with real ones (M, F), by key; the catalogue explains each key.

    Raises ValueError, with the number that is needed, for too few rows, unequal F, NaN or infinity.
    """

    keys: ClassVar[tuple[str, ...]]

    def __call__(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Return the values without intervals, for validation."""

    def estimates(self, fake: Tensor, real: Tensor, resampling: Resampling) -> dict[str, Estimate]:
        """Return the same values with their intervals, for a report."""
