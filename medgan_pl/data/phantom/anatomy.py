"""The measures of a chest from a patient's covariates, and the closed-form surfaces of lungs and diaphragm.

z = 0 lies a little below the carina. `side` is +1 for the patient's left, -1 for the right.
"""

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from medgan_pl.data.phantom.patient import Patient
from medgan_pl.data.phantom.raster import Axes, inside

ROUNDNESS = 2.6  # exponent of the superellipse of a lung's cross-section; 2 would be an ellipse


def _table(depths, values) -> np.ndarray:
    return PchipInterpolator(depths, values)(_DEPTH).astype(np.float32)


# A lung from apex (0) to costophrenic recess (1): lateral and medial border in half widths, half depth and its center in half depths.
_DEPTH = np.linspace(0, 1, 257)
_LATERAL = _table([0, 0.04, 0.1, 0.2, 0.35, 0.55, 0.8, 1], [0.42, 0.6, 0.71, 0.81, 0.91, 0.97, 1.0, 0.99])
_MEDIAL = _table([0, 0.04, 0.1, 0.2, 0.4, 1], [0.41, 0.22, 0.14, 0.08, 0.04, 0.03])
_HALF_DEPTH = _table([0, 0.04, 0.1, 0.2, 0.35, 0.55, 0.8, 1], [0.02, 0.28, 0.45, 0.63, 0.82, 0.95, 1.0, 1.0])
_CENTER_Y = _table([0, 0.2, 0.5, 1], [0.2, 0.15, 0.02, 0.0])


@dataclass(frozen=True)
class Anatomy:
    """Measures of one chest in millimeters (and HU where named so); see `measure`."""

    scale: float  # 1 for a man of 1.75 m
    half_width: float  # inner chest, transverse
    half_depth: float
    apex_z: float
    dome_z: tuple[float, float]  # right, left
    base_z: float  # floor of the costophrenic recesses
    fat: float  # thickness under the skin
    muscle: float
    heart_width: float
    heart_tilt_deg: float
    heart_x: float
    aorta_radius: float
    aorta_unfolding: float  # 0 young, about 1 at 80 years
    calcification: float  # 0 to 1
    spine_hu: float
    rib_tilt: float
    breast: float  # thickness, 0 for men
    lung_hu: float
    carina_x: float
    bow: float  # sideways curve of the spine

    @property
    def spine_y(self) -> float:
        return 0.54 * self.half_depth

    def spine_x(self, z: np.ndarray) -> np.ndarray:
        """Return the middle of the spine (mm) at height `z`; the spine is slightly curved."""
        return (self.bow * np.cos((z - 10) / 55)).astype(np.float32)


def measure(patient: Patient) -> Anatomy:
    """Return the chest of `patient`: individual variation from the patient's random stream, trends from age, sex, BMI and inspiration.

    Trends: subcutaneous fat about 1.3 mm per BMI unit; cardiothoracic ratio 0.43 at 30 years plus 0.0011 a year (direction and size after
    Inoue et al. 1999, Gerontology 45:53); ascending aorta 0.1 mm in radius a year (Wolak et al. 2008, JACC Imaging 1:200, rounded);
    trabecular bone 226 HU at 30 years less 2.2 a year (Jang et al. 2019, Radiology 291:360, rounded). The rest is estimated from films.
    """
    noise = patient.rng("anatomy").standard_normal(17)
    male, age = patient.sex == "M", patient.age_years
    scale = patient.height_m / 1.75 * (1.0 if male else 0.96)
    breath = patient.inspiration - 0.65
    half_width = (138 if male else 130) * scale * (1 + 0.03 * noise[0]) * (1 + 0.03 * breath)
    dome = (-92 + 4 * noise[1] - 55 * breath) * scale + 0.5 * (patient.bmi - 26)
    ratio = 0.43 + 0.0011 * (age - 30) + 0.002 * (patient.bmi - 26) + 0.022 * noise[2] - 0.06 * breath
    return Anatomy(
        scale=scale,
        half_width=half_width,
        half_depth=(88 if male else 82) * scale * (1 + 0.04 * noise[3]) * (1 + 0.0015 * (age - 50)),
        apex_z=(126 + 3 * noise[4]) * scale,
        dome_z=(dome, dome - 12 - 4 * noise[5]),
        base_z=dome - 48 * scale,
        fat=max(3.0, 5 + 1.3 * (patient.bmi - 20) + (0 if male else 2)),
        muscle=(13 if male else 9) * scale,
        heart_width=float(np.clip(ratio, 0.36, 0.64)) * 2 * half_width,
        heart_tilt_deg=38 - 18 * (0.5 - patient.inspiration) - 0.5 * (patient.bmi - 26) + 4 * noise[6],
        heart_x=4 * noise[7],
        aorta_radius=(12.5 + 0.1 * (age - 40) + 0.7 * noise[8]) * scale,
        aorta_unfolding=float(np.clip((age - 35) / 45 + 0.2 * noise[9], 0, 1.4)),
        calcification=float(np.clip((age - 58) / 30 + 0.25 * noise[10], 0, 1)),
        spine_hu=max(70.0, 226 - 2.2 * (age - 30) + 20 * noise[11]),
        rib_tilt=1 + 0.1 * noise[12] - 0.25 * breath,
        breast=0.0 if male else max(10.0, 24 + 1.8 * (patient.bmi - 24) + 4 * noise[13]),
        lung_hu=-845 - 50 * breath - 0.5 * (age - 50) + 12 * noise[14],
        carina_x=2 + 1.5 * noise[15],
        bow=3.5 * noise[16],
    )


