"""Order slices, and divide those of a series that holds several volumes: echoes, times, b-values, directions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from medgan_pl.data.readers.facts import CONTRASTS, TIMES, facts_in, sortable
from medgan_pl.data.readers.header import Header
from medgan_pl.data.readers.scan import ScanError

SAME_PLACE_MM = 0.001
EVEN_SHARE = 0.1  # of the step, for slices that are joined by their positions
Places = list[list[Header]]  # slices by their place along the normal


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


def even(headers: Sequence[Header]) -> bool:
    """Return True for three or more slices, in order, of one frame, that lie on an even grid."""
    if len(headers) < 3 or any(header.frames > 1 or header.position is None or header.orientation is None for header in headers):
        return False
    steps = np.diff(np.array([header.position for header in headers]), axis=0)
    nearest, unequal = np.linalg.norm(steps, axis=1).min(), np.ptp(steps, axis=0).max()
    return bool(nearest > SAME_PLACE_MM and unequal < EVEN_SHARE * np.abs(steps).max())


def volumes_of(slices: Sequence[Header]) -> list[list[Header]]:
    """Return the volumes of a series, each in the order of its slices; the first is the one that was taken first.

    Slices of one direction, size, spacing and kind of frame belong together. Where several lie at one place, `divided` tells the
    volumes apart. Slices without a position are one volume, which the reader refuses. Raise ScanError as `divided`.
    """
    alike = defaultdict(list)
    for header in slices:
        alike[kind(header)].append(header)
    groups = [volumes for members in alike.values() for part in by_stack(members) if (volumes := at_each_place(part))]
    return [volume for volumes in sorted(groups, key=lambda volumes: min(map(taken, volumes[0]))) for volume in volumes]


def kind(header: Header) -> tuple:
    rounded = header.orientation and tuple(round(n, 2) + 0.0 for n in header.orientation)
    spacing = header.pixel_spacing_mm and tuple(round(n, 4) for n in header.pixel_spacing_mm)
    return rounded, spacing, header.rows, header.columns, *(() if header.frame is None else (header.image_type, header.component))


def taken(header: Header) -> tuple:
    """Return the key of the order in which images at one place were taken."""
    return (*header.contrast, header.acquisition, header.instance, header.path)


def by_stack(members: list[Header]) -> list[list[Header]]:
    """Return the frames of each stack (StackID), or all if they are one even stack, or if a frame is alone in its stack."""
    stacks = defaultdict(list)
    for header in members:
        stacks[(header.facts or {}).get("StackID", "")].append(header)
    if len(stacks) < 2 or min(map(len, stacks.values())) < 2 or even(in_order(members)):
        return [members]
    return list(stacks.values())


def at_each_place(members: list[Header]) -> list[list[Header]]:
    ordered = in_order(members)
    if any(header.position is None or header.orientation is None for header in members):
        return [ordered]
    along = [float(np.dot(header.position, directions(ordered[0])[2])) for header in ordered]
    starts = np.flatnonzero(np.diff(along, prepend=-np.inf) >= SAME_PLACE_MM).tolist()
    places = [ordered[i:j] for i, j in zip(starts, [*starts[1:], len(ordered)], strict=True)]
    if len(places) == len(ordered):
        return [ordered]
    facts = {id(header): facts_in(header.path) if header.facts is None else header.facts for header in ordered}
    return divided(places, lambda header, name: facts[id(header)].get(name, ""), names_in(facts.values()))


def names_in(facts: Sequence[dict[str, str]]) -> list[str]:
    """Return the names of the facts that divide a series, in their order; times do not."""
    others = {name for known in facts for name in known} - {*CONTRASTS, *TIMES}
    return [*CONTRASTS, *sorted(others)]


def divided(places: Places, fact: Callable[[Header, str], str], names: Sequence[str]) -> Places:
    """Return the volumes among slices that lie at the same places.

    A fact divides them if it takes the same values at each place that holds the most slices, and no others elsewhere. Where no fact
    does, the k-th slice of each place makes volume k: by a time, or by its number or name if they run volume by volume, or place by
    place. Raise ScanError if nothing tells which slices belong together.
    """
    if max(map(len, places)) == 1:
        return [[header for (header,) in places]]
    name = next((name for name in names if divides([[fact(header, name) for header in place] for place in places])), None)
    if name is None:
        return ranked(places, fact)
    parts: dict[str, Places] = defaultdict(list)
    for place in places:
        for value in {fact(header, name) for header in place}:
            parts[value].append([header for header in place if fact(header, name) == value])
    first = {value: min(taken(header) for place in part for header in place) for value, part in parts.items()}
    words = any(sortable(value)[0] == 2 for value in parts)
    ordered = sorted(parts, key=first.get if words else sortable)
    return [volume for value in ordered for volume in divided(parts[value], fact, names)]


def divides(values: Sequence[Sequence[str]]) -> bool:
    """Return True if the values of a fact at each place are those of the fullest places, and are several."""
    counts = [Counter(each) for each in values]
    fullest = max(counts, key=Counter.total)
    return len(fullest) > 1 and all(count == fullest if count.total() == fullest.total() else count <= fullest for count in counts)


def ranked(places: Places, fact: Callable[[Header, str], str]) -> Places:
    """Return the volumes of the k-th slice at each place, see `divided`."""
    keys: list[tuple[Callable[[Header], tuple], bool]] = [(lambda header, name=name: sortable(fact(header, name)), True) for name in TIMES]
    keys += [(lambda header: (header.instance,), False), (lambda header: (header.path, header.instance), False)]
    for key, trusted in keys if len({len(place) for place in places}) == 1 else ():
        if all(len({key(header) for header in place}) == len(place) for place in places):
            volumes = [list(volume) for volume in zip(*(sorted(place, key=key) for place in places), strict=True)]
            if trusted or apart(volumes, key) or apart(places, key):
                return volumes
    raise ScanError(
        f"{sum(map(len, places))} slices lie at {len(places)} places, and nothing in their headers tells which ones are one volume (echo, "
        "time, b-value, number); put each volume in a folder of its own, or convert it with dcm2niix"
    )


def apart(groups: Sequence[Sequence[Header]], key: Callable[[Header], tuple]) -> bool:
    """Return True if the groups follow one another in the order of `key`: none begins before another ends."""
    ends = sorted((min(map(key, group)), max(map(key, group))) for group in groups)
    return all(before[1] < after[0] for before, after in pairwise(ends))


SEVERAL = (
    "{} volumes (echoes, times, directions) where one is wanted; choose by data.modality.volume=first, all or a number from 1, or choose "
    "other files by data.files"
)


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
