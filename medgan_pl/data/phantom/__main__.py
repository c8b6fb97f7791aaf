"""Draws the contact sheet: `python -m medgan_pl.data.phantom OUT.png [--seed 0] [--patients 24] [--size-px 128]`."""

import argparse
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from medgan_pl.data.phantom import CLASSES, draw_patient, head_ct, head_mri, thorax_ct, xray


def _show(axes, image: np.ndarray, low: float, high: float, title: str, mask: np.ndarray | None = None, aspect: float = 1.0) -> None:
    axes.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="bilinear", aspect=aspect)
    if mask is not None and mask.any():
        axes.contour(mask, levels=[0.5], colors="tab:orange", linewidths=0.7)
    axes.set_title(title, fontsize=5.5, pad=2)
    axes.axis("off")


def contact_sheet(path: Path | str, *, seed: int = 0, patients: int = 24, size_px: int = 128) -> None:
    """Write a PNG: a film of each patient with the disease outlined; CT of one patient of each class; the heads of two."""
    columns = 8
    rows = -(-patients // columns)
    figure = Figure(figsize=(columns * 1.5, (rows + 3) * 1.62), dpi=130)
    FigureCanvasAgg(figure)
    grid = figure.subplots(rows + 3, columns, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.14})
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.98)
    for axes in grid.ravel():
        axes.axis("off")
    cohort = [draw_patient(seed, index) for index in range(max(patients, 100))]
    for axes, patient in zip(grid[:rows].ravel(), cohort[:patients], strict=False):
        film = xray(patient, size_px=size_px)
        title = f"{patient.id} {patient.sex} {patient.age_years:.0f} y BMI {patient.bmi:.0f} {patient.disease}"
        low, high = np.percentile(film.image, (0.5, 99.5))
        _show(axes, film.image, low, high, title, film.lesion_mask)
    ill = [next(patient for patient in cohort if patient.disease == name and patient.severity > 0.3) for name in CLASSES]
    for number, patient in enumerate(ill):
        ct = thorax_ct(patient)
        lesion = ct.lesion_mask.sum(axis=(1, 2)), ct.lesion_mask.sum(axis=(0, 2))
        level = int(lesion[0].argmax()) if ct.lesion_mask.any() else ct.hu.shape[0] // 2
        front = int(lesion[1].argmax()) if ct.lesion_mask.any() else ct.hu.shape[1] // 2
        _show(grid[rows, 2 * number], ct.hu[level], -1000, 400, f"{patient.id} CT axial, {patient.disease}", ct.lesion_mask[level])
        aspect = ct.spacing_mm[0] / ct.spacing_mm[2]
        upright = slice(None, None, -1)
        coronal, outline = ct.hu[upright, front], ct.lesion_mask[upright, front]
        _show(grid[rows, 2 * number + 1], coronal, -1000, 400, f"{patient.id} CT coronal, {patient.disease}", outline, aspect)
    for number, patient in enumerate(cohort[2:4]):
        made = {"size": (80, 96, 80), "lesion": number == 1}
        t1, t2 = head_mri(patient, **made), head_mri(patient, tr_ms=4000, te_ms=100, **made)
        flair, ct = head_mri(patient, tr_ms=9000, te_ms=120, ti_ms=1700, **made), head_ct(patient, **made)
        shown = {"T1": (t1.signal, 0, np.percentile(t1.signal, 97)), "T2": (t2.signal, 0, np.percentile(t2.signal, 99.5))}
        shown |= {"FLAIR": (flair.signal, 0, np.percentile(flair.signal, 99.5)), "CT": (ct.hu, -20, 80)}
        level = int(ct.lesion_mask.sum(axis=(1, 2)).argmax()) or 43
        for offset, (name, (image, low, high)) in enumerate(shown.items()):
            title = f"{patient.id} {patient.age_years:.0f} y, {name}"
            _show(grid[rows + 1, 4 * number + offset], image[level], low, high, f"{title} axial")
            _show(grid[rows + 2, 4 * number + offset], image[::-1, :, 42], low, high, f"{title} sagittal")
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=contact_sheet.__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--patients", type=int, default=24)
    parser.add_argument("--size-px", type=int, default=128)
    chosen = parser.parse_args()
    contact_sheet(chosen.path, seed=chosen.seed, patients=chosen.patients, size_px=chosen.size_px)