def lung_section(anatomy: Anatomy, z: np.ndarray):
    """Return center x, half width, center y, half depth (mm) of a left lung's horizontal section at height `z`, each shaped like `z`."""
    depth = (anatomy.apex_z - z) / (anatomy.apex_z - anatomy.base_z)
    lateral, medial, half, center = (np.interp(depth, _DEPTH, t).astype(np.float32) for t in (_LATERAL, _MEDIAL, _HALF_DEPTH, _CENTER_Y))
    lateral, medial = lateral * np.float32(anatomy.half_width), medial * np.float32(anatomy.half_width)
    half_depth = np.float32(anatomy.half_depth)
    return (lateral + medial) / 2, (lateral - medial) / 2, center * half_depth, half * half_depth


def wall_nearness(anatomy: Anatomy, side: int, axes: Axes) -> np.ndarray:
    """Return 0 on the long axis of a lung, 1 on the chest wall: the superellipse |Δx / a|ⁿ + |Δy / b|ⁿ."""
    z, y, x = axes
    center_x, half_width, center_y, half_depth = lung_section(anatomy, z)
    across = np.abs((side * x - center_x) / half_width) ** np.float32(ROUNDNESS)
    return across + np.abs((y - center_y) / half_depth) ** np.float32(ROUNDNESS)


def diaphragm_z(anatomy: Anatomy, side: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the height (mm) of the dome below a lung: highest a little in front of the middle, low at the wall, lowest behind."""
    dome = anatomy.dome_z[0 if side < 0 else 1]
    across = (side * x - 0.42 * anatomy.half_width) / (0.58 * anatomy.half_width)
    along = (y + 0.2 * anatomy.half_depth) / anatomy.half_depth
    across = np.where(across < 0, 0.45 * across, across)
    return (dome - anatomy.scale * (44 * np.abs(across) ** 2.3 + 36 * np.abs(along) ** 2.2)).astype(np.float32)


def pleural_cavity(anatomy: Anatomy, side: int, axes: Axes, edge_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the occupancy of one pleural cavity (heart and mediastinum included) and `wall_nearness`, on a grid or a list of points."""
    z, y, x = axes
    near = wall_nearness(anatomy, side, axes)
    _, half_width, _, half_depth = lung_section(anatomy, z)
    occupancy = inside((1 - near) * (np.minimum(half_width, half_depth) / np.float32(ROUNDNESS)), edge_mm)
    occupancy *= inside(z - diaphragm_z(anatomy, side, y, x), edge_mm)
    occupancy *= inside(anatomy.apex_z - z, edge_mm)
    return occupancy, near


def heart_parts(anatomy: Anatomy):
    """Return ellipsoids of the heart (center, radii, tilt in degrees): left ventricle, right atrium, outflow tract with left atrium."""
    width, tilt = anatomy.heart_width, anatomy.heart_tilt_deg
    right, left = anatomy.heart_x - 0.33 * width, anatomy.heart_x + 0.67 * width
    floor = anatomy.dome_z[1] + 2
    long, short = 0.5 * width, 0.36 * width
    reach = np.hypot(long * np.cos(np.deg2rad(tilt)), short * np.sin(np.deg2rad(tilt)))
    drop = np.hypot(long * np.sin(np.deg2rad(tilt)), short * np.cos(np.deg2rad(tilt)))
    y = -0.3 * anatomy.half_depth
    middle = floor - 8 + drop
    return (
        ((middle, y, left - reach), (short, 0.36 * width, long), tilt),
        ((middle + 2, y + 6, right + 0.27 * width), (0.38 * width, 0.3 * width, 0.27 * width), 0.0),
        ((middle + 0.36 * width, y - 2, anatomy.heart_x + 0.08 * width), (0.34 * width, 0.22 * width, 0.22 * width), 30.0),
    )
