"""The chest in three dimensions: Hounsfield units, lungs and disease of a patient on a grid.

HU of tissues: Kalender, Computed Tomography (3rd ed. 2011, ch. 1) for air, lung, fat, muscle, blood, liver and cortical bone, rounded.
Ribs, clavicles and scapulae are cortical shells around marrow; they have the mean of both, because the shell (about 1 mm) is thinner
than a voxel of any film here.
"""

from dataclasses import dataclass

import numpy as np

from medgan_pl.data.phantom.anatomy import Anatomy, heart_parts, measure, pleural_cavity
from medgan_pl.data.phantom.lesions import add_lesion
from medgan_pl.data.phantom.patient import Patient
from medgan_pl.data.phantom.raster import Axes, Grid, ellipsoid, inside, lattice_noise, paint, paint_ellipsoid, paint_tubes
from medgan_pl.data.phantom.skeleton import add_skeleton
from medgan_pl.data.phantom.vessels import add_airways, aorta_path, calcified_arch, lung_vessels

AIR_HU, FAT_HU, MUSCLE_HU, BLOOD_HU, HEART_HU, LIVER_HU = -1000.0, -100.0, 50.0, 45.0, 42.0, 58.0
REGION_MM = ((-260.0, -230.0, -230.0), (260.0, 230.0, 230.0))  # what the textures cover


@dataclass(frozen=True)
class Thorax:
    """`hu` (D, H, W) float32; `lung` and `lesion` (D, H, W) float32, their part of each voxel, in [0, 1]; lesion ⊂ lung cavity."""

    hu: np.ndarray
    lung: np.ndarray
    lesion: np.ndarray


@dataclass(frozen=True)
class ThoraxCT:
    """`hu` (D, H, W) float32, slice axis first, from feet to head, front to back, right to left; masks bool of that shape.

    `lung_mask` is the whole pleural space, diseased parts and fluid included; `lesion_mask` lies within it and is empty in the healthy.
    """

    hu: np.ndarray
    spacing_mm: tuple[float, float, float]
    lung_mask: np.ndarray
    lesion_mask: np.ndarray


def thorax_ct(
    patient: Patient, *, size: tuple[int, int, int] = (96, 128, 128), field_mm: tuple[float, float, float] = (340.0, 400.0, 400.0),
    noise_hu: float = 12.0,
) -> ThoraxCT:  # fmt: skip
    """Return a chest CT of `patient` with `size` voxels over `field_mm` (z, y, x), clipped at -1024 HU, with white noise of `noise_hu`.

    The patient is as in `xray` but without rotation. Raise ValueError for fewer than 8 voxels a side.
    """
    if len(size) != 3 or min(size) < 8:
        raise ValueError(f"`size` must be three counts (D, H, W) of 8 or more, got {size}; use (96, 128, 128)")
    if noise_hu < 0:
        raise ValueError(f"`noise_hu` must be 0 or more, got {noise_hu}")
    grid = Grid(tuple(size), tuple(field_mm))
    thorax = build_thorax(patient, grid)
    hu = thorax.hu + np.float32(noise_hu) * patient.rng("ct").standard_normal(grid.size, dtype=np.float32)
    return ThoraxCT(np.maximum(hu, -1024), grid.spacing_mm, thorax.lung > 0.5, thorax.lesion > 0.5)


def build_thorax(patient: Patient, grid: Grid) -> Thorax:
    """Return the noiseless chest of `patient` on `grid`, painted from the skin inwards."""
    anatomy = measure(patient)
    texture = patient.rng("texture")
    hu = np.full(grid.size, AIR_HU, dtype=np.float32)
    _paint_body(hu, grid, anatomy, texture)
    _paint_abdomen(hu, grid, anatomy, texture)
    mediastinum = _paint_mediastinum(hu, grid, anatomy)
    lung = np.zeros_like(hu)
    low, high = (anatomy.base_z - 60, -anatomy.half_depth - 5), (anatomy.apex_z + 2, anatomy.half_depth + 25)
    for side, x_low, x_high in ((-1, -anatomy.half_width - 5, 0), (1, 0, anatomy.half_width + 5)):
        box, axes = grid.box((*low, x_low), (*high, x_high))
        cavity, _ = pleural_cavity(anatomy, side, axes, grid.edge_mm)
        cavity *= 1 - mediastinum[box]
        np.maximum(lung[box], cavity, out=lung[box])
    box, axes = grid.box((*low, -anatomy.half_width), (*high, anatomy.half_width))
    paint(hu, lung[box], _lung_hu(anatomy, axes, texture), box)
    vessels = np.zeros_like(hu)
    lung_vessels(vessels, grid, anatomy, patient.rng("vessels"))
    paint(hu, vessels[box] * lung[box], np.float32(BLOOD_HU), box)
    lesion = add_lesion(hu, lung, grid, anatomy, patient)
    add_airways(hu, grid, anatomy)
    add_skeleton(hu, grid, anatomy)
    return Thorax(hu, lung, lesion)


def _lung_hu(anatomy: Anatomy, axes: Axes, texture: np.random.Generator) -> np.ndarray:
    """Return the HU of aerated lung: mottled, denser towards the base, where the upright lung holds more blood."""
    noise = lattice_noise(texture, axes, 11.0, *REGION_MM)
    noise *= 28
    noise += np.float32(anatomy.lung_hu) - np.float32(0.25) * (axes[0] - np.float32(20))
    return noise


