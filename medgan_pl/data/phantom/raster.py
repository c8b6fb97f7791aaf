"""Rasterize shapes in millimeters: every edge is one voxel soft, so that a thin rib or vessel keeps its mass on a coarse grid.

Coordinates are the patient's, in millimeters and in array order (z, y, x): z towards the head, y towards the back, x towards the patient's
left (DICOM's LPS reversed). Voxel (0, 0, 0) is the lowest, most anterior, right-most one, so that an axial slice `volume[k]` is in a
radiologist's view: front on top, the patient's right on the left.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

Axes = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Grid:
    """A regular grid of `size` voxels (D, H, W) over `field_mm` (z, y, x), its center at `center_mm`."""

    size: tuple[int, int, int]
    field_mm: tuple[float, float, float]
    center_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        return tuple(f / n for f, n in zip(self.field_mm, self.size, strict=True))

    @cached_property
    def origin_mm(self) -> np.ndarray:
        """Return the center (3,) of voxel (0, 0, 0)."""
        spacing = np.array(self.spacing_mm)
        return np.array(self.center_mm) - spacing * (np.array(self.size) - 1) / 2

    @cached_property
    def edge_mm(self) -> float:
        """Return the width of a soft edge: the mean voxel side."""
        return float(np.mean(self.spacing_mm))

    @cached_property
    def axes(self) -> Axes:
        """Return z (D, 1, 1), y (1, H, 1), x (1, 1, W) of the voxel centers."""
        lines = (o + s * np.arange(n) for o, s, n in zip(self.origin_mm, self.spacing_mm, self.size, strict=True))
        z, y, x = (line.astype(np.float32) for line in lines)
        return z[:, None, None], y[None, :, None], x[None, None, :]

    def crop(self, box: tuple[slice, slice, slice]) -> "Grid":
        """Return the grid of the voxels in `box`."""
        size = tuple(part.stop - part.start for part in box)
        middle = [(part.start + part.stop - 1) / 2 for part in box]
        center = tuple(float(o + s * m) for o, s, m in zip(self.origin_mm, self.spacing_mm, middle, strict=True))
        return Grid(size, tuple(n * s for n, s in zip(size, self.spacing_mm, strict=True)), center)

    def box(self, low_mm, high_mm) -> tuple[tuple[slice, slice, slice], Axes]:
        """Return the slices and axes of the voxels between two corners (z, y, x), one soft edge wider."""
        slices = []
        for low, high, origin, step, count in zip(low_mm, high_mm, self.origin_mm, self.spacing_mm, self.size, strict=True):
            start, stop = np.floor((low - origin) / step - 0.5), np.ceil((high - origin) / step + 0.5) + 1
            slices.append(slice(int(np.clip(start, 0, count)), int(np.clip(stop, 0, count))))
        z, y, x = self.axes
        return tuple(slices), (z[slices[0]], y[:, slices[1]], x[..., slices[2]])


def inside(distance_mm: np.ndarray, edge_mm: float) -> np.ndarray:
    """Return the occupancy in [0, 1] from the depth below a surface (positive inside): ½ on it, linear over one `edge_mm`."""
    occupancy = distance_mm * np.float32(1 / edge_mm)
    occupancy += np.float32(0.5)
    return np.clip(occupancy, 0, 1, out=occupancy)


def ellipsoid(axes: Axes, center_mm, radii_mm, edge_mm: float, tilt_deg: float = 0.0) -> np.ndarray:
    """Return the occupancy of an ellipsoid, tilted about y: for a positive angle its x axis points down on the patient's left."""
    z, y, x = (axis - np.float32(c) for axis, c in zip(axes, center_mm, strict=True))
    cosine, sine = np.float32(np.cos(np.deg2rad(tilt_deg))), np.float32(np.sin(np.deg2rad(tilt_deg)))
    along, across = cosine * x - sine * z, sine * x + cosine * z
    radii = [np.float32(r) for r in radii_mm]
    radius = np.sqrt((across / radii[0]) ** 2 + (along / radii[2]) ** 2 + (y / radii[1]) ** 2)
    return inside((1 - radius) * min(radii), edge_mm)


def paint(volume: np.ndarray, occupancy: np.ndarray, value, box=...) -> None:
    """Blend `value` into `volume[box]` by `occupancy`, in place."""
    part = volume[box]
    change = value - part
    change *= occupancy
    part += change


def paint_ellipsoid(volume: np.ndarray, grid: Grid, value, center_mm, radii_mm, tilt_deg: float = 0.0) -> None:
    """Paint an ellipsoid into `volume`, changing only its bounding box."""
    reach = (max(radii_mm),) * 3 if tilt_deg else radii_mm
    box, axes = grid.box(np.subtract(center_mm, reach), np.add(center_mm, reach))
    paint(volume, ellipsoid(axes, center_mm, radii_mm, grid.edge_mm, tilt_deg), np.float32(value), box)


