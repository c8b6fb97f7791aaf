"""Bones of the chest: spine, twelve pairs of ribs, sternum, clavicles, scapulae and humeral heads."""

import numpy as np

from medgan_pl.data.phantom.anatomy import ROUNDNESS, Anatomy, lung_section
from medgan_pl.data.phantom.raster import Grid, inside, paint, paint_ellipsoid, paint_tubes, sweep

RIB_HU, LONG_BONE_HU, PLATE_HU, CORTEX_HU, DISC_HU = 720.0, 750.0, 260.0, 700.0, 80.0
_RIB_END_DEG = (148, 150, 152, 152, 151, 149, 146, 140, 130, 118, 92, 62)  # from the back of the chest, round to its front


def add_skeleton(hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> None:
    """Paint all bones into `hu` (D, H, W) in place."""
    _spine(hu, grid, anatomy)
    step = max(2.5, 0.7 * grid.edge_mm)
    left = np.concatenate([rib_path(anatomy, number, step) for number in range(1, 13)])
    paint_tubes(hu, grid, RIB_HU, np.concatenate([left, left * (1, 1, -1)]), 4.0 * anatomy.scale, stretch=(1.6, 1.0, 1.0))
    _shoulders(hu, grid, anatomy, step)
    _sternum(hu, grid, anatomy)


def vertebra_pitch(anatomy: Anatomy) -> float:
    """Return the height (mm) of a thoracic vertebra with its disc."""
    return (anatomy.apex_z - anatomy.base_z) / 11.2


def rib_path(anatomy: Anatomy, number: int, step_mm: float) -> np.ndarray:
    """Return points (N, 3) along left rib `number` (1 to 12): from the spine back, around the lung outside the pleura, down, forward."""
    head_z = anatomy.apex_z + 6 - vertebra_pitch(anatomy) * (number - 1)
    degrees = np.linspace(-12, _RIB_END_DEG[number - 1], 14)
    fall = np.interp(degrees, [-12, 0, 30, 60, 90, 120, 150], [0.0, 0.02, 0.1, 0.28, 0.5, 0.75, 1.0])
    z = head_z - (42 + 7.0 * min(number, 9)) * anatomy.scale * anatomy.rib_tilt * fall
    level = np.minimum(z, anatomy.apex_z - 14 * anatomy.scale)
    center_x, half_width, center_y, half_depth = lung_section(anatomy, level)
    angle = np.deg2rad(degrees)
    sine, cosine = (np.sign(v) * np.abs(v) ** (2 / ROUNDNESS) for v in (np.sin(angle), np.cos(angle)))
    x = center_x + (half_width + 5) * sine
    y = center_y + (half_depth + 5) * cosine
    head = np.array([[head_z + 2, anatomy.spine_y + 6, 16 * anatomy.scale]])
    knots = np.concatenate([head, np.stack([z, y, x], axis=1)])
    return sweep(knots, step_mm)


def _spine(hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> None:
    """Paint vertebral bodies with dense endplates and discs, the canal, and the posterior arches with their spinous processes."""
    s, pitch, spine_y = anatomy.scale, vertebra_pitch(anatomy), anatomy.spine_y
    box, (z, y, x) = grid.box((-260, spine_y - 18 * s, -24 * s), (260, spine_y + 62 * s, 24 * s))
    x = x - anatomy.spine_x(z)
    phase = np.abs((z - anatomy.apex_z - 6) / pitch - np.round((z - anatomy.apex_z - 6) / pitch)) * pitch  # from the middle of a vertebra
    body = inside(pitch * 0.41 - phase, grid.edge_mm)
    endplate = inside(1.5 - np.abs(phase - pitch * 0.40), grid.edge_mm)
    waist = (13.5 + 2.0 * (phase / (pitch / 2)) ** 2) * s + 0.012 * (anatomy.apex_z - z)
    side = inside(waist - np.abs(x), grid.edge_mm)
    column = side * inside(14 * s - np.abs(y - spine_y), grid.edge_mm)
    density = DISC_HU + body * (anatomy.spine_hu - DISC_HU) + endplate * (CORTEX_HU - 400)
    cortex = inside(2.0 - np.abs(waist - np.abs(x) - 1), grid.edge_mm) * body
    paint(hu, column, density + cortex * 150, box)
    arch = inside(pitch * 0.3 - phase, grid.edge_mm)
    behind = y - spine_y
    lamina = inside(13 * s - np.abs(x), grid.edge_mm) * inside(5 * s - np.abs(behind - 32 * s), grid.edge_mm)
    process = inside(3.2 * s - np.abs(x), grid.edge_mm) * inside(12 * s - np.abs(behind - 46 * s), grid.edge_mm)
    pedicle = inside(3.5 * s - np.abs(np.abs(x) - 12 * s), grid.edge_mm) * inside(10 * s - np.abs(behind - 22 * s), grid.edge_mm)
    paint(hu, np.maximum(np.maximum(lamina, process), pedicle) * arch, np.float32(220), box)


def _shoulders(hu: np.ndarray, grid: Grid, anatomy: Anatomy, step: float) -> None:
    """Paint clavicles, scapulae (beside the lungs, as on a well positioned film) and humeral heads."""
    s, top, width = anatomy.scale, anatomy.apex_z, anatomy.half_width
    front = -anatomy.half_depth
    clavicle = [(-36, 0.62 * front, 14), (-30, 0.72 * front, 40), (-19, 0.55 * front, 78), (-8, 0.3 * front, 118), (-4, 0.1 * front, 155)]
    clavicle = np.array(clavicle)
    lateral = np.array([(-14, 36, width + 22), (-60, 50, width + 16), (-112, 64, width - 6)])
    medial = np.array([(-112, 64, width - 6), (-60, 82, 0.72 * width), (-8, 72, 0.66 * width)])
    ridge = np.array([(-20, 76, 0.68 * width), (-4, 62, width), (2, 30, width + 34)])
    above = np.array([top, 0, 0])
    bones = [(clavicle * (s, 1, s), 5.4), (lateral * (s, s, 1), 4.2), (medial * (s, s, 1), 2.0), (ridge * (s, s, 1), 4.0)]
    paths = [(sweep(knots + above, step), radius * s) for knots, radius in bones]
    points = np.concatenate([path for path, _ in paths])
    radii = np.concatenate([np.full(len(path), radius) for path, radius in paths])
    for side in (-1, 1):
        paint_ellipsoid(hu, grid, 330.0, (top - 22 * s, 18 * s, side * (width + 50 * s)), (23 * s, 23 * s, 23 * s))
        paint_tubes(hu, grid, LONG_BONE_HU, points * (1, 1, side), radii)
        paint_ellipsoid(hu, grid, PLATE_HU, (top - 58 * s, 70 * s, side * 0.86 * width), (44 * s, 3.0, 0.15 * width))


def _sternum(hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> None:
    """Paint a plate in front of the mediastinum from the jugular notch down."""
    s, front = anatomy.scale, -anatomy.half_depth
    top, bottom = anatomy.apex_z - 34 * s, anatomy.apex_z - 185 * s
    box, (z, y, x) = grid.box((bottom, front - 12, -28 * s), (top, 0, 28 * s))
    plane = front * np.interp(z, [bottom, top], [1.02, 0.66]).astype(np.float32)
    half = np.interp(z, [bottom, bottom + 60, top - 45, top], s * np.array([10.0, 16, 13, 24])).astype(np.float32)
    plate = inside(half - np.abs(x), grid.edge_mm) * inside(5.5 * s - np.abs(y - plane), grid.edge_mm)
    plate *= inside(z - bottom, grid.edge_mm) * inside(top - z, grid.edge_mm)
    paint(hu, plate, np.float32(anatomy.spine_hu + 60), box)
