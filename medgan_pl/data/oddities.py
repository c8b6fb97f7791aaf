"""Doubts about a scan that can be read, a sentence each: for `medgan_pl.inspect` and for the log of a run."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgan_pl.data.files.records import Record
from medgan_pl.data.prepare.cache import Cache


def oddities(entry: Mapping[str, Any]) -> list[str]:
    """Return what may be wrong with a usable scan, of an entry of the cache."""
    facts, levels = entry["facts"], entry["levels"]
    odd = list(facts.get("notes", ()))
    if facts["synthetic"]:
        odd.append("synthetic: made by a generator")
    if facts["mask"]:
        odd.append(f"a mask? {facts['mask']}")
    elif entry["unit"] == "HU" and facts["low"] > -200:
        odd.append(f"no air: values from {facts['low']:g} to {facts['high']:g}; is it in HU?")
    if entry["unit"] == "HU" and facts["high"] > 32000:
        odd.append(f"values up to {facts['high']:g}; is it in HU?")
    if (share := share_between(facts, levels)) < 0.01:
        odd.append(f"only {share:.2%} of it lies between the levels {levels}")
    if facts["padding"] > 0.5:
        odd.append(f"{facts['padding']:.0%} of it is padding")
    if facts["spacing_mm"] and max(facts["spacing_mm"]) > 4 * min(facts["spacing_mm"]):
        odd.append(f"spacing {sizes(facts['spacing_mm'])} mm: one axis is much coarser than another")
    return odd


def warnings(records: Sequence[Record], cache: Cache) -> list[str]:
    """Return a line for each kind of odd scan among the records: how many they are, and the first one."""
    kinds: dict[str, list[str]] = {}
    for record in records:
        for said in oddities(cache.entries[record.digest]):
            kinds.setdefault(re.sub(r"[\d.,]+", "0", said), []).append(f"{record.name}: {said}")
    return [
        f"WARNING: {len(odd)} of {len(records)} scans are odd, such as {odd[0]}; see them with python -m medgan_pl.inspect"
        for odd in kinds.values()
    ]


def share_between(facts: Mapping[str, Any], levels: Sequence[Sequence[float]]) -> float:
    """Return the share of voxels strictly between the outermost levels, to the precision of a histogram bin."""
    low, high = min(pair[0] for pair in levels), max(pair[1] for pair in levels)
    edges = np.linspace(facts["low"], facts["high"], len(facts["histogram"]) + 1)
    counts = np.array(facts["histogram"])
    return float(counts[(edges[1:] > low) & (edges[:-1] < high)].sum() / max(1, counts.sum()))


def sizes(values: Sequence[float]) -> str:
    """Return lengths as text: 2 × 1 × 1."""
    return " × ".join(f"{value:.4g}" for value in values)
