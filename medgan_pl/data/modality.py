"""The protocol of a modality: its files, how they are read, the unit of their values, and its embedded cohort."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Unit
from medgan_pl.data.phantom import Patient
from medgan_pl.data.readers.anatomy import Choice
from medgan_pl.data.readers.gather import Gathered
from medgan_pl.data.readers.scan import Scan


def noun(modality: "Modality") -> str:
    """Return the word for the scans of a modality: films, slices (single ones, in pictures) or volumes."""
    if modality.spatial_dims == 3:
        return "volumes"
    return "films" if modality.name == "CR" else "slices"


class Modality(Protocol):
    """A kind of scan. It keeps each argument of its constructor as an attribute of the same name, so that a checkpoint can store it.

    - `name`: the DICOM name. `spatial_dims`: of its scans. `kinds`: the kinds of file, for messages.
    - `settings`: all settings that `read` depends on besides the file.
    - `series`: the regular expression that chooses DICOM series by their description; None: all of the modality.
    - `choice`: the whole choice of DICOM series, which holds `series`.
    - `classes`: of the embedded cohort, in the order of `label`. `structures`: those with masks in the cohort.
    """

    name: str
    spatial_dims: int
    kinds: str
    settings: Mapping[str, Any]
    classes: tuple[str, ...]
    structures: tuple[str, ...]
    series: str | None
    choice: Choice

    def takes(self, path: Path) -> bool:
        """Return True if the file may hold such an image, by its name or its first bytes."""

    def gather(self, items: Sequence[Item]) -> Gathered:
        """Return the scans among files, each with its DICOM patient."""

    def read(self, item: Item) -> Scan:
        """Return the scan. Raise ScanError for a file with faulty content."""

    def read_mask(self, item: Item) -> Scan:
        """Return the stored numbers of a mask of such scans, which are no intensities. Raise ScanError as `read`."""

    def choosing(self, series: str | None) -> "Modality":
        """Return the modality that takes the DICOM series of this description. Raise ValueError if it has no series."""

    def doubt(self, item: Item, scan: Scan, low: float) -> str | None:
        """Return the reason why the values of a scan do not fit this modality, or None; None also if the files name the modality.

        `low` is the native value that becomes -1.
        """

    def unit(self, scan: Scan) -> Unit:
        """Return the unit of the values of a scan."""

    def simulate(self, patient: Patient, shape: tuple[int, ...]) -> Scan:
        """Return the scan of a patient of the embedded cohort."""

    def label(self, patient: Patient) -> int:
        """Return the class of a patient of the embedded cohort, as an index of `classes`."""

    def masks(self, patient: Patient, shape: tuple[int, ...], names: Sequence[str]) -> np.ndarray:
        """Return masks on the voxels of `simulate`; see `phantom.structures`."""
