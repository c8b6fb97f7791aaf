"""Gather files into scans: DICOM files into series, headers with detached data; and give the reasons for all that is left out."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from medgan_pl.data.files.names import DICOMS, HEADED, MGH, NIFTI
from medgan_pl.data.files.records import Item, is_dicom, several
from medgan_pl.data.readers.anatomy import Choice, no_anatomy
from medgan_pl.data.readers.films import no_films
from medgan_pl.data.readers.frames import in_frames, same_pixels, slices_of
from medgan_pl.data.readers.grouping import ANY, Series, group_series
from medgan_pl.data.readers.header import Header, read_header
from medgan_pl.data.readers.itk import files_of
from medgan_pl.data.readers.mgh import mgh_volumes
from medgan_pl.data.readers.nifti import volumes_at
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.readers.series import SECONDARY_CAPTURE
from medgan_pl.data.readers.stacks import SEVERAL, chosen, volumes_of

# Modalities (DICOM PS3.3 C.7.3.1.1.1) that messages name. Any other text in that field might name a patient.
NAMED = ("CR", "CT", "DX", "MG", "MR", "NM", "OT", "PT", "PX", "RF", "RTDOSE", "RTIMAGE", "SC", "SEG", "US", "XA")
# The RescaleType of CT in HU: HU, none, or US (unspecified). Spectral maps have another: Z_EFF, MGML, ED, EDW, HU_MOD (C.11.1.1.2).
AS_HU, CODE = ("HU", "", "US"), re.compile(r"[A-Z0-9_%/]{1,16}")


@dataclass(frozen=True)
class Gathered:
    """The scans that were found among files.

    - `items`: the scans. `unusable`: name -> reason. `skipped`: reason -> count. `passed`: name of a file that is passed over -> reason.
    - `descriptions`: of all DICOM series. They may name a patient: show them to the user who asks, never write them to a file or a log.
    - `joined`: a line about single slices with a SeriesInstanceUID each that were joined, "" without any.
    """

    items: list[Item]
    unusable: dict[str, str]
    skipped: Counter[str]
    descriptions: Counter[str]
    passed: dict[str, str]
    joined: str = ""


def gather_films(items: Sequence[Item], sliced: Sequence[str]) -> Gathered:
    """Return the films among files, each with its DICOM patient; images of a modality in `sliced` are no films, see `no_films`."""
    headers, _ = headers_of(items)  # a film with an unreadable header is reported when its pixels are read
    reasons = no_films(headers.values(), sliced)
    films = [item for item in items if item.paths[0] not in reasons]
    known = [item.of(headers[item.paths].patient) if item.paths in headers else item for item in films]
    passed = {item.name: reasons[item.paths[0]] for item in items if item.paths[0] in reasons}
    return Gathered(known, {}, Counter(reasons.values()), Counter(header.description for header in headers.values()), passed)


def gather_volumes(items: Sequence[Item], modality: str, choice: Choice = ANY) -> Gathered:
    """Return the volumes among files: volume files as they are, and DICOM files grouped by series, each with its DICOM patient.

    A series must be of the `modality`, and as the `choice` says. Raise ValueError if there is a choice and no DICOM file.
    """
    headers, unusable = headers_of(items)
    twice = copies(items, headers)
    passed = {item.name: twice[item.paths] for item in items if item.paths in twice}
    items = [item for item in items if item.paths not in twice]
    headers = {paths: header for paths, header in headers.items() if paths not in twice}
    by_path = {item.paths[0]: item for item in items}
    scans = [item for item in items if item.paths not in headers and item.name not in unusable]
    scans, torn = with_data(scans)
    scans, short = with_volumes(scans, choice.volume)
    unusable |= torn | short
    skipped = Counter(twice.values())
    descriptions: Counter[str] = Counter()
    slices: list[int] = []  # of each volume that is joined from single slices
    hollow = {header.series for header in headers.values() if not header.has_pixels and header.claims_image and header.series}
    foreign = {header.series: passed_over(header, modality, choice) for header in headers.values()}
    for group in series_of(headers.values(), foreign, choice):
        descriptions[group.headers[0].description] += 1
        reason = group.skipped
        if reason:
            skipped[reason] += 1
            passed |= {by_path[header.path].name: reason for header in group.headers}
            continue
        if len({header.series for header in group.headers}) > 1:
            slices.append(len(group.headers))
        first = by_path[group.headers[0].path]
        name = several(first.name, len(group.headers))
        if group.headers[0].series in hollow:
            unusable[name] = "some files of the series have no pixel data: the volume would lack slices"
            continue
        if len({(item.label, item.split, item.identity, item.covariates) for item in (by_path[h.path] for h in group.headers)}) > 1:
            unusable[name] = "its slices have different classes, splits or patients"
            continue
        try:
            volumes, left = volumes_in(group.headers, choice)
            skipped.update(left)
            for paths, part in volumes:
                begun = by_path[paths[0]]
                one = begun.merged(several(begun.name, len(paths), part), paths).of(group.headers[0].patient)
                scans.append(replace(one, part=part, parent=group.headers[0].series if choice.volume else None))
        except ScanError as error:
            unusable[name] = str(error)
    if (choice.series or choice.image_type) and not headers:
        name = "image_type" if choice.series is None else "series"
        raise ValueError(f"data.modality.{name} chooses among DICOM series, got none; choose files by their path with data.files")
    return Gathered(sorted(scans, key=lambda item: item.name), unusable, skipped, descriptions, passed, said_of(slices))


def said_of(slices: Sequence[int]) -> str:
    """Return a sentence about single slices that were joined to volumes of so many `slices`, "" for none."""
    volumes = f"{len(slices)} volume{'s' * (len(slices) > 1)}"
    return f"{sum(slices)} single slices with a SeriesInstanceUID each joined to {volumes}" if slices else ""


def copies(items: Sequence[Item], headers: Mapping[tuple[Path, ...], Header]) -> dict[tuple[Path, ...], str]:
    """Return the files of slices that are there twice, with the reason. The first is no copy.

    Copies have one series, place, number and class, and one SOPInstanceUID or the same values. Some programs write one UID into all
    slices, so the UID alone does not decide.
    """
    seen: dict[tuple, list[Header]] = {}
    twice = {}
    for item in items:
        header = headers.get(item.paths)
        if header is None or header.series is None or (header.position is None and not in_frames(header)):
            continue
        key = (header.series, header.position, header.orientation, header.instance, header.contrast, header.image_type)
        key += (header.rows, header.columns, header.frames)
        others = seen.setdefault((*key, item.label, item.split, item.identity, item.covariates), [])
        if header.position is not None and header.own and any(other.own == header.own for other in others):
            twice[item.paths] = "copies of slices (the same SOPInstanceUID)"
        elif any(same_pixels(header, other) for other in others):
            twice[item.paths] = "copies of slices (the same values at the same place)"
        else:
            others.append(header)
    return twice


def volumes_in(headers: Sequence[Header], choice: Choice) -> tuple[list[tuple[tuple[Path, ...], int | None]], list[str]]:
    """Return the files of each volume of a series that is wanted, and its place among those of multi-frame files that hold several.

    The second list holds a reason for each volume of frames that is no anatomy in the unit of its modality.
    Raise ScanError for a multi-frame file without facts of its frames, for several volumes without a choice, and as `chosen`.
    """
    paths = tuple(header.path for header in headers)
    framed = any(map(in_frames, headers))
    if choice.volume is None and not framed:
        return [(paths, None)], []
    volumes = volumes_of(slices_of(headers))
    reasons = [next(filter(None, (no_anatomy(h, choice.image_type) or no_hu(h) for h in volume if framed)), None) for volume in volumes]
    kept = [place for place, reason in enumerate(reasons) if reason is None]
    passed = [reason for reason in reasons if reason is not None]
    if not kept:
        return [], passed
    if len(kept) > 1 and choice.volume is None:
        raise ScanError(SEVERAL.format(len(kept)))
    places = [kept[place] for place in chosen(len(kept), choice.volume or "first")]
    if len(volumes) == 1:
        return [(paths, None)], passed
    return [(paths, place) if framed else (tuple(header.path for header in volumes[place]), None) for place in places], passed


def with_volumes(items: Sequence[Item], volume: str | int | None) -> tuple[list[Item], dict[str, str]]:
    """Return the items with one for each wanted volume of a NIfTI or MGH file that holds several, and by name why some are unusable."""
    found, unusable = [], {}
    for item in items:
        try:
            name = item.paths[0].name.lower()
            count_of = volumes_at if name.endswith(NIFTI) else mgh_volumes if name.endswith(MGH) else None
            count = count_of(item.paths[0]) if volume is not None and count_of else 1
            parts = chosen(count, volume) if volume is not None else []
            several_of = [replace(item, name=several(item.name, 1, part), part=part, parent=item.name) for part in parts]
            found += several_of if count > 1 else [item]
        except ScanError as error:
            unusable[item.name] = str(error)
    return found, unusable


def series_of(headers: Iterable[Header], foreign: Mapping[str | None, str | None], choice: Choice) -> list[Series]:
    """Return the series; those that are `foreign` (reasons by series) are skipped and play no part in judging the others."""
    own, others = [], []
    for header in headers:
        (others if header.series and foreign[header.series] else own).append(header)
    left = [replace(g, skipped=foreign[g.headers[0].series] if g.headers[0].has_pixels else g.skipped) for g in group_series(others)]
    return sorted([*group_series(own, choice), *left], key=lambda series: min(series.paths))


def passed_over(header: Header, modality: str, choice: Choice) -> str | None:
    """Return the reason why a file's series does not belong to a data set, or None if it does."""
    found = header.modality
    if found != modality:
        return f"series of modality {found}" if found in NAMED else "series of another modality"
    if header.sop_class.startswith(SECONDARY_CAPTURE):
        return "secondary captures (reports, screenshots)"
    if reason := no_hu(header):
        return reason
    if choice.series is not None and not re.search(choice.series, header.description):
        return "series of another description"
    return None


