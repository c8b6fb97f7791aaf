"""The scans of a set that are images to train on: scans that can be used, and no masks among them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from medgan_pl.data.files.records import Record
from medgan_pl.data.prepare.cache import Cache


@dataclass(frozen=True)
class Usable:
    """The `records` to train on with the hashes of their values, and `lines` about those that are left out or doubtful."""

    records: list[Record]
    lines: list[str]


def usable(table: Sequence[Record], cache: Cache, *, chosen: bool, title: str) -> Usable:
    """Return the records of `table`, which the cache holds, with the hashes of their values.

    Masks by their values are left out, unless the user has `chosen` the files.
    `title` names the set. Raise ValueError if all usable scans look like masks.
    """
    records = [replace(record, pixels=cache.entries[record.digest]["facts"]["pixels"]) for record in table]
    masks = {record.name: why for record in records if (why := cache.entries[record.digest]["facts"]["mask"])}
    if not masks:
        return Usable(records, [])
    named = f"{len(masks)} of {len(records)} look like masks, such as {next(iter(masks))}: {next(iter(masks.values()))}"
    if chosen:
        return Usable(records, [f"WARNING: {named}; they are used, because data.files or a table chose them"])
    if len(masks) == len(records):
        raise ValueError(
            f"data.root must hold images, got masks: {title}, {named}; set data.root to the images, or say with data.files=. that these "
            "are images"
        )
    images = [record for record in records if record.name not in masks]
    return Usable(images, [f"{named}; they are left out; if they are images, choose the files with data.files"])
