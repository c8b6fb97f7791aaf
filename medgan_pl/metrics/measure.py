"""The protocol of a measure of features, and what validation does where there are too few images for one."""

import logging
import math
from collections.abc import Callable, Sequence
from typing import ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from medgan_pl.metrics.estimate import Estimate, Resampling

log = logging.getLogger(__name__)


class TooFew(ValueError):
    """There are too few images for a measure; the message says how many it needs."""


def where_enough(keys: Sequence[str], compute: Callable[[], dict[str, Tensor]], said: set[str]) -> dict[str, Tensor]:
    """Return what `compute` does, or NaN under each of `keys` where it raises TooFew: validation goes on with the other measures.

    The reason is logged once for each set of keys: `said` holds those of which it was.
    """
    try:
        return compute()
    except TooFew as error:
        name = ", ".join(keys)
        if name not in said:
            log.warning("WARNING: validation cannot compute %s (nan): %s; hold out more patients (data.fractions)", name, error)
        said.add(name)
        return dict.fromkeys(keys, torch.tensor(math.nan))


@runtime_checkable
class Measure(Protocol):
    """A comparison of fake features (N, F) with real ones (M, F), by key; the catalogue explains each key.

    Raises TooFew, with the number that is needed, for too few rows; ValueError for unequal F, NaN or infinity.
    """

    keys: ClassVar[tuple[str, ...]]

    def __call__(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        """Return the values without intervals, for validation."""

    def estimates(self, fake: Tensor, real: Tensor, resampling: Resampling) -> dict[str, Estimate]:
        """Return the same values with their intervals, for a report."""
