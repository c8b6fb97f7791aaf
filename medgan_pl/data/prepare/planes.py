"""The planes in which volumes are cut into slices, and the choice of the plane in which each scan was acquired."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medgan_pl.data.readers.scan import CANONICAL, Scan

if TYPE_CHECKING:
    from medgan_pl.data.prepare.layouts import Layout

(UP, BACK, LEFT), DOWN = CANONICAL, (0.0, 0.0, -1.0)
# For each plane the axis of a canonical volume that it stacks, and the directions of slices, rows and columns, as RAS+ unit vectors.
PLANES = {"axial": (0, CANONICAL), "coronal": (1, (BACK, DOWN, LEFT)), "sagittal": (2, (LEFT, DOWN, BACK))}
# The slices of each scan as they were acquired; of a scan without such slices the axial ones.
ACQUIRED = "acquired"


def acquired_in(scan: Scan) -> str | None:
    """Return the plane in which the scan was acquired, None if no axis stands out."""
    return None if scan.stacked is None else list(PLANES)[scan.stacked]


def plane_along(directions: Sequence[Sequence[float]] | None) -> str | None:
    """Return the plane whose slices, rows and columns have these directions; None for others."""
    return next((name for name, (_, own) in PLANES.items() if directions is not None and [*map(tuple, directions)] == [*own]), None)


def planes_of(entries: Sequence[Mapping[str, Any]]) -> Counter[str]:
    """Return how many scans, entries of the cache, were cut in each plane; empty for films and volumes."""
    return Counter(plane for entry in entries if (plane := entry["facts"].get("plane")))


def plane_lines(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return lines about the planes in which scans were cut: a warning if there are several, and the scans that are cut across."""
    planes = planes_of(entries)
    if not planes:
        return []
    counted = ", ".join(f"{n} scans {plane}" for plane, n in planes.most_common())
    said = [f"slices: {counted}"]
    if len(planes) > 1:
        said = [
            f"WARNING: slices of several planes, each scan's as they were acquired: {counted}; "
            f"data.slices.axis={planes.most_common(1)[0][0]} cuts all scans alike, data.files or data.modality.series chooses some"
        ]
    across = Counter(own for entry in entries if (own := entry["facts"].get("acquired")) not in (None, entry["facts"].get("plane")))
    said += [
        f"{n} scans were acquired in {own} slices and are cut across them, which blurs; data.slices.axis={ACQUIRED} takes their own"
        for own, n in across.items()
    ]
    return said


def settled(layout: "Layout", entries: Sequence[Mapping[str, Any]]) -> "tuple[Layout, tuple[tuple[float, ...], ...] | None]":
    """Return the layout in the plane of all scans, which are entries of the cache, and its directions (`intensity.Inverse`).

    If the scans have several planes, the layout keeps to each scan's own, and the directions are those of most scans.
    """
    planes = planes_of(entries)
    if layout.axis != ACQUIRED or not planes:
        return layout, layout.directions
    most = layout.along(planes.most_common(1)[0][0])
    return (most if len(planes) == 1 else layout), most.directions
