"""A summary of a data set in plain lines, for the log of a run and for `medgan_pl.inspect`. No line names a patient."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medgan_pl.data.files.columns import odd_values
from medgan_pl.data.files.covariates import Covariates
from medgan_pl.data.files.records import Record
from medgan_pl.data.files.split import SPLITS, straddling
from medgan_pl.data.mask_values import spelled
from medgan_pl.data.prepare.cache import Cache
from medgan_pl.data.prepare.planes import plane_lines


@dataclass(frozen=True)
class Found:
    """The usable records with their splits, the number of images of each, their cache, and facts about the rest.

    `unusable`: name -> reason. `skipped`: reason -> count. `dropped`: duplicates left out. `nameless`: scans that name no patient.
    `doubts`: sentences on patients who may be fewer people.
    `masks`: lines about masks, see `usable.py`. `copies`: scans left out because the split holds the same image.
    """

    records: Sequence[Record]
    images: Sequence[int]
    cache: Cache
    unusable: dict[str, str]
    skipped: Counter[str]
    dropped: int
    nameless: int
    doubts: Sequence[str]
    masks: Sequence[str] = ()
    copies: int = 0

    @property
    def entries(self) -> list[dict]:
        return [self.cache.entries[record.digest] for record in self.records]


def lines(found: Found, classes: Sequence[str], size: Sequence[int] | None) -> list[str]:
    """Return lines about scans, images, patients and classes of each split, overlap, duplicates, and scans that are left out or odd."""
    said = [split_line(found, split, classes) for split in SPLITS]
    splits = [record.split for record in found.records]
    patients = [record.patient for record in found.records]
    both = straddling(patients, splits)
    said.append(
        f"{both} of {len(set(patients))} patient groups are in more than one split"
        + ("; results on val and test will be too good; data.split=patient splits again" if both else "")
    )
    said += [f"WARNING: {doubt}" for doubt in found.doubts]
    learnt = {record.label for record in found.records if record.split == "train"}
    if never := [name for name in classes if name not in learnt]:
        said.append(f"WARNING: no training image of {', '.join(never)}: a conditional model cannot learn it and is refused")
    return said + plane_lines(found.entries) + mask_lines(found) + duplicate_lines(found) + odd_lines(found, size) + [loss_line(found)]


def split_line(found: Found, split: str, classes: Sequence[str]) -> str:
    """Return the line about one split."""
    rows = [row for row, record in enumerate(found.records) if record.split == split]
    members = [found.records[row] for row in rows]
    counts = Counter(record.label for record in members)
    by_class = f" ({', '.join(f'{name} {counts[name]}' for name in classes)})" if classes else ""
    images = sum(found.images[row] for row in rows)
    cut = f" from {len(members)} scans" if images != len(members) else ""
    return f"{split}: {images} images{cut} of {len({record.patient for record in members})} patients{by_class}"


def mask_lines(found: Found) -> list[str]:
    """Return a line about the values of the masks' files and the scans that have each structure."""
    masks = [facts for entry in found.entries for facts in entry["facts"].get("beside", ()) if facts]
    if not masks:
        return []
    counts = {name: sum(mask["inside"][name] for mask in masks) for name in masks[0]["inside"]}
    structures = ", ".join(f"{name} in {n}" for name, n in counts.items())
    return [f"masks: {structures} of {len(masks)}; values {spelled(mask['values'] for mask in masks)}"]


def duplicate_lines(found: Found) -> list[str]:
    """Return lines about identical images."""
    pixels, said = [record.pixels for record in found.records], []
    same = [n for n in Counter(pixels).values() if n > 1]
    if same:
        across = straddling(pixels, [record.split for record in found.records])
        said.append(f"{len(same)} groups of identical images ({sum(same)} in all), {across} in more than one split")
    if torn := straddling(pixels, [record.label for record in found.records]):
        said.append(f"{torn} groups of identical images have different labels")
    if found.copies:
        said.append(f"{found.copies} copies are left out: the same image is in the set already")
    if found.dropped:
        said.append(f"{found.dropped} duplicates of held-out images are left out (data.duplicates=drop)")
    return said


def odd_lines(found: Found, size: Sequence[int] | None) -> list[str]:
    """Return lines about scans that are left out, synthetic, empty or small."""
    said = []
    if found.nameless:
        said.append(f"{found.nameless} name no patient (CSV, PatientID, data.patient_pattern): each counts as its own")
    if found.unusable:
        said.append(f"{len(found.unusable)} cannot be used and are left out")
    said += passed_over(found.skipped)
    said += found.masks
    facts = [entry["facts"] for entry in found.entries]
    if made := sum(fact["synthetic"] for fact in facts):
        said.append(f"WARNING: {made} of {len(facts)} are synthetic (made by a generator); a model trained on them learns that generator")
    if empty := sum(fact["empty"] for fact in facts):
        said.append(f"{empty} slices are empty and left out (data.slices.foreground)")
    if small := sum(fact["enlarged"] for fact in facts):
        said.append(f"{small} are smaller than {'×'.join(map(str, size or ()))} and were enlarged")
    return said


def passed_over(skipped: Counter[str]) -> list[str]:
    """Return a line about scans that do not belong to the set (reason -> count), none without any."""
    return ["passed over: " + ", ".join(f"{n} {reason}" for reason, n in skipped.most_common())] if skipped else []


def covariate_lines(found: Found, covariates: Covariates, known: np.ndarray | None, illegible: Mapping[str, int]) -> list[str]:
    """Return lines about each column in the training split, odd natural values `known` (R, K), and illegible ones (name -> count)."""
    count = sum(record.split == "train" for record in found.records)
    said = [column.line(count) for column in covariates.columns]
    if known is not None:
        for column, gaps in zip(covariates.columns, np.isnan(known).sum(0), strict=True):
            if gaps and not column.missing:
                said.append(
                    f"{column.name} is unknown for {gaps} scans outside the training split and for none in it: the model does not learn "
                    "unknown values, and they count as the mean"
                )
        said += odd_values(covariates, known)
    return said + [f"the headers of {n} scans have an impossible {name}; it counts as unknown" for name, n in illegible.items()]


def choice_lines(split: str, left_out: int, max_train: int | None, *, given: bool) -> list[str]:
    """Return lines about the chosen split. `left_out`: scans that `max_train` leaves out of train. `given`: the data came with splits."""
    said = []
    if split == "patient" and given:
        said.append("the splits that came with the data are not used; data.split=folders keeps them")
    if max_train:
        said.append(f"{left_out} scans are left out of train (data.max_train={max_train})")
    if split == "none":
        said.append("WARNING: data.split=none holds nothing out: validation sees the training images")
    return said


def loss_line(found: Found) -> str:
    """Return the line about the error of storing."""
    worst = max(found.entries, key=lambda entry: entry["loss"])
    return f"stored as {found.cache.format.dtype}: at most {worst['loss']:.2g} {worst['loss_unit']} off"