def _outline(anatomy: Anatomy, z: np.ndarray, inset_mm: float):
    """Return half width and half depth of the trunk at `z`, `inset_mm` below the skin: torso, shoulders, neck."""
    width = anatomy.half_width + 8 + anatomy.muscle
    depth = anatomy.half_depth + 10 + anatomy.muscle
    scale, apex = anatomy.scale, anatomy.apex_z
    knots = apex + scale * np.array([-330.0, -110, -60, -25, 0, 14, 28, 42, 60, 130])
    wide = np.array([width, width, width + 25, width + 50, width + 55, width + 35, 0.85 * width, 92 * scale, 64 * scale, 60 * scale])
    deep = np.array([depth, depth, 0.97 * depth, 0.85 * depth, 0.75 * depth, 0.7 * depth, 66 * scale, 62 * scale, 60 * scale, 60 * scale])
    return (np.interp(z, knots, line).astype(np.float32) - np.float32(inset_mm) for line in (wide, deep))


def _paint_body(hu: np.ndarray, grid: Grid, anatomy: Anatomy, texture: np.random.Generator) -> None:
    """Paint fat, breasts, then muscle; the shoulders leave the field on both sides."""
    z, y, x = grid.axes
    for side in (-1, 1) if anatomy.breast else ():
        # the cap of a large ellipsoid: thin above, where it leaves the wall, and full below
        center = (anatomy.apex_z - (178 + 0.4 * anatomy.breast) * anatomy.scale, 14 - anatomy.half_depth, side * 0.58 * anatomy.half_width)
        radii = (62 * anatomy.scale + 0.4 * anatomy.breast, 26 + anatomy.fat + anatomy.breast, 70 * anatomy.scale + 0.5 * anatomy.breast)
        paint_ellipsoid(hu, grid, -60.0, center, radii, side * 35.0)
    muscle = 14 * lattice_noise(texture, grid.axes, 22.0, *REGION_MM) + np.float32(MUSCLE_HU)
    for inset, value in ((-anatomy.fat, np.float32(FAT_HU)), (0.0, muscle)):
        half_width, half_depth = _outline(anatomy, z, inset)
        radius = np.abs(x / half_width) ** np.float32(2.6) + np.abs((y - 6) / half_depth) ** np.float32(2.6)
        paint(hu, inside((1 - radius) * np.float32(0.38 * anatomy.half_depth), grid.edge_mm), value)


def _paint_abdomen(hu: np.ndarray, grid: Grid, anatomy: Anatomy, texture: np.random.Generator) -> None:
    """Paint the liver under the right dome, spleen and the gas of stomach and colon under the left one."""
    right, left = anatomy.dome_z
    width, scale = anatomy.half_width, anatomy.scale
    paint_ellipsoid(hu, grid, LIVER_HU, (right - 62, -5, -0.35 * width), (58 * scale, 0.8 * anatomy.half_depth, 0.55 * width))
    size, tilt, drop = texture.uniform(13, 26), texture.uniform(-25, 25), texture.uniform(8, 16)
    center = (left - drop - size, -12 + texture.uniform(-8, 8), (0.36 + 0.12 * texture.random()) * width)
    paint_ellipsoid(hu, grid, AIR_HU + 30, center, (size, 30, size * texture.uniform(1.0, 1.7)), tilt)
    for z, x, radius in texture.uniform((-70, 0.4, 5), (-30, 0.85, 14), (3, 3)):
        paint_ellipsoid(hu, grid, -600.0, (left + z, -20, x * width), (radius, 14, radius * 1.4), 40 * radius)


def _paint_mediastinum(hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> np.ndarray:
    """Paint fatty mediastinum, heart, aorta; return the occupancy (D, H, W) of everything between the lungs."""
    z, y, x = grid.axes
    occupancy = np.zeros_like(hu)
    scale, apex, spine_y = anatomy.scale, anatomy.apex_z, anatomy.spine_y
    knots = apex + scale * np.array([-330.0, -150, -110, -70, -30, 10, 60])
    half = np.interp(z, knots, scale * np.array([24.0, 24, 25, 26, 28, 34, 38])).astype(np.float32)
    box, (z, y, x) = grid.box((-260, -anatomy.half_depth, -54 * scale), (apex + 90, anatomy.half_depth, 54 * scale))
    x = x - anatomy.spine_x(z)
    radius = np.abs((x + 1) / half[box[0]]) ** np.float32(1.8) + ((y + 2) / np.float32(0.74 * anatomy.half_depth)) ** 2
    # the tissue next to the spine, where pleura does not reach
    behind = ((x - 1) / np.float32(23 * scale)) ** 2 + ((y - np.float32(spine_y + 12)) / np.float32(38 * scale)) ** 2
    column = inside((1 - np.minimum(radius, behind)) * np.float32(14), grid.edge_mm)
    paint(hu, column * (z > anatomy.dome_z[0]) * (z < apex - 10), np.float32(-30), box)
    occupancy[box] = column
    for center, radii, tilt in heart_parts(anatomy):
        reach = max(radii)
        box, axes = grid.box(np.subtract(center, reach), np.add(center, reach))
        part = ellipsoid(axes, center, radii, grid.edge_mm, tilt)
        paint(hu, part, np.float32(HEART_HU), box)
        np.maximum(occupancy[box], part, out=occupancy[box])
    vessels, box = paint_tubes(hu, grid, BLOOD_HU, *aorta_path(anatomy, grid.edge_mm))
    np.maximum(occupancy[box], vessels, out=occupancy[box])
    calcified_arch(hu, grid, anatomy)
    return occupancy
