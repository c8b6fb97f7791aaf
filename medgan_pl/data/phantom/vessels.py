"""Tubes of the chest: aorta and great veins, pulmonary trees, trachea and bronchi."""

import numpy as np

from medgan_pl.data.phantom.anatomy import Anatomy
from medgan_pl.data.phantom.raster import Grid, paint_tubes, splat, sweep


def _arch(anatomy: Anatomy) -> np.ndarray:
    """Return knots (K, 3) of the aorta from valve to diaphragm; with age the arch rises and widens, the descending part bows left."""
    s, unfold = anatomy.scale, anatomy.aorta_unfolding
    knots = [
        (-20, -28, 6),
        (12, -30, -12 - 7 * unfold),
        (38, -22, -10 - 6 * unfold),
        (56 + 4 * unfold, -2, 6),
        (52 + 4 * unfold, 18, 21 + 7 * unfold),
        (32, 34, 24 + 8 * unfold),
        (0, 40, 22 + 10 * unfold),
        (-50, 42, 18 + 8 * unfold),
        (-110, 40, 10 + 3 * unfold),
        (-170, 38, 6),
    ]
    return np.array(knots) * s


def aorta_path(anatomy: Anatomy, edge_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points (N, 3) and radii (N,) of the great vessels: aorta, superior vena cava, pulmonary trunk and its two branches."""
    s, step = anatomy.scale, max(4.0, 0.8 * edge_mm)
    tubes = [
        (_arch(anatomy), anatomy.aorta_radius),
        (s * np.array([(100, -15, -20), (55, -15, -24), (5, -15, -24)]), 9.5 * s),
        (s * np.array([(-20, -38, 12), (5, -25, 18), (16, -5, 22)]), 12.0 * s),
        (s * np.array([(14, 0, 20), (10, 5, -10), (4, 6, -38)]), 9.0 * s),
        (s * np.array([(16, -2, 26), (17, 8, 40)]), 10.0 * s),
    ]
    paths = [sweep(knots, step) for knots, _ in tubes]
    radii = [np.full(len(path), radius) for path, (_, radius) in zip(paths, tubes, strict=True)]
    # the aorta tapers by a quarter
    radii[0] = radii[0] * np.linspace(1.1, 0.85, len(radii[0]))
    return np.concatenate(paths), np.concatenate(radii)


def calcified_arch(hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> None:
    """Paint a crescent of calcium in the wall of the aortic knob, with the thickness of `anatomy.calcification`; in place."""
    if anatomy.calcification <= 0:
        return
    arch = sweep(_arch(anatomy)[3:6] + np.array([0, 0, 0.85 * anatomy.aorta_radius]), 2.0)
    paint_tubes(hu, grid, 700.0, arch, 1.0 + 1.6 * anatomy.calcification)


def add_airways(hu: np.ndarray, grid: Grid, anatomy: Anatomy) -> None:
    """Paint trachea, both main bronchi and the intermediate ones as air; in place."""
    s, x = anatomy.scale, anatomy.carina_x
    carina = (22 * s, 14 * s, x - 3 * s)
    knots = [
        ([(anatomy.apex_z + 90, -12, 0), (anatomy.apex_z, 0, 0), (70 * s, 8, x - 2), carina], 8.6 * s),
        ([carina, (4 * s, 17 * s, x - 22 * s), (-16 * s, 20 * s, x - 36 * s)], 6.5 * s),
        ([carina, (8 * s, 18 * s, x + 20 * s), (-4 * s, 22 * s, x + 42 * s)], 5.6 * s),
    ]
    paths = [(sweep(line, max(3.0, 0.7 * grid.edge_mm)), radius) for line, radius in knots]
    points = np.concatenate([path for path, _ in paths])
    paint_tubes(hu, grid, -980.0, points, np.concatenate([np.full(len(path), radius) for path, radius in paths]))


def lung_vessels(volume: np.ndarray, grid: Grid, anatomy: Anatomy, rng: np.random.Generator) -> None:
    """Raise `volume` to the occupancy of the pulmonary vessels: from each hilum ten stems, each with five forks.

    Radii follow Murray's law, r³ = r₁³ + r₂³, so 2^(-1/3) a fork; the lower lobes have larger vessels (upright flow).
    """
    s = anatomy.scale
    for side, hilum in ((-1, (-2, 8, -34)), (1, (8, 10, 36))):
        stems = 10
        # stems fan out in the coronal plane from steeply up to steeply down
        angle = np.deg2rad(np.linspace(72, -78, stems) + rng.normal(0, 6, stems))
        depth = rng.normal(0, 0.45, stems)
        heading = np.stack([np.sin(angle), depth, side * np.cos(angle)], axis=1)
        start = np.tile(np.array(hilum) * s, (stems, 1)) + rng.normal(0, 4, (stems, 3))
        radius = 4.6 * s * (1 - 0.25 * np.sin(angle)) * np.exp(rng.normal(0, 0.1, stems))
        length = (30 - 9 * np.sin(angle)) * s
        for _ in range(5):
            heading /= np.linalg.norm(heading, axis=1, keepdims=True)
            end = start + heading * length[:, None]
            pieces = max(2, int(np.ceil(length.mean() / max(2.5, 0.9 * grid.edge_mm))))
            along = np.linspace(0, 1, pieces)[None, :, None]
            taper = np.linspace(1, 0.85, pieces)
            points = (start[:, None] + along * (end - start)[:, None]).reshape(-1, 3)
            splat(volume, grid, points, (radius[:, None] * taper).ravel())
            start, radius, length = end.repeat(2, axis=0), radius.repeat(2) * 2 ** (-1 / 3) * 0.92, length.repeat(2) * 0.82
            heading = heading.repeat(2, axis=0) + rng.normal(0, 0.42, (len(radius), 3))
