"""The comparison of fakes with reals in the space of one extractor, by any number of measures."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from medgan_pl.metrics import catalogue
from medgan_pl.metrics.extractors.features import Extractor
from medgan_pl.metrics.measure import Measure, where_enough


class FeatureSpace(Metric):
    """Applies all `measures` to fakes and reals in the features of one `extractor`, which is frozen here; no gradient flows.

    Measures that the catalogue marks as `validated` are computed too.

    `compute` returns {"<key>_<extractor.name>": …}, such as `fd_random`. Features, not images, are kept and gathered over ranks.
    A measure that needs more images than there are gives NaN, with a warning.
    Raises ValueError for fakes and reals of unequal shape, NaN, and no measure.
    """

    full_state_update = False
    is_differentiable = False
    higher_is_better = None

    fake: list[Tensor]
    real: list[Tensor]

    def __init__(self, extractor: Extractor, measures: Mapping[str, Measure]) -> None:
        super().__init__()
        if not measures:
            raise ValueError("`measures` must have one measure or more, such as medgan_pl.metrics.distances.Frechet; got none")
        self.extractor = extractor.requires_grad_(False).eval()
        given = {key for measure in measures.values() for key in measure.keys}
        more = {each.keys[0]: each for each in catalogue.measures(validated=True) if not given & set(each.keys)}
        self.measures, self.said = dict(measures) | more, set()
        self.add_state("fake", default=[], dist_reduce_fx="cat")
        self.add_state("real", default=[], dist_reduce_fx="cat")

    def update(self, fake: Float[Tensor, "fake_count ..."], real: Float[Tensor, "real_count ..."]) -> None:
        if fake.shape[1:] != real.shape[1:]:
            raise ValueError(
                f"fake and real must have the same channels and size, got fake {tuple(fake.shape)} and real {tuple(real.shape)}"
            )
        for kind, images in (("fake", fake), ("real", real)):
            if not torch.isfinite(images).all():
                raise ValueError(f"the {kind} images given to the metric contain NaN or infinity; has the training diverged?")
        with torch.no_grad():
            self.fake.append(self.extractor(fake))
            self.real.append(self.extractor(real))

    def compute(self) -> dict[str, Tensor]:
        fake, real = dim_zero_cat(self.fake), dim_zero_cat(self.real)
        values = {}
        for measure in self.measures.values():
            values |= where_enough(measure.keys, partial(measure, fake, real), self.said)
        return {f"{key}_{self.extractor.name}": value.to(fake) for key, value in values.items()}

    def train(self, mode: bool = True) -> "FeatureSpace":
        super().train(mode)
        self.extractor.eval()
        return self

    def _wrap_compute(self, compute: Callable) -> Callable:
        """Raise ValueError in `compute` before any update; torchmetrics would only warn."""
        wrapped = super()._wrap_compute(compute)

        def guarded() -> dict[str, Tensor]:
            if not self.update_called:
                raise ValueError("FeatureSpace.compute needs images: call update(fake, real) first; got none")
            return wrapped()

        return guarded
