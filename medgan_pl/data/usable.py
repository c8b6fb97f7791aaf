"""The scans of a set that are images to train on: scans that can be used, and no masks among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from medgan_pl.data.files.records import Record
from medgan_pl.data.prepare.cache import Cache


@dataclass(frozen=True)
class Usable:
    """The `records` to train on with the hashes of their values, and `lines` about those that are left out or doubtful."""

    records: list[Record]
    lines: list[str]


def usable(table: Sequence[Record], cache: Cache, masks: Mapping[str, str], *, chosen: bool, title: str) -> Usable:
    """Return the records of `table` that the cache holds, with the hashes of their values.

    Those among `masks` (name -> why) are left out, unless the user has `chosen` the files.
    `title` names the set. Raise ValueError if all usable scans look like masks.
    """
    read = [record for record in table if record.digest in cache.entries]
    records = [replace(record, pixels=cache.entries[record.digest]["facts"]["pixels"]) for record in read]
    found = [record for record in table if record.name in masks]
    if not found:
        return Usable(records, [])
    named = f"{len(found)} of {len(table)} look like masks, such as {found[0].name}: {masks[found[0].name]}"
    if chosen:
        return Usable(records, [f"WARNING: {named}; they are used, because data.files or a table chose them"])
    images = [record for record in records if record.name not in masks]
    if not images:
        raise ValueError(
            f"data.root must hold images, got masks: {title}, {named}; set data.root to the images, or say with data.files=. that these "
            "are images"
        )
    return Usable(images, [f"{named}; they are left out; if they are images, choose the files with data.files"])
