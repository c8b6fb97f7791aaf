"""The grid of a volume's file, to which results are mapped back."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medgan_pl.data.files.names import ITK, NIFTI
from medgan_pl.data.readers.header import read_header
from medgan_pl.data.readers.itk_headers import meta_fields, meta_layout, nrrd_fields, nrrd_layout
from medgan_pl.data.readers.nifti import PIECE, Inflated, affine_of, header_of, regular
from medgan_pl.data.readers.series import grid, in_order


@dataclass(frozen=True)
class Frame:
    """The grid of a file.

    - `affine` (4, 4): indices of the file's axes, slowest first (slice, row, column of a series; z, y, x of a NIfTI) -> RAS+ mm.
    - `order`, `signs`: for each axis of the canonical volume the file's axis, and 1 for the same direction, -1 for the opposite one.
    """

    affine: np.ndarray
    order: tuple[int, ...]
    signs: tuple[int, ...]

    @classmethod
    def of(cls, affine: np.ndarray, canonical: np.ndarray) -> "Frame":
        """Return the frame of a volume whose Scan has the affine `canonical`."""
        turn = np.rint(np.linalg.solve(affine[:3, :3], canonical[:3, :3]))  # canonical steps in the file's steps
        order = np.abs(turn).argmax(0)
        return cls(affine, tuple(order.tolist()), tuple(int(turn[axis, i]) for i, axis in enumerate(order)))

    def own(self, values: np.ndarray) -> np.ndarray:
        """Return a canonical volume, on the volume's grid or a finer one, in the file's axes; it may be a view."""
        turned = values[tuple(slice(None, None, sign) for sign in self.signs)]
        return turned.transpose(np.argsort(self.order))

    def finer(self, factors: Sequence[int]) -> np.ndarray:
        """Return the affine of a grid with `factors` times as many voxels along each canonical axis, over the same field."""
        change = np.eye(4)
        for axis, factor in zip(self.order, factors, strict=True):
            change[axis, axis] = 1 / factor
            change[axis, 3] = (1 / factor - 1) / 2  # voxel centers: half a new voxel lies inside the old border
        return self.affine @ change


def frame_of(paths: Sequence[Path], canonical: np.ndarray) -> Frame:
    """Return the frame of the volume in these files. Raise ScanError as their reader does."""
    name = paths[0].name.lower()
    if name.endswith((*NIFTI, *ITK)):
        affine = nifti_affine(paths[0]) if name.endswith(NIFTI) else itk_affine(paths[0])
        return Frame.of(affine[:, [2, 1, 0, 3]], canonical)
    return Frame.of(grid(in_order([read_header(path) for path in paths])), canonical)


def nifti_affine(path: Path) -> np.ndarray:
    """Return the affine (4, 4), indices (x, y, z) -> RAS+ mm, from the header."""
    with regular(path).open("rb") as file:
        packed = file.peek(2)[:2] == b"\x1f\x8b"
        return affine_of(header_of(io.BufferedReader(Inflated(file), PIECE) if packed else file)[0])


def itk_affine(path: Path) -> np.ndarray:
    with regular(path).open("rb") as file:
        nrrd = file.peek(4)[:4] == b"NRRD"
        return (nrrd_layout(nrrd_fields(file)) if nrrd else meta_layout(meta_fields(file))).affine
