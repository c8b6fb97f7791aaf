"""Masks and maps among the scans of a set: by their own values, and by what the other scans of the set are."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from medgan_pl.data.files.names import bare
from medgan_pl.data.files.records import Record, first_of
from medgan_pl.data.intensity import ALMOST_CONSTANT
from medgan_pl.data.prepare.cache import Cache
from medgan_pl.data.prepare.prepared import CONSTANT

NUMBER = re.compile(r"[0-9a-fA-F]{8,}|\d+")  # a hash or a number, which tells one patient's file from another's
# A map of shares is 0 nearly everywhere (in BLANK of it) and comes near 1; an image beside it has a RANGE of gray levels or HU.
BLANK, NEAR_ONE, RANGE = 0.4, 0.5, 20
MOST = 0.6  # of the scans of one kind


def masks_among_scans(records: Sequence[Record], cache: Cache) -> dict[str, str]:
    """Return by name the reason why a scan is a mask or a map, and no image. They are

    - the masks by their values (`label_map`),
    - maps of shares from 0 to 1, such as of probability, beside an image of the same patient or folder,
    - scans named alike, but for numbers, where most of those are masks by their values,
    - scans of one value in a set that holds masks: masks without a structure.
    """
    read = [record for record in records if record.digest in cache.entries]
    facts = {record.name: cache.entries[record.digest]["facts"] for record in read}
    masks = {name: found["mask"] for name, found in facts.items() if found["mask"]} | maps_of_shares(read, facts)
    kinds: dict[str, list[str]] = defaultdict(list)
    for name in facts:
        kinds[kind_of(name)].append(name)
    for names in kinds.values():
        known = [name for name in names if name in masks]
        if len(known) > 1 and MOST * len(names) < len(known) < len(names):
            masks |= {name: f"most of its kind are masks, such as {known[0]}" for name in names if name not in masks}
    blank = [record for record in records if cache.unusable.get(record.digest, "").startswith((CONSTANT, ALMOST_CONSTANT))]
    return masks | {record.name: "one value, as in a mask without a structure" for record in blank if masks}


def kind_of(name: str) -> str:
    """Return the name without its numbers: case_01/liver_2.nii.gz and case_02/liver_7.nii.gz are of one kind."""
    return NUMBER.sub("#", bare(first_of(name)))


def maps_of_shares(records: Sequence[Record], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return by name the reason why a scan is a map of shares: an image of the same patient or folder has another range."""
    images: set[object] = set()
    for record in records:
        found = facts[record.name]
        if not found["mask"] and found["high"] - found["low"] > RANGE:
            images |= {record.patient, record.paths[0].parent}
    return {
        record.name: "its values are shares from 0 to 1, as of probabilities, beside an image of other values"
        for record in records
        if not facts[record.name]["mask"] and has_shares(facts[record.name]) and {record.patient, record.paths[0].parent} & images
    }


def has_shares(facts: Mapping[str, Any]) -> bool:
    """Return True for values from 0 to 1 that are mostly 0."""
    counts = facts["histogram"]
    return facts["low"] == 0 and NEAR_ONE < facts["high"] <= 1 and counts[0] > BLANK * sum(counts)
