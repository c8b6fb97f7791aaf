"""The diseases, each with its extent in three dimensions: consolidation, nodule, effusion."""

import numpy as np

from medgan_pl.data.phantom.anatomy import Anatomy, diaphragm_z, heart_parts, lung_section, pleural_cavity, wall_nearness
from medgan_pl.data.phantom.patient import Patient
from medgan_pl.data.phantom.raster import Grid, ellipsoid, inside, lattice_noise, paint

CONSOLIDATED_HU, NODULE_HU, FLUID_HU = 25.0, 35.0, 12.0


def add_lesion(hu, lung, grid: Grid, anatomy: Anatomy, patient: Patient) -> np.ndarray:
    """Paint the patient's disease into `hu` in place; return its part of each voxel, (D, H, W) in [0, 1], 0 if healthy."""
    rng = patient.rng("lesion")
    side = 1 if rng.random() < 0.5 else -1
    if patient.disease == "consolidation":
        return _consolidation(hu, lung, grid, anatomy, patient.severity, side, rng)
    if patient.disease == "nodule":
        center, radius_mm = nodule_sphere(patient, anatomy)
        box, axes = grid.box(center - radius_mm, center + radius_mm)
        occupancy = np.zeros_like(hu)
        occupancy[box] = ellipsoid(axes, center, (radius_mm,) * 3, grid.edge_mm) * (lung[box] > 0)
        paint(hu, occupancy[box], np.float32(NODULE_HU), box)
        return occupancy
    if patient.disease == "effusion":
        return _effusion(hu, lung, grid, anatomy, patient.severity, side)
    return np.zeros_like(hu)


def _free_lung(anatomy: Anatomy, side: int, points: np.ndarray) -> np.ndarray:
    """Return True for each point (..., 3) in a lung, outside heart, great vessels and hilum."""
    axes = tuple(np.moveaxis(points.astype(np.float32), -1, 0))
    free = pleural_cavity(anatomy, side, axes, 1.0)[0] >= 1
    free &= side * axes[2] > 42 * anatomy.scale
    for center, radii, tilt in heart_parts(anatomy):
        free &= ellipsoid(axes, center, radii, 1.0, tilt) == 0
    return free


def lung_site(anatomy: Anatomy, side: int, margin_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Return a point (3,) of the lung with `margin_mm` of lung around it, uniform over such points, else the best of 400 tries."""
    z = rng.uniform(max(anatomy.dome_z), anatomy.apex_z, 400)
    center_x, half_width, center_y, half_depth = lung_section(anatomy, z)
    x = side * (center_x + half_width * rng.uniform(-1, 1, 400))
    tries = np.stack([z, center_y + half_depth * rng.uniform(-1, 1, 400), x], axis=1)
    ball = np.array([(i, j, k) for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)], dtype=np.float64)
    ball /= np.maximum(np.linalg.norm(ball, axis=1, keepdims=True), 1)
    clear = _free_lung(anatomy, side, tries[:, None] + margin_mm * ball).mean(axis=1)
    return tries[np.argmax(clear)]


def nodule_sphere(patient: Patient, anatomy: Anatomy) -> tuple[np.ndarray, float]:
    """Return center (3,) and radius (mm) of the patient's nodule: 8 to 30 mm across by severity, completely inside one lung.

    A nodule is by definition at most 30 mm (Hansell et al. 2008, Fleischner Society glossary, Radiology 246:697).
    """
    rng = patient.rng("lesion")
    side = 1 if rng.random() < 0.5 else -1
    radius_mm = 4 + 11 * patient.severity
    return lung_site(anatomy, side, radius_mm + 1.5, rng), radius_mm


def _consolidation(hu, lung, grid: Grid, anatomy: Anatomy, severity: float, side: int, rng: np.random.Generator) -> np.ndarray:
    """Fill airspace: a patchy cloud around a site with an irregular edge, never across the mediastinum; alveoli fill by 70 to 100 %."""
    reach = 28 + 26 * severity
    center = lung_site(anatomy, side, 14.0, rng)
    radii = reach * np.exp(rng.normal(0, 0.18, 3))
    low, high = center - 1.9 * radii, center + 1.9 * radii
    box, axes = grid.box(low, high)
    z, y, x = (((axis - c) / r) ** 2 for axis, c, r in zip(axes, center, radii, strict=True))
    cloud = np.exp(-0.7 * (z + y + x)).astype(np.float32)
    coarse = lattice_noise(rng, axes, 22.0, center - 110, center + 110)
    fine = lattice_noise(rng, axes, 8.0, center - 110, center + 110)
    depth = cloud * (1 + 0.45 * coarse + 0.15 * fine) - np.float32(0.42)
    occupancy = np.zeros_like(hu)
    # the edge is 10 mm soft: filled and empty acini lie mixed there
    occupancy[box] = inside(depth * np.float32(0.6 * reach), max(10.0, grid.edge_mm)) * lung[box] * (side * axes[2] > 0)
    filling = occupancy[box] * np.clip(0.85 + 0.12 * fine, 0.6, 1)
    paint(hu, filling, np.float32(CONSOLIDATED_HU), box)
    return occupancy


def _effusion(hu, lung, grid: Grid, anatomy: Anatomy, severity: float, side: int) -> np.ndarray:
    """Fill with the free fluid of an upright patient: level near the heart, a meniscus up the chest wall, a thin layer under the lung."""
    low, high = sorted((0.0, side * (anatomy.half_width + 5)))
    dome = anatomy.dome_z[0 if side < 0 else 1]
    level = np.float32(dome - 16 + 78 * severity**1.3)
    box, (z, y, x) = grid.box((anatomy.base_z - 60, -anatomy.half_depth - 5, low), (level + 100, anatomy.half_depth + 25, high))
    lateral = np.clip(side * x / np.float32(anatomy.half_width), 0, 1) ** 3
    wall = np.minimum(wall_nearness(anatomy, side, (z, y, x)), 1)
    surface = level + np.float32(22 + 24 * severity) * (np.float32(1.3) * lateral + np.float32(0.4) * wall * wall * wall)
    surface = np.maximum(surface, diaphragm_z(anatomy, side, y, x) + np.float32(6))
    occupancy = np.zeros_like(hu)
    occupancy[box] = inside(surface - z, grid.edge_mm) * lung[box]
    paint(hu, occupancy[box], np.float32(FLUID_HU), box)
    return occupancy
