"""A parametric digital patient: chest in CT and film, head in MRI, with disease and its exact extent; see `Cohort` and `__main__`.

Every image is a function of (seed, index). Not a simulator of dose or a stand-in for clinical images: a source of data with known truth.
"""

from medgan_pl.data.phantom.cohort import Cohort
from medgan_pl.data.phantom.film import Film, attenuation_per_mm, film_grid, project, xray
from medgan_pl.data.phantom.head import RELAXATION, TISSUES, HeadMRI, head_mri, spin_echo
from medgan_pl.data.phantom.patient import CLASSES, Patient, draw_patient
from medgan_pl.data.phantom.thorax import ThoraxCT, thorax_ct

__all__ = [
    "CLASSES",
    "RELAXATION",
    "TISSUES",
    "Cohort",
    "Film",
    "HeadMRI",
    "Patient",
    "ThoraxCT",
    "attenuation_per_mm",
    "draw_patient",
    "film_grid",
    "head_mri",
    "project",
    "spin_echo",
    "thorax_ct",
    "xray",
]
