"""The report of `medgan_pl.inspect` on a data set: each scan with its oddities, a histogram, a contact sheet."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from torch import Tensor

from medgan_pl.core.files import atomically
from medgan_pl.data.files.records import Record
from medgan_pl.data.oddities import oddities, sizes
from medgan_pl.data.prepare.cache import Cache


def survey(table: Sequence[Record], cache: Cache) -> list[dict[str, Any]]:
    """Return for each usable record: name, label, patient (a hash), its facts as stored (`pipelines.facts_of`), unit, levels, images, and
    `odd`: sentences on what may be wrong with it."""
    scans = []
    seen: dict[str, str] = {}
    for record in table:
        entry = cache.entries.get(record.digest)
        if entry is None:
            continue
        facts = {key: value for key, value in entry["facts"].items() if key != "histogram"}
        odd = oddities(entry)
        if (first := seen.setdefault(facts["pixels"], record.name)) != record.name:
            odd.append(f"the same image as {first}")
        kept = {key: entry[key] for key in ("unit", "levels", "loss", "loss_unit")}
        images = entry["shape"][0]
        scans.append({"name": record.name, "label": record.label, "patient": record.patient, "images": images, **facts, **kept, "odd": odd})
    return scans


def table_lines(scans: Sequence[dict[str, Any]]) -> list[str]:
    """Return the ranges of the set (sizes, spacing, bits, values), then the oddities of each scan."""
    lines = []
    if scans:
        shapes = Counter(tuple(scan["shape"]) for scan in scans)
        lines.append("size: " + counted(shapes, lambda shape: sizes(shape)))
        spacings = Counter(tuple(round(mm, 4) for mm in scan["spacing_mm"]) if scan["spacing_mm"] else None for scan in scans)
        lines.append("spacing: " + counted(spacings, lambda mm: f"{sizes(mm)} mm" if mm else "not given"))
        lines.append("bits: " + counted(Counter(scan["bits"] for scan in scans), lambda bits: str(bits or "floating point")))
        lines.append("classes: " + counted(Counter(scan["label"] for scan in scans), lambda label: label or "none given"))
        lines.append(f"patients: {len({scan['patient'] for scan in scans})} of {len(scans)} scans")
        low, high = min(scan["low"] for scan in scans), max(scan["high"] for scan in scans)
        middle = median(scan["low"] for scan in scans), median(scan["high"] for scan in scans)
        lines.append(f"values: {low:.6g} to {high:.6g} {scans[0]['unit']}; usually {middle[0]:.6g} to {middle[1]:.6g}")
    for scan in scans:
        lines += [f"odd  {scan['name']}: {what}" for what in scan["odd"]]
    return lines


def counted(counts: Counter, as_text: Any, max_shown: int = 5) -> str:
    more = f", {len(counts) - max_shown} others" if len(counts) > max_shown else ""
    return ", ".join(f"{as_text(value)} ({n})" for value, n in counts.most_common(max_shown)) + more


def draw_histogram(entries: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw the histogram of the values of all scans, in their unit, with equal weight for each scan and the median levels as lines."""
    from matplotlib.figure import Figure

    low, high = min(e["facts"]["low"] for e in entries), max(e["facts"]["high"] for e in entries)
    bins, total = np.linspace(low, high, 257), np.zeros(256)
    for entry in entries:
        facts = entry["facts"]
        edges = np.linspace(facts["low"], facts["high"], len(facts["histogram"]) + 1)
        cumulated = np.concatenate([[0], np.cumsum(facts["histogram"])]) / max(1, sum(facts["histogram"]))
        total += np.diff(np.interp(bins, edges, cumulated))
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.stairs(total / len(entries), bins, fill=True, alpha=0.6)
    for channel in range(len(entries[0]["levels"])):
        for end, value in zip(("-1", "1"), zip(*(e["levels"][channel] for e in entries), strict=True), strict=True):
            axes.axvline(median(value), color="C3", linestyle="--", linewidth=1)
            axes.annotate(end, (median(value), 1.0), xycoords=("data", "axes fraction"), ha="center", va="bottom", color="C3")
    axes.set(yscale="log", xlabel=f"value ({entries[0]['unit']})", ylabel="share of a scan")
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def draw_contact_sheet(records: Sequence[Record], images: Sequence[Tensor], path: Path) -> None:
    """Draw pictures (H, W) in [-1, 1], each under the name of its record."""
    from matplotlib.figure import Figure

    columns = min(8, len(images))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.9 * columns, 2.15 * rows), layout="constrained")
    for place, (record, image) in enumerate(zip(records, images, strict=True), 1):
        axes = figure.add_subplot(rows, columns, place)
        axes.imshow(image.numpy(), cmap="gray", vmin=-1, vmax=1)
        axes.set_title(record.name if len(record.name) <= 26 else "…" + record.name[-25:], fontsize=6, parse_math=False)
        axes.axis("off")
    with atomically(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
