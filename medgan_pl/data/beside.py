"""What lies under an image, on its own grid: another scan of the patient (the source of a paired task), or masks.

Its channels are cut, cached and gathered together with those of the image, so the two can never come apart; a batch has them under their
own key (batch.py).
"""

import csv
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.files.names import stem
from medgan_pl.data.files.records import Item, Record, find, is_msd
from medgan_pl.data.intensity import Intensity, to_unit
from medgan_pl.data.modalities import Modality
from medgan_pl.data.phantom import Patient
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.prepare.pipelines import Beside
from medgan_pl.data.readers.scan import Scan, ScanError

KEYS = ("source", "mask")  # of a batch, in the order of their channels


class Companion:
    """Another scan, registered to the image, read and brought to [-1, 1] by its own `modality` and `intensity`.

    `root`: a folder whose files are named as those of the images; None: a CSV says in a column of the key's name.
    """

    def __init__(self, *, modality: Modality, intensity: Intensity, root: str | None = None) -> None:
        self.modality, self.intensity, self.root = modality, intensity, root
        self.channels = intensity.channels
        self.settings = {**modality.settings, **intensity.settings}

    def simulate(self, modality: Modality, patient: Patient, shape: tuple[int, ...]) -> Scan:
        return self.modality.simulate(patient, shape)

    def lay(self, scan: Scan, layout: Layout) -> Tensor:
        levels = self.intensity.levels(layout.seen(scan))
        cut = layout.cut(scan, fill=min(low for low, _ in levels))
        return to_unit(cut.pixels, levels).movedim(0, 1)


class Masks:
    """Masks of an image, one channel for each of `labels`, the values of a label file (None: one channel, whatever is above 0), and in the
    cohort for each of `structures`; 1 inside, -1 outside, and half covered is inside.

    `root` as of a Companion; None with a Decathlon table takes its label files.
    """

    def __init__(
        self, *, modality: Modality, structures: Sequence[str], labels: Sequence[int] | None = None, root: str | None = None
    ) -> None:
        if len(structures) != len(labels or (1,)):
            raise ValueError(
                f"data.beside.mask.structures must name what each of its labels is, got {list(structures)} for {labels or 'one'}; they are "
                "the channels of the mask"
            )
        self.modality, self.structures, self.labels, self.root = modality, tuple(structures), labels and tuple(labels), root
        self.channels = len(structures)
        self.settings = {**modality.settings, "structures": list(structures), "labels": labels and list(labels)}

    def simulate(self, modality: Modality, patient: Patient, shape: tuple[int, ...]) -> Scan:
        masks = modality.masks(patient, shape, self.structures)
        values = self.labels or (1,)
        pixels = np.zeros(shape, np.float32)
        for value, mask in zip(values, masks, strict=True):
            pixels[mask > 0] = value
        return Scan(pixels)

    def lay(self, scan: Scan, layout: Layout) -> Tensor:
        pixels = np.rint(scan.pixels)
        parts = [pixels > 0] if self.labels is None else [pixels == value for value in self.labels]
        cuts = [layout.cut(replace(scan, pixels=part.astype(np.float32), padding=None), fill=0.0).pixels for part in parts]
        return torch.stack([torch.where(cut >= 0.5, 1.0, -1.0) for cut in cuts], 1)


def laid_under(scan: Scan, others: Mapping[str, Scan]) -> Scan:
    """The scan with the others beside it. Raises ScanError for one that does not lie on its grid."""
    placed = []
    for key, other in others.items():
        if other.pixels.shape != scan.pixels.shape:
            raise ScanError(
                f"its {key} must lie on its own grid of {' × '.join(map(str, scan.pixels.shape))}, got "
                f"{' × '.join(map(str, other.pixels.shape))}; resample it there"
            )
        if other.affine is not None and scan.affine is not None:
            corners = np.array(np.meshgrid(*[(0, n - 1) for n in scan.pixels.shape], [1], indexing="ij")).reshape(4, -1)
            off = float(np.abs((other.affine - scan.affine) @ corners).max())
            if off > min(scan.spacing_mm) / 2:
                raise ScanError(f"its {key} must lie on its own grid, got one that is up to {off:.1f} mm away; register and resample it")
        placed.append(replace(other, spacing_mm=scan.spacing_mm, affine=scan.affine))
    return replace(scan, beside=tuple(placed))


