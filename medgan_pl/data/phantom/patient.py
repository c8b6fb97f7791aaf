"""A simulated patient, drawn only from (seed, index), so that a cohort can grow without changing its patients."""

from dataclasses import dataclass, field

import numpy as np

CLASSES = ("normal", "consolidation", "nodule", "effusion")
PREVALENCE = (0.4, 0.2, 0.2, 0.2)

# One number for each independent random stream of a patient; a new stream does not change an old one.
STREAMS = {
    "covariates": 0, "anatomy": 1, "vessels": 2, "lesion": 3, "texture": 4, "film": 5, "ct": 6, "head": 7, "mri": 8, "centring": 9,
    "head_ct": 10,
}  # fmt: skip


@dataclass(frozen=True)
class Patient:
    """The features of a patient; `dataclasses.replace` gives the same person older, heavier or ill (a counterfactual with equal anatomy).

    `severity` in [0, 1] scales the size of the disease, `inspiration` in [0, 1] the depth of the held breath; `rotation_deg` is the angle
    of the chest in front of the detector (positive: the left shoulder towards the detector).
    """

    id: str
    seed: int = field(repr=False)
    index: int = field(repr=False)
    age_years: float
    sex: str  # "F" or "M"
    bmi: float  # kg/m²
    height_m: float
    inspiration: float
    rotation_deg: float
    disease: str
    severity: float

    def __post_init__(self):
        if self.disease not in CLASSES:
            raise ValueError(f"`disease` must be one of {', '.join(CLASSES)}, got {self.disease!r}")
        if self.sex not in ("F", "M"):
            raise ValueError(f'`sex` must be "F" or "M", got {self.sex!r}')
        if not 18 <= self.age_years <= 100:
            raise ValueError(f"`age_years` must lie in 18 to 100 (the phantom is an adult), got {self.age_years}")
        if not 15 <= self.bmi <= 50:
            raise ValueError(f"`bmi` must lie in 15 to 50 kg/m², got {self.bmi}")

    @property
    def label(self) -> int:
        """Return the disease as an index of `CLASSES`."""
        return CLASSES.index(self.disease)

    @property
    def covariates(self) -> tuple[float, float, float, float]:
        """Return age (years), sex (0 female, 1 male), BMI (kg/m²), height (m), in the order of `Cohort.covariate_names`."""
        return self.age_years, float(self.sex == "M"), self.bmi, self.height_m

    def rng(self, stream: str) -> np.random.Generator:
        """Return a new generator for one of `STREAMS`; the same patient and stream give the same numbers in any process."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, self.index, STREAMS[stream]]))


def draw_patient(seed: int, index: int) -> Patient:
    """Return patient number `index` of the cohort `seed`: an adult of 18 to 92 years, 40 % healthy and 20 % with each disease.

    Height is normal by sex and BMI log-normal around 27 kg/m² (NCHS, Vital and Health Statistics 3:46, 2021, rounded).
    """
    if seed < 0 or index < 0:
        raise ValueError(f"`seed` and `index` must be 0 or more, got {seed} and {index}")
    rng = np.random.default_rng(np.random.SeedSequence([seed, index, STREAMS["covariates"]]))
    sex = "M" if rng.random() < 0.52 else "F"
    height_m = rng.normal(1.76, 0.07) if sex == "M" else rng.normal(1.63, 0.065)
    return Patient(
        id=f"P{index:05d}",
        seed=seed,
        index=index,
        age_years=round(float(np.clip(rng.normal(55, 18), 18, 92)), 1),
        sex=sex,
        bmi=round(float(np.clip(np.exp(rng.normal(np.log(26.5), 0.17)), 17, 43)), 1),
        height_m=round(float(np.clip(height_m, 1.45, 2.0)), 2),
        inspiration=round(float(rng.beta(4, 2)), 3),
        rotation_deg=round(float(np.clip(rng.normal(0, 2.5), -7, 7)), 2),
        disease=CLASSES[int(rng.choice(len(CLASSES), p=PREVALENCE))],
        severity=round(float(rng.random()), 3),
    )
