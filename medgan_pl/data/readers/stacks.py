"""Order slices, and divide those of a series that holds several volumes: echoes, times, b-values, directions."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from medgan_pl.data.readers.header import Header
from medgan_pl.data.readers.scan import ScanError

SAME_PLACE_MM = 0.001


def in_order(headers: Sequence[Header]) -> list[Header]:
    if any(header.position is None or header.orientation is None for header in headers):
        return sorted(headers, key=lambda header: (header.instance, header.path))
    *_, normal = directions(headers[0])
    return sorted(headers, key=lambda header: (float(np.dot(header.position, normal)), header.instance, header.path))


def directions(header: Header) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return unit vectors in LPS: the directions of increasing column and row, and their normal; zero if the header has none."""
    across, down = np.array(header.orientation).reshape(2, 3)
    vectors = across, down, np.cross(across, down)
    return tuple(vector / max(np.linalg.norm(vector), 1e-9) for vector in vectors)


def volumes_of(slices: Sequence[Header]) -> list[list[Header]]:
    """Return the volumes of a series, each in the order of its slices; the first is the one that was taken first.

    Slices of one direction, size, spacing and kind of frame belong together. Where n lie at each place, the k-th of each place, by
    contrast (echo, b-value, time) and number, makes volume k. Slices without a position, or of which some places hold more than
    others, are one volume, which the reader refuses.
    """
    alike = defaultdict(list)
    for header in slices:
        alike[kind(header)].append(header)
    volumes = [volume for members in alike.values() for volume in at_each_place(members)]
    return sorted(volumes, key=lambda volume: min(map(taken, volume)))


def kind(header: Header) -> tuple:
    rounded = header.orientation and tuple(round(n, 2) + 0.0 for n in header.orientation)
    spacing = header.pixel_spacing_mm and tuple(round(n, 4) for n in header.pixel_spacing_mm)
    return rounded, spacing, header.rows, header.columns, *(() if header.frame is None else (header.image_type, header.component))


def taken(header: Header) -> tuple:
    """Return the key of the order in which images at one place were taken."""
    return (*header.contrast, header.acquisition, header.instance, header.path)


def at_each_place(members: list[Header]) -> list[list[Header]]:
    ordered = in_order(members)
    if any(header.position is None or header.orientation is None for header in members):
        return [ordered]
    along = [float(np.dot(header.position, directions(ordered[0])[2])) for header in ordered]
    places = np.split(np.array(ordered, dtype=object), np.flatnonzero(np.diff(along) >= SAME_PLACE_MM) + 1)
    if len({len(place) for place in places}) > 1:
        return [ordered]
    return [list(volume) for volume in zip(*(sorted(place, key=taken) for place in places), strict=True)]


SEVERAL = "{} volumes (echoes, times, directions) where one is wanted; choose by data.modality.volume=first, all or a number from 1"


def chosen(count: int, volume: str | int) -> list[int]:
    """Return the places of the volumes that data.modality.volume chooses among `count`: the first, all, or the N-th from 1.

    Raise ScanError if there are fewer.
    """
    if volume == "all":
        return list(range(count))
    place = 0 if volume == "first" else int(volume) - 1
    if place >= count:
        raise ScanError(f"it must hold volume {volume} (data.modality.volume), got {count}")
    return [place]