def read_together(read: Callable[[], Scan], others: Mapping[str, Callable[[], Scan]]) -> Scan:
    """The scan with the others beside it. Raises ScanError, which says whose fault it is."""
    scan, beside = read(), {}
    for key, other in others.items():
        try:
            beside[key] = other()
        except ScanError as error:
            raise ScanError(f"its {key}: {error}") from None
    return laid_under(scan, beside)


def digest_of(own: str, others: Mapping[str, str], settings: Mapping[str, Any]) -> str:
    """Of a scan with what lies beside it."""
    content = json.dumps([own, dict(others), dict(settings)], sort_keys=True)
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


# Which file lies beside which ---------------------------------------------------------------------------------------------------------


def files_beside(key: str, beside: Beside, root: Path, records: Sequence[Record]) -> list[tuple[Path, ...]]:
    """For each record the files of what lies beside it: in `beside.root` those of its name (`data/names.stem`; a DICOM series by its
    folder), in a CSV those of its row, in a Decathlon table its label. Raises FileNotFoundError where some have none, ValueError where
    names are not told apart or nobody says where to look."""
    if beside.root is not None:
        named = files_in(key, beside)
        found = [named.get(name_of(record.name), ()) for record in records]
        where = f"data.beside.{key}.root={beside.root}"
    elif root.suffix.lower() == ".csv":
        rows, where = rows_of(root, key), f"the column {key} of {root}"
        found = [of_row(record, rows, root, beside) for record in records]
    elif root.suffix.lower() == ".json" or is_msd(root / "dataset.json"):
        table = root if root.suffix.lower() == ".json" else root / "dataset.json"
        entries = [entry for entry in json.loads(table.read_text(encoding="utf-8-sig"))["training"] if isinstance(entry, dict)]
        labels = {PurePath(entry["image"]).as_posix(): table.parent / entry["label"] for entry in entries if "label" in entry}
        inside = {name: path for name, path in labels.items() if path.resolve().is_relative_to(table.parent.resolve())}
        found = [(inside[record.name],) if record.name in inside else () for record in records]
        where = f"the labels of {table} (data.files=imagesTr takes the images that have some)"
    else:
        raise ValueError(
            f"data.beside.{key}.root must be a folder whose files are named as those of data.root, got null; or list both in a CSV with "
            f"the columns image and {key}"
        )
    missing = [record.name for record, paths in zip(records, found, strict=True) if not paths or not all(p.is_file() for p in paths)]
    if missing:
        count = f"{len(missing)} of {len(records)}"
        raise FileNotFoundError(f"{where} must hold a {key} for each image; {count} have none, such as {missing[0]}")
    return found


def name_of(name: str) -> str:
    """By what a scan is found: its file's stem below the folders of nobody, of a series its folder."""
    series = re.sub(r" \(\+\d+\)$", "", name)
    return str(PurePath(series).parent) if series != name else stem(PurePath(series))


def files_in(key: str, beside: Beside) -> dict[str, tuple[Path, ...]]:
    folder = Path(beside.root).expanduser()
    items = beside.modality.gather(find(folder, beside.modality.takes, beside.modality.kinds, classes=False)[0]).items
    named = {name_of(item.name): item.paths for item in items}
    if len(named) < len(items):
        raise ValueError(f"data.beside.{key}.root={folder} must hold one {key} for each name, got {len(items)} of {len(named)} names")
    return named


def rows_of(table: Path, key: str) -> dict[str, str]:
    """Path of the image -> that of what lies beside it, as the CSV has them."""
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        reader.fieldnames = [name.strip() for name in reader.fieldnames or ()]
        if key not in reader.fieldnames:
            has = ", ".join(reader.fieldnames)
            raise ValueError(f"{table} must have a column {key}, got {has}; or set data.beside.{key}.root to a folder")
        return {(row["image"] or "").strip(): (row[key] or "").strip() for row in reader}


def of_row(record: Record, rows: Mapping[str, str], table: Path, beside: Beside) -> tuple[Path, ...]:
    name = re.sub(r" \(\+\d+\)$", "", record.name)
    said = rows.get(name) or next((rows[str(folder)] for folder in PurePath(name).parents if str(folder) in rows), "")
    path = table.parent / said
    if said and path.is_dir():
        items = [Item(str(inner), (inner,)) for inner in sorted(path.rglob("*")) if inner.is_file() and beside.modality.takes(inner)]
        found = beside.modality.gather(items).items
        if len(found) > 1:
            raise ValueError(f"{table}: {said} holds {len(found)} scans; name one file, or choose among series by their description")
        return found[0].paths if found else ()
    return (path,) if said else ()
