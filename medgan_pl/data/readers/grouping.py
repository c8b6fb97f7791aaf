"""Group DICOM files into series, each in the order of its slices, and say which are no volume."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from medgan_pl.data.readers.anatomy import Choice, no_anatomy, odd_ones
from medgan_pl.data.readers.frames import in_frames
from medgan_pl.data.readers.header import Header
from medgan_pl.data.readers.series import NO_IMAGE
from medgan_pl.data.readers.stacks import EVEN_SHARE, SAME_PLACE_MM, even, in_order

ANY = Choice()
APART, MOST = 5, 0.7  # single slices: a longer step, in usual ones, ends a volume; the share of usual steps in a volume


@dataclass(frozen=True)
class Series:
    """Files of one series, by position along the slices' normal (by instance number if a position is missing).

    `skipped`: the reason why it is no volume (a localizer, a report); None if it may be one.
    """

    headers: tuple[Header, ...]
    skipped: str | None = None

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(header.path for header in self.headers)


def group_series(headers: Iterable[Header], choice: Choice = ANY) -> list[Series]:
    """Group headers of files into series by Study- and SeriesInstanceUID, in the order of each one's first path.

    Single slices with a UID of their own are joined (`joined`). Files that are no anatomy (`anatomy`), and those without pixels or
    SeriesInstanceUID, become separate series, `skipped` with the reason.
    """
    groups = defaultdict(list)
    for header in sorted(headers, key=lambda header: header.path):
        groups[header.series, why_skipped(header, choice)].append(header)
    kept = joined([in_order(members) for (_, reason), members in groups.items() if reason is None])
    odd = odd_ones(kept, choice)
    found = [Series(tuple(members), odd.get(i)) for i, members in enumerate(kept)]
    found += [Series(tuple(in_order(members)), reason) for (_, reason), members in groups.items() if reason is not None]
    return sorted(found, key=lambda series: min(series.paths))


def why_skipped(header: Header, choice: Choice = ANY) -> str | None:
    if not header.has_pixels:
        return NO_IMAGE
    if header.series is None:
        return "SeriesInstanceUID missing: it is unknown which files belong together"
    if choice.image_type is not None and in_frames(header):
        return None  # each frame has an image type of its own
    return no_anatomy(header, choice.image_type)


def joined(groups: Sequence[list[Header]]) -> list[list[Header]]:
    """Return the groups, with series of one slice joined where they are neighbors in one study or folder, see `runs`.

    Some programs that remove names give each file a SeriesInstanceUID of its own, or even a StudyInstanceUID.
    """
    found, left = [group for group in groups if len(group) > 1], [group[0] for group in groups if len(group) == 1]
    for place in (lambda header: header.study, lambda header: header.path.parent):
        alike = defaultdict(list)
        for header in left:
            alike[place(header), *likeness(header)].append(header)
        left = []
        for run in (run for members in alike.values() for run in runs(in_order(members))):
            if neighbors(run):
                found.append(run)
            else:
                left += run
    return found + [[header] for header in left]


def runs(headers: list[Header]) -> list[list[Header]]:
    """Return ordered slices cut where a step is APART times as long as usual: two volumes may lie in one study."""
    if len(headers) < 3 or any(header.position is None or header.orientation is None for header in headers):
        return [headers]
    steps = np.linalg.norm(np.diff(np.array([header.position for header in headers]), axis=0), axis=1)
    ends = [0, *(np.flatnonzero(steps > APART * np.median(steps)) + 1).tolist(), len(headers)]
    return [headers[i:j] for i, j in pairwise(ends)]


def neighbors(headers: Sequence[Header]) -> bool:
    """Return True for three or more slices on an even grid, or with a gap or uneven: MOST steps are alike, and none is 0."""
    if len(headers) < 5 or any(header.frames > 1 or header.position is None or header.orientation is None for header in headers):
        return even(headers)
    steps = np.diff(np.array([header.position for header in headers]), axis=0)
    off = np.linalg.norm(steps - np.median(steps, axis=0), axis=1)
    usual = np.linalg.norm(np.median(steps, axis=0))
    return bool(np.linalg.norm(steps, axis=1).min() > SAME_PLACE_MM and np.mean(off < EVEN_SHARE * usual) >= MOST)


def likeness(header: Header) -> tuple:
    """Return what slices of one volume have in common."""
    directions = header.orientation and tuple(round(n, 3) + 0.0 for n in header.orientation)
    sides = header.rows, header.columns, header.pixel_spacing_mm, header.thickness_mm, header.frames
    return header.patient, header.modality, header.image_type, header.description, header.number, directions, *sides
