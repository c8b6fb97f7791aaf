"""Doubts about the unit of a scan: CT that is not in HU, and HU that are read as a signal."""

from collections.abc import Mapping

import numpy as np

from medgan_pl.data.files.names import VOLUMES
from medgan_pl.data.files.records import Item
from medgan_pl.data.hounsfield import no_hu
from medgan_pl.data.intensity import seen
from medgan_pl.data.readers.scan import Scan

# Air is -1000 HU, and only voxels with air lie below fat (-100 HU). A signal has such values only where interpolation rings, in FEW % of
# its voxels.
FROM_AIR_HU, NO_TISSUE_HU, FEW = -900, -200, 1


def not_a_signal(item: Item, scan: Scan) -> str | None:
    """Return the reason why values are HU and no signal, or None: many lie below fat. None also if the files name their modality."""
    low_value = float(np.percentile(seen(scan, nonzero=False), FEW))
    if says_modality(item) or not low_value < NO_TISSUE_HU:
        return None
    return f"{FEW} % of its values are at most {low_value:.4g}; a signal is not below {NO_TISSUE_HU}, but HU of air are"


def unlike_hu(item: Item, low: float, minimum: float, found: Mapping[str, float] | None) -> str | None:
    """Return the reason why values of at least `minimum` and of the `hounsfield.shares` found are no HU, or None.

    The window begins at air, `low`, and the scan has none. A tightly cropped brain and its window have no air. Files that name their
    modality are judged by the shares alone: a series may show a field inside the body.
    Of pictures, whose HU the user states, `found` is None.
    """
    if low > FROM_AIR_HU or found is None:
        return None
    if says_modality(item) or minimum < NO_TISSUE_HU:
        return no_hu(found)
    return f"the window of training begins at {low:g} HU, but its minimum is {minimum:g}, while air is below {NO_TISSUE_HU}"


def says_modality(item: Item) -> bool:
    """Return True if the files name their modality, as DICOM does, or the user states what pictures hold."""
    return not item.paths[0].name.lower().endswith(VOLUMES)
