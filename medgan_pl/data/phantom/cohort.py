"""The embedded cohort: patients generated on demand, the default data of this project and the ground truth of its tests."""

from functools import cached_property

import numpy as np

from medgan_pl.core.counts import whole_number
from medgan_pl.data.phantom.film import film_image
from medgan_pl.data.phantom.patient import CLASSES, Patient, draw_patient


class Cohort:
    """`patients` chest films of `size_px` (H, W), each a function of (seed, index) in any order, process and size of cohort.

    Raise ValueError for no patients or a side below 16 px, IndexError for a patient beyond the last.
    """

    classes = CLASSES
    covariate_names = ("age_years", "male", "bmi", "height_m")

    def __init__(self, *, patients: int, seed: int, size_px: tuple[int, int]):
        whole_number("patients", patients, 1)
        if len(size_px) != 2 or min(size_px) < 16:
            raise ValueError(f"`size_px` must be two counts (H, W) of 16 or more, got {size_px}; use (64, 64)")
        self.patients, self.seed, self.size_px = patients, seed, (int(size_px[0]), int(size_px[1]))

    def __len__(self) -> int:
        return self.patients

    def patient(self, index: int) -> Patient:
        if not 0 <= index < self.patients:
            raise IndexError(f"a patient must be below {self.patients}, counted from 0, got {index}")
        return draw_patient(self.seed, int(index))

    def film(self, index: int) -> np.ndarray:
        """Return the film (1, H, W) float32 in [0, 4095], stored detector values: see `Film`."""
        return film_image(self.patient(index), self.size_px)[0][None]

    def label(self, index: int) -> int:
        return self.patient(index).label

    @cached_property
    def labels(self) -> np.ndarray:
        """Return the labels (N,) int64, in the order of `classes`."""
        return np.array([self.label(i) for i in range(self.patients)], dtype=np.int64)

    @cached_property
    def covariates(self) -> np.ndarray:
        """Return the covariates (N, 4) float32 in the units of `covariate_names`, not standardized."""
        return np.array([self.patient(i).covariates for i in range(self.patients)], dtype=np.float32)
