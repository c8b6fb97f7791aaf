"""Folders that hold the scans of many patients: they name a part of a set, and no patient."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import PurePath

from medgan_pl.data.files.listing import IMAGE_FOLDERS, SPLIT_NAMES
from medgan_pl.data.files.mask_names import commonest
from medgan_pl.data.files.names import bare
from medgan_pl.data.files.people import VISIT, person, scheme_of

# Words of which the whole name of a folder consists. After those of PARTS a number may stand: subset0, Training Batch 1.
PARTS = {*SPLIT_NAMES, "batch", "part", "subset", "fold", "center", "centre", "site", "hospital", "cohort", "disc", "release"}
WORDS = {
    *PARTS, *IMAGE_FOLDERS,
    "images", "data", "dataset", "raw", "rawdata", "original", "processed", "preprocessed", "source", "labeled", "labelled",
    "unlabeled", "unlabelled", "all", "averaged", "ct", "mr", "mri", "cta", "mra", "cxr", "xray", "films", "radiographs", "png",
    "jpg", "jpeg", "tiff", "nii", "nifti", "dicom", "dcm", "hgg", "lgg", "flair", "pd", "dwi", "adc",
}  # fmt: skip
OF_IMAGES = re.compile(r"t[12](?:w|c|ce|n|gd)?|images.*", re.IGNORECASE)
HELD = 3  # a folder of many patients holds at least so many files or folders, on average


def located(inners: Sequence[str]) -> list[str]:
    """Return the paths below the folders of many patients: Training Batch 1/volume-3.nii -> volume-3.nii

    Those are one folder that holds all, unless it holds visits, and folders named by WORDS. A path of a known naming scheme stays whole.
    """
    paths = [PurePath(inner).parts for inner in inners]
    shared = len(commonest([PurePath(inner) for inner in inners])) if inners else 0
    below = {"/".join(parts[shared : shared + 1]) for parts in paths}
    visits = sum(re.match(rf"(?i:(?:pre|post|{VISIT})(?:[-_./]|$))", name) is not None for name in below)
    inside = [parts[shared:] for parts in paths]
    paths = inside if len(below) >= HELD > 2 * visits or containers(inside) == below else paths
    while groups := containers(paths):
        paths = [parts[1:] if parts[0] in groups and len(parts) > 1 else parts for parts in paths]
    return [inner if scheme_of(inner) else "/".join(parts) for inner, parts in zip(inners, paths, strict=True)]


def containers(paths: Sequence[Sequence[str]]) -> set[str]:
    """Return the first folders of the paths that hold many patients by their names and by the number of what they hold."""
    held: dict[str, set[str]] = defaultdict(set)
    for parts in paths:
        if len(parts) > 1:
            held[parts[0]].add(parts[1])
    named = {folder for folder in held if holds_many(folder)}
    inside = [name for folder in named for name in held[folder]]
    repeated = len(inside) >= 2 * len({*inside})  # part1/T1.nii, part2/T1.nii: the numbers are of patients
    named = {folder for folder in named if not (repeated and re.search(r"\d$", folder) and not OF_IMAGES.fullmatch(folder))}
    return named if named and len(inside) >= HELD * len(named) else set()


def holds_many(folder: str) -> bool:
    """Return True for a name that consists of the WORDS."""
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", folder)]
    if OF_IMAGES.fullmatch(folder):
        return True
    return {*words} <= WORDS and bool({*words} & PARTS or (words and not re.search(r"\d", folder)))


def people_in(inners: Sequence[str]) -> list[str | None]:
    """Return for each path the patient whom it names, None for no one.

    A file that lies in several folders of many patients under one name (ct/7.nii, mr/7.nii) is of one patient.
    """
    places = located(inners)
    times = Counter(bare(place) for inner, place in zip(inners, places, strict=True) if place != inner)
    return [person(place) or (bare(place) if times[bare(place)] > 1 else None) for place in places]
