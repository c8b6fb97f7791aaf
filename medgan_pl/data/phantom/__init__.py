"""A parametric digital patient: chest in CT and film, head in MRI and CT, with disease and its exact extent; see `Cohort` and `__main__`.

Every image is a function of (seed, index). It is a source of data with known truth, not a dose simulator and no substitute for clinical
images.
"""

from medgan_pl.data.phantom.cohort import Cohort
from medgan_pl.data.phantom.film import Film, attenuation_per_mm, film_grid, project, xray
from medgan_pl.data.phantom.head import HEAD_HU, RELAXATION, TISSUES, HeadCT, HeadMRI, head_ct, head_mri, spin_echo
from medgan_pl.data.phantom.patient import CLASSES, Patient, draw_patient
from medgan_pl.data.phantom.thorax import ThoraxCT, thorax_ct

__all__ = [
    "CLASSES",
    "HEAD_HU",
    "RELAXATION",
    "TISSUES",
    "Cohort",
    "Film",
    "HeadCT",
    "HeadMRI",
    "Patient",
    "ThoraxCT",
    "attenuation_per_mm",
    "draw_patient",
    "film_grid",
    "head_ct",
    "head_mri",
    "project",
    "spin_echo",
    "thorax_ct",
    "xray",
]
