"""The film: cone-beam projection of the chest by Beer and Lambert, scatter, quanta, blur, and the detector's curve.

I = I₀ exp(-∫ μ dl) along the rays from a point source behind the patient (postero-anterior) to a detector in front.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.sparse import csr_array

from medgan_pl.data.phantom.patient import Patient
from medgan_pl.data.phantom.raster import Grid
from medgan_pl.data.phantom.thorax import Thorax, build_thorax

SOURCE_MM = 1800.0  # source to detector, the usual chest stand
FILM_MM = 360.0  # height of the collimated field on the detector
DETECTOR_Y_MM = -170.0  # the detector's plane, in front of the chest
DEPTH_MM = 300.0  # projected depth of the patient, front to back
OVERSAMPLING = 1.5  # voxels per pixel

# Linear attenuation at 60 keV, the effective energy of a 125 kVp chest beam behind its filter, in 1/mm. NIST XAAMDI (Hubbell & Seltzer):
# water 0.2059 cm²/g × 1 g/cm³; cortical bone (ICRU-44) 0.3148 cm²/g × 1.92 g/cm³, whose HU at 70 keV, the energy of a CT, is 1590.
WATER_PER_MM = 0.02059
BONE_PER_MM, BONE_HU = 0.06044, 1590.0
SOFT_HU = 60.0  # above this a voxel is water with a share of bone
PHOTONS_PER_MM2 = 4e5  # entrance exposure that leaves about 2.5 µGy behind the patient (speed class 400)
# Behind a grid; from 0.2 in the lungs to above 1 in the mediastinum, as measured by Niklason et al. 1981, Med Phys 8:677.
SCATTER_TO_PRIMARY = 0.45
SCATTER_MM, BLUR_MM = 35.0, 0.4
DETAIL_MM, DETAIL_GAIN, DETAIL_LIMIT = 14.0, 2.6, 0.16


@dataclass(frozen=True)
class Film:
    """A postero-anterior chest film in a radiologist's view: head up, the patient's left on the right; all (H, W).

    `image` float32 in [0, 4095], bright where few photons arrive (bone, heart), 0 for open beam; `attenuation` float32, the noiseless line
    integral -ln(I / I₀) of the primary beam, 0 to about 9; `lung_mask` bool: the beam crosses at least 25 mm of pleural space;
    `lesion_mask` bool: it crosses at least 2 mm of disease.
    """

    image: np.ndarray
    attenuation: np.ndarray
    lung_mask: np.ndarray
    lesion_mask: np.ndarray


def attenuation_per_mm(hu: np.ndarray) -> np.ndarray:
    """Return μ in 1/mm at 60 keV from Hounsfield units: water scaled by (1 + HU/1000), above 60 HU a steeper line to cortical bone.

    The two lines are those of CT-based attenuation correction (Kinahan et al. 1998, Med Phys 25:2046) for our two energies.
    """
    at_break = WATER_PER_MM * (1 + SOFT_HU / 1000)
    steeper = (BONE_PER_MM - at_break) / (BONE_HU - SOFT_HU) - WATER_PER_MM / 1000
    mu = hu * np.float32(WATER_PER_MM / 1000)
    mu += np.float32(WATER_PER_MM)
    np.maximum(mu, 0, out=mu)
    bone = hu - np.float32(SOFT_HU)
    np.maximum(bone, 0, out=bone)
    bone *= np.float32(steeper)
    mu += bone
    return mu


def film_grid(size_px: tuple[int, int]) -> Grid:
    """Return the voxel grid of a film of `size_px` (H, W): 1.5 voxels a pixel across, 1.5 times coarser along the beam."""
    height, width = size_px
    across = FILM_MM / height / OVERSAMPLING
    counts = (round(height * OVERSAMPLING), max(8, round(DEPTH_MM / (1.5 * across))), round(width * OVERSAMPLING))
    return Grid(counts, (FILM_MM, DEPTH_MM, FILM_MM * width / height))


def _overlap(low: np.ndarray, high: np.ndarray, count: int) -> csr_array:
    """Return the matrix (Y·P, Y·count), block diagonal, of means over [low, high), in voxels of a line of `count`, for slice and pixel."""
    slices, pixels = low.shape
    reach = int(np.ceil((high - low).max())) + 1
    first = np.floor(low)[..., None] + np.arange(reach)
    share = np.minimum(high[..., None], first + 1) - np.maximum(low[..., None], first)
    share = np.clip(share, 0, 1) / (high - low)[..., None]
    share[(first < 0) | (first >= count)] = 0
    column = np.clip(first, 0, count - 1).astype(np.int32) + count * np.arange(slices, dtype=np.int32)[:, None, None]
    rows = np.arange(slices * pixels + 1, dtype=np.int32) * reach
    return csr_array((share.astype(np.float32).ravel(), column.ravel(), rows), shape=(slices * pixels, slices * count))


def project(volume: np.ndarray, grid: Grid, size_px: tuple[int, int], rotation_deg: float = 0.0, offset_mm=(0.0, 0.0)) -> np.ndarray:
    """Return ∫ volume dl (H, W) in volume·mm from the source to each pixel; `volume` (D, Y, X) on `grid`, head up in the film.

    Each slab of depth y is magnified by SOURCE / (SOURCE - distance to the detector) and, as the patient turns and not the beam, shifted
    by y tan(rotation); `offset_mm` (down, right) is the patient's offset from the detector's center. Pixels average over their area; rays
    are lengthened by 1/cos of their angle. Sparse products, unlike BLAS, give bit-equal sums under any load.
    """
    height, width = size_px
    pixel = FILM_MM / height
    dz, dy, dx = grid.spacing_mm
    y = grid.axes[1].ravel().astype(np.float64)
    scale = 1 - (y - DETECTOR_Y_MM) / SOURCE_MM  # one film millimeter at depth y
    shift = np.tan(np.deg2rad(rotation_deg)) * y
    across = (np.arange(width) - width / 2) * pixel - offset_mm[1]
    down = (height / 2 - 1 - np.arange(height)) * pixel + offset_mm[0]
    left = (np.outer(scale, across) + shift[:, None] - grid.origin_mm[2]) / dx + 0.5
    low = (np.outer(scale, down) - grid.origin_mm[0]) / dz + 0.5
    rows = _overlap(left, left + (scale * pixel / dx)[:, None], grid.size[2])
    columns = _overlap(low, low + (scale * pixel / dz)[:, None], grid.size[0])
    depth = len(y)
    lines = rows @ np.ascontiguousarray(volume.transpose(1, 2, 0)).reshape(-1, grid.size[0])  # (Y·W, D)
    lines = lines.reshape(depth, width, -1).transpose(0, 2, 1).reshape(-1, width)  # (Y·D, W)
    image = (columns @ lines).reshape(depth, height, width).sum(axis=0)
    u, v = across + pixel / 2, down + pixel / 2
    slant = np.sqrt(1 + (u[None, :] ** 2 + v[:, None] ** 2) / SOURCE_MM**2)
    return (image * slant * dy).astype(np.float32)


def _detect(attenuation: np.ndarray, rng: np.random.Generator, dose: float) -> np.ndarray:
    """Return the stored image in [0, 4095] from line integrals (H, W): scatter, quanta, blur, automatic exposure, film curve."""
    pixel = FILM_MM / attenuation.shape[0]
    primary = np.exp(-attenuation.astype(np.float64))
    scatter = gaussian_filter(np.minimum(primary, 0.2), SCATTER_MM / pixel, mode="nearest") * SCATTER_TO_PRIMARY
    quanta = PHOTONS_PER_MM2 * dose * pixel**2
    signal = gaussian_filter(rng.poisson((primary + scatter) * quanta).astype(np.float64), BLUR_MM / pixel) / quanta
    logarithm = -np.log(np.maximum(signal, 0.5 / quanta))
    # Automatic exposure: the two upper chambers of the stand lie over the lungs and set the position of the curve.
    height, width = attenuation.shape
    rows = slice(round(0.3 * height), round(0.55 * height))
    chambers = [logarithm[rows, round(a * width) : round(b * width)] for a, b in ((0.2, 0.36), (0.64, 0.8))]
    reference = float(np.mean([np.mean(chamber) for chamber in chambers]))
    # Faint detail is raised and strong edges are not, as on digital stands (Vuylsteke & Schoeters 1994, Proc SPIE 2167:551; one scale).
    broad = gaussian_filter(logarithm, DETAIL_MM / pixel, mode="nearest")
    detail = DETAIL_LIMIT * np.tanh((logarithm - broad) / DETAIL_LIMIT)
    shown = broad - reference + 0.8 * (logarithm - broad - detail) + DETAIL_GAIN * detail
    # The curve of Hurter and Driffield as a logistic in log exposure: lungs in the toe, the mediastinum in the shoulder.
    curve = 1 / (1 + np.exp(-1.05 * (shown - 0.95)))
    return (4095 * curve).astype(np.float32)


def _check(size_px: tuple[int, int], dose: float) -> None:
    if len(size_px) != 2 or min(size_px) < 16:
        raise ValueError(f"`size_px` must be two counts (H, W) of 16 or more, got {size_px}; use (64, 64)")
    if dose <= 0:
        raise ValueError(f"`dose` must be above 0 (1 is a routine exposure), got {dose}")


def _centering(patient: Patient) -> np.ndarray:
    """Return the patient's offset (down, right; mm) from the detector's center: a few millimeters, as in practice."""
    return np.clip(patient.rng("centring").normal(0, (6, 4)), -12, 12)


def film_image(patient: Patient, size_px: tuple[int, int], dose: float = 1.0) -> tuple[np.ndarray, np.ndarray, Thorax, Grid]:
    """Return image and line integrals of `xray`, and their chest; without the masks, which need two more projections."""
    _check(size_px, dose)
    grid = film_grid(size_px)
    thorax = build_thorax(patient, grid)
    attenuation = project(attenuation_per_mm(thorax.hu), grid, size_px, patient.rotation_deg, _centering(patient))
    return _detect(attenuation, patient.rng("film"), dose), attenuation, thorax, grid


def xray(patient: Patient, *, size_px: int | tuple[int, int] = 64, dose: float = 1.0) -> Film:
    """Return a chest film of `patient`, `size_px` (H, W) over 360 mm of detector height; `dose` 1 is a routine exposure, 0.01 a noisy one.

    Raise ValueError for a side below 16 px or a dose not above 0.
    """
    size_px = (size_px, size_px) if isinstance(size_px, int) else tuple(size_px)
    image, attenuation, thorax, grid = film_image(patient, size_px, dose)
    lung_mm, lesion_mm = (project(part, grid, size_px, patient.rotation_deg, _centering(patient)) for part in (thorax.lung, thorax.lesion))
    return Film(image, attenuation, lung_mm >= 25, lesion_mm >= 2)
