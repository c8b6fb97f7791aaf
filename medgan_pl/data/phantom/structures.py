"""The cohort's truth as masks: (len(names), *shape) float32 {0, 1}, on the voxels of the image of that shape; they may overlap.

Raise ValueError for a name that the image does not have.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from medgan_pl.data.phantom.film import xray
from medgan_pl.data.phantom.head import TISSUES, head_ct
from medgan_pl.data.phantom.patient import Patient
from medgan_pl.data.phantom.thorax import thorax_ct

CHEST = ("lung", "lesion")  # the lung includes its lesions


def film_masks(patient: Patient, shape: tuple[int, int], names: Sequence[str]) -> np.ndarray:
    """Return the masks of `xray`: the beam crosses enough of each of `CHEST`, see `Film`."""
    _check(names, CHEST)
    film = xray(patient, size_px=shape)
    return _stacked({"lung": film.lung_mask, "lesion": film.lesion_mask}, names)


def chest_masks(patient: Patient, shape: tuple[int, int, int], names: Sequence[str]) -> np.ndarray:
    """Return the masks of `thorax_ct`: voxels that are more than half filled by each of `CHEST`."""
    _check(names, CHEST)
    made = thorax_ct(patient, size=shape)
    return _stacked({"lung": made.lung_mask, "lesion": made.lesion_mask}, names)


def head_masks(patient: Patient, shape: tuple[int, int, int], names: Sequence[str], *, lesion: bool) -> np.ndarray:
    """Return the masks of `head_mri` and `head_ct`: each voxel is of one of `TISSUES`."""
    _check(names, TISSUES)
    tissue = head_ct(patient, size=shape, lesion=lesion).tissue
    return _stacked({name: tissue == number for number, name in enumerate(TISSUES)}, names)


def _check(names: Sequence[str], known: Sequence[str]) -> None:
    strange = [name for name in names if name not in known]
    if strange or not names:
        raise ValueError(f"`structures` must be one or more of {', '.join(known)}, got {', '.join(strange) or 'none'}")


def _stacked(parts: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    return np.stack([parts[name] for name in names]).astype(np.float32)
