"""A head in three dimensions, its magnetic resonance signal and its CT; all images of a patient's head share one grid and one anatomy."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from medgan_pl.data.phantom.patient import Patient
from medgan_pl.data.phantom.raster import Axes, Grid, ellipsoid, inside, lattice_noise, paint, splat, sweep
from medgan_pl.data.phantom.thorax import AIR_HU, FAT_HU, MUSCLE_HU

# T1 (ms), T2 (ms), proton density of a tissue at 1.5 T: Kwan, Evans & Pike 1999 (BrainWeb), IEEE TMI 18:1085; air and compact bone give
# no signal. Deep gray matter: gray matter with T2 shortened by iron (our choice); lesion: edema and tumor, longer than all but water
# (Just & Thelen 1988, Radiology 169:779, rounded).
RELAXATION = {
    "air": (1.0, 1.0, 0.0),
    "fat": (350.0, 70.0, 1.0),
    "muscle": (900.0, 47.0, 1.0),
    "skull": (1.0, 1.0, 0.0),
    "csf": (2569.0, 329.0, 1.0),
    "white": (500.0, 70.0, 0.77),
    "grey": (833.0, 83.0, 0.86),
    "deep_grey": (750.0, 75.0, 0.84),
    "lesion": (1250.0, 150.0, 0.9),
}
TISSUES = tuple(RELAXATION)

# White matter: Cala et al. 1981, AJNR 2:41, rounded; gray matter lies 5.5 HU above it by its composition (Brooks, Di Chiro & Keller 1980,
# J Comput Assist Tomogr 4:489) and about 8 as commonly read. The skull is the mean of its tables and the marrow between them. Edema lies
# between white matter and water. The rest as in the chest.
HEAD_HU = {
    "air": AIR_HU,
    "fat": FAT_HU,
    "muscle": MUSCLE_HU,
    "skull": 1000.0,
    "csf": 8.0,
    "white": 29.0,
    "grey": 37.0,
    "deep_grey": 38.0,
    "lesion": 22.0,
}


@dataclass(frozen=True)
class HeadMRI:
    """`signal` (D, H, W) float32, 0 to about 1000, axes as in `ThoraxCT`; `tissue` uint8 of that shape indexes `TISSUES`."""

    signal: np.ndarray
    spacing_mm: tuple[float, float, float]
    tissue: np.ndarray
    lesion_mask: np.ndarray


@dataclass(frozen=True)
class HeadCT:
    """`hu` (D, H, W) float32, axes as in `ThoraxCT`; `tissue` uint8 of that shape indexes `TISSUES`."""

    hu: np.ndarray
    spacing_mm: tuple[float, float, float]
    tissue: np.ndarray
    lesion_mask: np.ndarray


def spin_echo(t1_ms: float, t2_ms: float, density: float, tr_ms: float, te_ms: float, ti_ms: float | None = None) -> float:
    """Return S = PD (1 - exp(-TR / T1)) exp(-TE / T2), after an inversion PD (1 - 2 exp(-TI / T1) + exp(-TR / T1)) exp(-TE / T2).

    It is in the units of PD, below 0 before the inverted magnetization has recovered (an image shows the magnitude), and 0 at
    TI = T1 ln(2 / (1 + exp(-TR / T1))). Source: Bernstein, King & Zhou, Handbook of MRI Pulse Sequences, 2004, sections 14.2 and 14.3.
    """
    recovered = 1 - np.exp(-tr_ms / t1_ms) if ti_ms is None else 1 - 2 * np.exp(-ti_ms / t1_ms) + np.exp(-tr_ms / t1_ms)
    return float(density * recovered * np.exp(-te_ms / t2_ms))


def check_times(tr_ms: float, te_ms: float, ti_ms: float | None = None) -> None:
    """Raise ValueError for times that no spin echo can have."""
    if min(tr_ms, te_ms) <= 0:
        raise ValueError(f"`tr_ms` and `te_ms` must be above 0, got {tr_ms} and {te_ms}; use 500 and 15, or 4000 and 100")
    if ti_ms is not None and not 0 < ti_ms < tr_ms:
        raise ValueError(f"`ti_ms` must lie between 0 and `tr_ms`, got {ti_ms} and {tr_ms}; FLAIR is tr_ms=9000, te_ms=120, ti_ms=1700")


def head_mri(
    patient: Patient, *, size: tuple[int, int, int] = (64, 64, 64), tr_ms: float = 500.0, te_ms: float = 15.0, ti_ms: float | None = None,
    noise: float = 0.008, bias: float = 0.1, lesion: bool = False,
) -> HeadMRI:  # fmt: skip
    """Return a spin-echo head of `patient`: TR 500, TE 15 ms is T1-weighted; TR 4000, TE 100 ms T2-weighted. Field 180 × 216 × 180 mm.

    `ti_ms` adds an inversion: TR 9000, TE 120, TI 1700 ms is FLAIR, in which water is dark (the usual TI of 2500 ms nulls water of a
    longer T1 than BrainWeb's). `noise` is the Rician noise's σ and `bias` the amplitude of the coil's smooth shading, both as parts of the
    full signal (PD 1). Atrophy (sulci, ventricles) grows with age; `lesion` adds a tumor of 15 to 40 mm. Noise differs between TR, TE and
    TI, anatomy does not. Raise ValueError for fewer than 8 voxels a side and for times, noise and bias out of range.
    """
    check_times(tr_ms, te_ms, ti_ms)
    if noise < 0 or not 0 <= bias < 0.5:
        raise ValueError(f"`noise` must be 0 or more and `bias` in [0, 0.5), got {noise} and {bias}")
    grid = _head_grid(size)
    signal, tissue = _painted(patient, grid, {name: spin_echo(*RELAXATION[name], tr_ms, te_ms, ti_ms) for name in TISSUES}, lesion)
    shading = lattice_noise(patient.rng("head"), grid.axes, 110.0, (-110,) * 3, (110,) * 3)
    signal *= 1 + np.float32(bias / 2) * np.clip(shading, -2, 2)
    key = patient.rng("mri").integers(2**32, size=4).tolist()
    rng = np.random.default_rng([*key, *(round(time * 1000) for time in (tr_ms, te_ms, ti_ms) if time is not None)])
    real, imaginary = noise * rng.standard_normal((2, *grid.size), dtype=np.float32)
    signal = 1000 * np.hypot(signal + real, imaginary)
    return HeadMRI(signal.astype(np.float32), grid.spacing_mm, tissue, tissue == TISSUES.index("lesion"))


def head_ct(patient: Patient, *, size: tuple[int, int, int] = (64, 64, 64), noise_hu: float = 4.0, lesion: bool = False) -> HeadCT:
    """Return a CT of the head of `head_mri`, on the same grid, with white noise of `noise_hu`, clipped at -1024 HU.

    Raise ValueError for fewer than 8 voxels a side and for noise below 0.
    """
    if noise_hu < 0:
        raise ValueError(f"`noise_hu` must be 0 or more, got {noise_hu}")
    grid = _head_grid(size)
    hu, tissue = _painted(patient, grid, HEAD_HU, lesion)
    hu += np.float32(noise_hu) * patient.rng("head_ct").standard_normal(grid.size, dtype=np.float32)
    return HeadCT(np.maximum(hu, -1024), grid.spacing_mm, tissue, tissue == TISSUES.index("lesion"))


def _head_grid(size: tuple[int, int, int]) -> Grid:
    if len(size) != 3 or min(size) < 8:
        raise ValueError(f"`size` must be three counts (D, H, W) of 8 or more, got {size}; use (64, 64, 64)")
    return Grid(tuple(size), (180.0, 216.0, 180.0), (8.0, 0.0, 0.0))


def _painted(patient: Patient, grid: Grid, values: Mapping[str, float], lesion: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the head in the `values` of its tissues, float32, and the main tissue of each voxel, uint8; both (D, H, W)."""
    image = np.full(grid.size, values["air"], dtype=np.float32)
    tissue = np.full(grid.size, TISSUES.index("air"), dtype=np.uint8)
    for name, occupancy in head_tissues(patient, grid, lesion):
        paint(image, occupancy, np.float32(values[name]))
        tissue[occupancy > 0.5] = TISSUES.index(name)
    return image, tissue


def _folds(rng: np.random.Generator, axes: Axes, period_mm: float, waves: int = 28) -> np.ndarray:
    """Return the approximate distance (mm) to the sulci: thin, winding sheets, the zeros of a sum of plane waves of one wavelength."""
    direction = rng.standard_normal((waves, 3))
    direction *= 2 * np.pi / period_mm / np.linalg.norm(direction, axis=1, keepdims=True)
    phase = rng.uniform(0, 2 * np.pi, waves)
    total = 0.0
    for wave, offset in zip(direction, phase, strict=True):
        z, y, x = (np.exp(1j * k * axis).astype(np.complex64) for k, axis in zip(wave, axes, strict=True))
        total = total + ((z * np.complex64(np.exp(1j * offset))) * y * x).real
    return np.abs(total) / np.float32(np.sqrt(waves / 2) * 2 * np.pi / period_mm / np.sqrt(3))


def _brain_depth(axes: Axes, scale: float) -> np.ndarray:
    """Return the approximate depth (mm) in the cerebrum: an ellipsoid, flatter at its base and narrower in front; negative outside."""
    z, y, x = axes
    height = np.where(z > 0, 66 * scale, 44 * scale).astype(np.float32)
    width = scale * (66 + np.float32(0.06) * np.clip(y, -80, 40))
    radius = np.sqrt((z / height) ** 2 + (y / np.float32(83 * scale)) ** 2 + (x / width) ** 2)
    return (1 - radius) * np.float32(64 * scale)


def head_tissues(patient: Patient, grid: Grid, lesion: bool = False):
    """Yield the head's parts in order of painting: (name in `TISSUES`, occupancy (D, H, W) in [0, 1]); later ones cover earlier ones."""
    rng, edge = patient.rng("head"), grid.edge_mm
    z, y, x = axes = grid.axes
    scale = (1.0 if patient.sex == "M" else 0.95) * (1 + 0.025 * rng.standard_normal())
    atrophy = float(np.clip((patient.age_years - 30) / 50 + 0.15 * rng.standard_normal(), 0, 1.3))
    depth = _brain_depth(axes, scale)
    folds = _folds(rng, axes, 21.0 * scale)
    gap, skull, scalp = 2.5 + 2.5 * atrophy, 6.5, 5 + 0.1 * (patient.bmi - 25)
    # below the skull base are face and neck
    below = np.sqrt((y / np.float32(88 * scale)) ** 2 + (x / np.float32(72 * scale)) ** 2)
    trunk = np.where(z < 0, (1 - below) * np.float32(68 * scale) + gap, -50)
    head = np.maximum(depth + gap, trunk)
    yield "fat", inside(head + skull + scalp, edge)
    yield "muscle", inside(trunk + 3, edge) * (lattice_noise(rng, axes, 16.0, (-130,) * 3, (130,) * 3) > -0.4)
    yield "skull", inside(depth + gap + skull, edge)
    for side in (-1, 1):
        yield "csf", ellipsoid(axes, (-36 * scale, -78 * scale, side * 31 * scale), (12, 12, 12), edge)
    yield "csf", inside(depth + gap, edge)
    yield from _cerebrum(axes, depth, folds, scale, atrophy, edge)
    yield from _deep_parts(grid, folds, scale, atrophy)
    if lesion:
        radius = rng.uniform(7.5, 20)
        center = (rng.uniform(0, 30) * scale, rng.uniform(-45, 45) * scale, rng.choice((-1, 1)) * 34 * scale)
        ragged = 2.5 * lattice_noise(rng, axes, 9.0, (-130,) * 3, (130,) * 3)
        away = np.sqrt(sum((axis - np.float32(c)) ** 2 for axis, c in zip(axes, center, strict=True)))
        yield "lesion", inside(np.minimum(radius + ragged - away, depth), edge)


def _cerebrum(axes: Axes, depth: np.ndarray, folds: np.ndarray, scale: float, atrophy: float, edge: float):
    """Yield white matter, the folded cortex of 3 mm on both sides of each sulcus, the sulci's water, the fissure between hemispheres."""
    z, _, x = axes
    sulcus = 0.3 + 0.7 * atrophy
    yield "white", inside(depth, edge)
    brain = inside(depth, edge)
    bank = inside(sulcus + 3.0 - folds, edge) * inside(21 * scale - depth, edge)
    yield "grey", np.maximum(bank, inside(2.8 - depth, edge)) * brain
    fissure = (depth < 34 * scale) & ((z > 12 * scale) | (depth < 26 * scale))
    yield "grey", inside(1 + sulcus + 2.5 - np.abs(x), edge) * brain * fissure
    water = inside(sulcus - folds, edge) * inside(19 * scale - depth, edge)
    yield "csf", np.maximum(water, inside(0.6 + sulcus - np.abs(x), edge) * fissure) * brain


def _deep_parts(grid: Grid, folds: np.ndarray, scale: float, atrophy: float):
    """Yield basal ganglia and thalami, ventricles, brainstem, cerebellum."""
    axes, edge = grid.axes, grid.edge_mm
    stem, ventricles = np.zeros(grid.size, dtype=np.float32), np.zeros(grid.size, dtype=np.float32)
    path = sweep(np.array([(-2, 10, 0), (-35, 14, 0), (-110, 26, 0)]) * scale, 3.0)
    splat(stem, grid, path, np.interp(path[:, 0], [-70, -35, -10], [8, 13, 11]) * scale)
    yield "white", stem
    cerebellum = ellipsoid(axes, (-46 * scale, 46 * scale, 0), (24 * scale, 29 * scale, 46 * scale), edge)
    yield "grey", cerebellum
    core = ellipsoid(axes, (-44 * scale, 42 * scale, 0), (15 * scale, 18 * scale, 36 * scale), edge)
    yield "white", core * inside(folds - 1.5, edge)
    for side in (-1, 1):
        for center, radii in (((12, -18, 16), (9, 13, 5)), ((3, 9, 11), (9, 14, 9)), ((2, -5, 27), (11, 17, 5))):
            placed = np.array(center) * (1, 1, side) * scale
            yield "deep_grey", ellipsoid(axes, placed, np.array(radii) * scale, edge)
        horn = np.array([(8, -32, 9), (17, -14, 9), (21, 8, 11), (14, 28, 18), (2, 38, 25)]) * (1, 1, side) * scale
        path = sweep(horn, 2.0)
        splat(ventricles, grid, path, (3.2 + 4.0 * atrophy) * scale * np.linspace(1, 1.25, len(path)), stretch=(1.2, 1.0, 0.9))
    third = ellipsoid(axes, (0, 2 * scale, 0), (10 * scale, 13 * scale, 1.2 + 2.5 * atrophy), edge)
    fourth = ellipsoid(axes, (-40 * scale, 29 * scale, 0), (9 * scale, 5 * scale, 6 * scale), edge)
    yield "csf", np.maximum(ventricles, np.maximum(third, fourth))