def no_hu(header: Header) -> str | None:
    """Return the reason why the values of a CT are not in HU, by its RescaleType, or None."""
    if header.modality != "CT" or header.rescale_type in AS_HU or header.rescale_type.startswith("HOUNSFIELD"):
        return None
    named = header.rescale_type if CODE.fullmatch(header.rescale_type) else "a unit of its own"
    return f"CT series in {named} (RescaleType) and not in HU"


def headers_of(items: Sequence[Item]) -> tuple[dict[tuple[Path, ...], Header], dict[str, str]]:
    """Return the headers of the DICOM files among the items, by their paths, and by name the reason why a header cannot be read."""
    found, unusable = {}, {}

    def read(item: Item) -> Header | str:
        try:
            return read_header(item.paths[0])
        except ScanError as error:
            return str(error)

    dicoms = [item for item in items if item.paths[0].suffix.lower() in DICOMS or is_dicom(item.paths[0])]
    with ThreadPoolExecutor(4) as pool:
        for item, header in zip(dicoms, pool.map(read, dicoms), strict=True):
            if isinstance(header, str):
                unusable[item.name] = header
            else:
                found[item.paths] = header
    return found, unusable


def with_data(items: Sequence[Item]) -> tuple[list[Item], dict[str, str]]:
    """Return the items, with the second file of those whose data are detached from their header, and by name why some are unusable."""
    found, unusable = [], {}
    for item in items:
        try:
            detached = item.paths[0].name.lower().endswith(HEADED)
            found.append(item.merged(item.name, files_of(item.paths[0])) if detached else item)
        except ScanError as error:
            unusable[item.name] = str(error)
    return found, unusable
