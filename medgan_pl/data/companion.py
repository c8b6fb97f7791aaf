"""Companions of an image on its own grid: another scan of the patient (the source of a paired task), or masks.

The channels of a companion are cut, cached and gathered together with those of the image. A batch has each under its own key
(core/batch.py).
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.files.records import Item, Record
from medgan_pl.data.intensity import HU, Intensity, to_unit
from medgan_pl.data.mask_values import inside, values_in
from medgan_pl.data.masks import as_image
from medgan_pl.data.modality import Modality
from medgan_pl.data.phantom import Patient
from medgan_pl.data.prepare.fill import Task
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.prepare.prepared import CompanionReader
from medgan_pl.data.readers.scan import Scan, ScanError
from medgan_pl.data.sources import Source


class Companion:
    """Another scan, registered to the image. Its own `modality` reads it, and its own `intensity` maps it to [-1, 1].

    `root`: a folder whose files are named as those of the images; None: the images' own table (a CSV) names the files.
    """

    def __init__(self, *, modality: Modality, intensity: Intensity, root: str | None = None) -> None:
        self.modality, self.intensity, self.root = modality, intensity, root
        self.channels = intensity.channels
        self.settings = {**modality.settings, **intensity.settings}

    def simulate(self, modality: Modality, patient: Patient, shape: tuple[int, ...]) -> Scan:
        """Return the companion of a simulated patient, whose image is of `modality`."""
        return self.modality.simulate(patient, shape)

    def read(self, item: Item) -> Scan:
        """Return the scan. Raise ScanError for a faulty file, and for CT that is not in HU (`Modality.doubt`)."""
        scan = self.modality.read(item)
        low = min(pair[0] for pair in self.intensity.levels(scan))
        if self.modality.unit(scan) == HU and (why := self.modality.doubt(item, scan, low)):
            raise ScanError(f"{why}; store it in HU (often 1024 was added)")
        return scan

    def facts(self, scan: Scan) -> dict[str, Any]:
        """Return no facts: only masks have some."""
        return {}

    def lay(self, scan: Scan, layout: Layout) -> Tensor:
        """Return the companion cut as its image is, (n, channels, *S) in [-1, 1]."""
        levels = self.intensity.levels(layout.seen(scan))
        cut = layout.cut(scan, fill=min(low for low, _ in levels))
        return to_unit(cut.pixels, levels).movedim(0, 1)


class Masks:
    """Masks of an image, one channel for each of `labels`; 1 inside, -1 outside. A pixel that is half covered is inside.

    - `labels`: the values in a label file; None: one channel, for all values above 0. `mask_values.inside` reads JPEG and soft edges.
    - `structures`: the names of the channels; the cohort draws these.
    - `root`: as for a Companion; None with a Decathlon table takes its label files.

    Raise ValueError if the labels and the structures differ in number.
    """

    def __init__(
        self, *, modality: Modality, structures: Sequence[str], labels: Sequence[int] | None = None, root: str | None = None
    ) -> None:
        if len(structures) != len(labels or (1,)):
            raise ValueError(
                f"data.beside.mask.structures must name each of its labels, got {list(structures)} for {labels or 'one'}; they are "
                "the channels of the mask"
            )
        self.modality, self.structures, self.labels, self.root = modality, tuple(structures), labels and tuple(labels), root
        self.channels = len(structures)
        self.settings = {**modality.settings, "structures": list(structures), "labels": labels and list(labels)}

    def simulate(self, modality: Modality, patient: Patient, shape: tuple[int, ...]) -> Scan:
        """Return the companion of a simulated patient, whose image is of `modality`."""
        masks = modality.masks(patient, shape, self.structures)
        values = self.labels or (1,)
        pixels = np.zeros(shape, np.float32)
        for value, mask in zip(values, masks, strict=True):
            pixels[mask > 0] = value
        return Scan(pixels)

    def read(self, item: Item) -> Scan:
        """Return the mask file as it is stored."""
        return self.modality.read_mask(item)

    def facts(self, scan: Scan) -> dict[str, Any]:
        """Return the values of a mask file, and for each structure whether it has any pixel."""
        parts = [bool(part.any()) for part in inside(scan.pixels, self.labels)]
        return {"values": values_in(scan.pixels), "inside": dict(zip(self.structures, parts, strict=True))}

    def lay(self, scan: Scan, layout: Layout) -> Tensor:
        """Return the companion cut as its image is, (n, channels, *S) in [-1, 1]."""
        parts = inside(scan.pixels, self.labels)
        return torch.stack([as_image(layout.cut_mask(scan, part).float()) for part in parts], 1)


def stack_companions(scan: Scan, others: Mapping[str, Scan]) -> Scan:
    """Return the scan with the others as its companions. Raise ScanError for one that is not finite or not on the scan's grid."""
    placed = []
    for key, other in others.items():
        if bad := other.pixels.size - np.count_nonzero(np.isfinite(other.pixels)):
            raise ScanError(f"its {key}: every value must be a finite number, got {bad} NaN or infinite of {other.pixels.size}")
        if other.pixels.shape != scan.pixels.shape:
            raise ScanError(
                f"its {key} must lie on the image's grid, {' × '.join(map(str, scan.pixels.shape))}, got "
                f"{' × '.join(map(str, other.pixels.shape))}; resample it"
            )
        if other.affine is not None and scan.affine is not None:
            corners = np.array(np.meshgrid(*[(0, n - 1) for n in scan.pixels.shape], [1], indexing="ij")).reshape(4, -1)
            off = float(np.abs((other.affine - scan.affine) @ corners).max())
            if off > min(scan.spacing_mm) / 2:
                raise ScanError(
                    f"its {key} must lie on the image's grid, got one that is up to {off:.1f} mm away; register and resample it"
                )
        placed.append(replace(other, spacing_mm=scan.spacing_mm, affine=scan.affine))
    return replace(scan, beside=tuple(placed))


def read_together(read: Callable[[], Scan], others: Mapping[str, Callable[[], Scan]], apart: bool = False) -> Scan:
    """Return the scan with its companions. Raise ScanError, which names the faulty companion; with `apart` also for a source with the
    same values as the scan."""
    scan, companions = read(), {}
    for key, other in others.items():
        try:
            companions[key] = other()
        except ScanError as error:
            raise ScanError(f"its {key}: {error}") from None
    if apart and "source" in companions and np.array_equal(companions["source"].pixels, scan.pixels):
        raise ScanError("its source has the same values: it is the image itself, and there is nothing to learn")
    return stack_companions(scan, companions)


def joint_digest(own: str, others: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Return the digest of a scan with its companions."""
    content = json.dumps([own, dict(others), dict(settings)], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def with_companions(source: Source, companions: Mapping[str, CompanionReader], table: list[Record]) -> tuple[list[Record], list[Task]]:
    """Return the records of a source and the tasks that read them, both with their companions."""
    tasks = source.tasks(table)
    if not companions:
        return table, tasks
    others = {key: source.companions(key, each, table) for key, each in companions.items()}
    settings = {key: dict(each.settings) for key, each in companions.items()}
    for row, (record, task) in enumerate(zip(table, tasks, strict=True)):
        digests, reads = ({key: each[row][part] for key, each in others.items()} for part in (0, 1))
        digest = joint_digest(record.digest, digests, settings)
        table[row] = replace(record, digest=digest, alone=record.digest)
        tasks[row] = replace(task, digest=digest, read=partial(read_together, task.read, reads, apart=bool(record.paths)))
    return table, tasks