def sweep(knots_mm, step_mm: float) -> np.ndarray:
    """Return points (N, 3) every `step_mm` along a smooth curve (Catmull-Rom) through the knots (K, 3)."""
    knots = np.asarray(knots_mm, dtype=np.float64)
    padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    length = np.linalg.norm(np.diff(knots, axis=0), axis=1).sum()
    t = np.linspace(0, len(knots) - 1, max(2, int(length / step_mm) + 1))
    first = np.minimum(t.astype(int), len(knots) - 2)
    u = (t - first)[:, None]
    p0, p1, p2, p3 = (padded[first + k] for k in range(4))
    return 0.5 * (2 * p1 + (p2 - p0) * u + (2 * p0 - 5 * p1 + 4 * p2 - p3) * u**2 + (3 * (p1 - p2) + p3 - p0) * u**3)


def splat(volume: np.ndarray, grid: Grid, points_mm: np.ndarray, radii_mm, stretch=(1.0, 1.0, 1.0)) -> None:
    """Raise `volume` to the occupancy of balls of `radii_mm` (N,) at `points_mm` (N, 3), each axis scaled by `stretch`; in place.

    A chain of balls is a tube. A ball thinner than a voxel is one voxel thick, with an occupancy in proportion to its cross-section.
    """
    radii = np.broadcast_to(np.asarray(radii_mm, dtype=np.float64), len(points_mm))
    drawn = np.maximum(radii, 0.6 * grid.edge_mm).astype(np.float32)
    reach = drawn.max() + grid.edge_mm / 2
    indices, squares = [], []
    for axis in range(3):
        step = grid.spacing_mm[axis]
        position = (points_mm[:, axis] - grid.origin_mm[axis]) / step
        extent = reach * stretch[axis] / step
        index = np.ceil(position - extent).astype(np.int64)[:, None] + np.arange(int(2 * extent) + 1)
        distance = (index - position[:, None]) * (step / stretch[axis])
        outside = (index < 0) | (index >= grid.size[axis])
        squares.append(np.where(outside, 1e6, distance**2).astype(np.float32))
        indices.append(np.clip(index, 0, grid.size[axis] - 1))
    _, height, width = grid.size
    distance = np.sqrt(squares[0][:, :, None, None] + squares[1][:, None, :, None] + squares[2][:, None, None, :])
    occupancy = inside(drawn[:, None, None, None] - distance, grid.edge_mm)
    occupancy *= ((radii / drawn) ** 2).astype(np.float32)[:, None, None, None]
    flat = indices[0][:, :, None, None] * (height * width) + indices[1][:, None, :, None] * width + indices[2][:, None, None, :]
    hit = occupancy > 0
    np.maximum.at(volume.reshape(-1), flat[hit], occupancy[hit])


def paint_tubes(volume: np.ndarray, grid: Grid, value: float, points_mm, radii_mm, stretch=(1.0, 1.0, 1.0)):
    """Paint chains of balls (see `splat`) into `volume` in place; return their occupancy and its box."""
    reach = (np.max(radii_mm) + 2 * grid.edge_mm) * np.array(stretch)
    box, _ = grid.box(points_mm.min(axis=0) - reach, points_mm.max(axis=0) + reach)
    part = grid.crop(box)
    occupancy = np.zeros(part.size, dtype=np.float32)
    splat(occupancy, part, points_mm, radii_mm, stretch)
    paint(volume, occupancy, np.float32(value), box)
    return occupancy, box


def lattice_noise(rng: np.random.Generator, axes: Axes, period_mm: float, low_mm, high_mm) -> np.ndarray:
    """Return smooth noise with unit variance at its knots, every `period_mm` between two corners; equal at any resolution."""
    counts = [int(np.ceil((h - lo) / period_mm)) + 2 for lo, h in zip(low_mm, high_mm, strict=True)]
    noise = rng.standard_normal(counts, dtype=np.float32)
    for axis, (coordinates, low) in enumerate(zip(axes, low_mm, strict=True)):
        position = np.clip((coordinates.ravel() - low) / period_mm, 0, counts[axis] - 1.001)
        first = position.astype(int)
        shape = [1, 1, 1]
        shape[axis] = -1
        weight = (position - first).astype(np.float32)
        weight = (weight * weight * (3 - 2 * weight)).reshape(shape)
        near = noise.take(first, axis=axis)
        noise = near + weight * (noise.take(first + 1, axis=axis) - near)
    return noise
