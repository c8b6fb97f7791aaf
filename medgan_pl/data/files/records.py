"""Images and the patients they belong to: files become items, and items become a table of records."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from medgan_pl.core.visible import visible
from medgan_pl.data.files.headless import begins_as_dicom
from medgan_pl.data.files.names import DICOMS, HEADED, OTHERS, PICTURES, bare
from medgan_pl.data.files.people import person


@dataclass(frozen=True)
class Item:
    """One image as it was found, in one file or several.

    - `name`: the name that messages show. `inner`: its path below the folders of splits and classes.
    - `identity`: the patient's identity; None if it is not known yet, or if nothing names the patient.
    - `covariates`: the text of each requested covariate, "" if it is unknown.
    - `part`: the place of the volume in files that hold several; None for the only one.
    - `parent`: what several volumes have in common; their patient if nothing names one.
    """

    name: str
    paths: tuple[Path, ...] = ()
    label: str | None = None
    split: str | None = None
    identity: str | None = field(default=None, repr=False)  # must never reach a log
    inner: str = ""
    covariates: tuple[str, ...] = field(default=(), repr=False)  # must not either
    part: int | None = None
    parent: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Make the name and the class visible: both are names for people, and keys of what belongs to them. The paths stay."""
        object.__setattr__(self, "name", visible(self.name))
        if self.label is not None:
            object.__setattr__(self, "label", visible(self.label).strip())

    def of(self, identity: str | None) -> "Item":
        """Return this item with that identity, unless it already has one."""
        return self if self.identity else replace(self, identity=identity)

    def merged(self, name: str, paths: tuple[Path, ...]) -> "Item":
        """Return this item as a scan in several files."""
        return replace(self, name=name, paths=paths)


@dataclass(frozen=True)
class Record:
    """One image ready for use.

    - `patient`: 12 hex digits, see `tabulate`. `covariates`: as in Item.
    - `digest`: the hash of the content, its companions included. `alone`: the hash without the companions, "" for an image without any.
    - `pixels`: the hash of the values, "" before the image is read.
    """

    name: str
    paths: tuple[Path, ...]
    label: str | None
    patient: str
    split: str | None
    digest: str
    pixels: str = ""
    covariates: tuple[str, ...] = field(default=(), repr=False)
    alone: str = ""
    part: int | None = None

    @property
    def key(self) -> str:
        """Return the key of the order of patients; the image's companions do not change it."""
        return self.alone or self.digest


def several(name: str, files: int, part: int | None = None) -> str:
    """Return the name of a scan in several files, or of one volume of several, made from the name of the first file."""
    return name + (f" (+{files - 1})" if files > 1 else "") + ("" if part is None else f" [{part + 1}]")


def first_of(name: str) -> str:
    """Return the name of the first file of a scan: the inverse of `several`."""
    return re.sub(r"( \(\+\d+\))?( \[\d+\])?$", "", name)


def names_below(root: Path, scans: Sequence[Sequence[Path]]) -> list[str]:
    """Return the name of each scan, given its files: its path below the folder `root` (or the file), without the ending of its kind.

    A DICOM series takes the path of its folder (of `root` its name), or of its first file if other scans lie in or below that folder.
    """
    inside, names = Counter(folder for paths in scans for folder in paths[0].parents), []
    for paths in scans:
        first = paths[0].relative_to(root) if root.is_dir() else Path(root.name)
        headed = first.name.lower().endswith(HEADED)  # two files, and no series: a header and its data
        alone = len(paths) > 1 and not headed and inside[paths[0].parent] == 1
        names.append((first.parent.as_posix() if first.parent != Path() else root.name) if alone else bare(first.as_posix()))
    return names


def is_dicom(path: Path) -> bool:
    """Return True for a DICOM file: by its suffix, or by its first bytes if the suffix is unknown (none, or the end of a UID).

    A DICOMDIR, the directory of a disc, is none.
    """
    suffix = path.suffix.lower()
    if path.stem.upper() == "DICOMDIR":
        return False
    if suffix in (*PICTURES, *DICOMS, *OTHERS):
        return suffix in DICOMS
    try:
        return begins_as_dicom(path)
    except PermissionError:
        return False


def identity_from(item: Item, pattern: re.Pattern[str] | None) -> str | None:
    """Return the item's identity (from a CSV or a DICOM PatientID), or the match of `pattern` in its file name or inner path, else None.

    Without a pattern it is the person whom the inner path names (`people.person`).
    """
    if item.identity:
        return item.identity
    if pattern is None:
        return person(item.inner)
    match = pattern.search(Path(item.inner).name) or pattern.search(item.inner)
    return match.group(0) if match else None


def tabulate(items: Sequence[Item], identities: Sequence[str | None], digests: Sequence[str]) -> list[Record]:
    """Return the records.

    `patient` is a hash of the smallest content digest of the patient's images, numbered where several patients have the same. No identity
    is in it, not even hashed: whoever has a hash can find the identity by trying names and numbers. An image without an identity is a
    separate patient.
    """
    first: dict[str, str] = {}
    for identity, digest in zip(identities, digests, strict=True):
        if identity:
            first[identity] = min(digest, first.get(identity, digest))
    owners: dict[str, list[str | None]] = defaultdict(list)
    table = []
    for item, identity, digest in zip(items, identities, digests, strict=True):
        key = first[identity] if identity else digest
        if identity not in owners[key]:
            owners[key].append(identity)
        patient = hashlib.blake2b(f"{key} {owners[key].index(identity)}".encode(), digest_size=6).hexdigest()
        table.append(Record(item.name, item.paths, item.label, patient, item.split, digest, covariates=item.covariates, part=item.part))
    return table


def fingerprint(classes: Sequence[str], records: Sequence[Record], covariates: Sequence[str] = ()) -> str:
    """Return a hash of the images, their order, classes, covariates and splits: equal for the same data set in any folder."""
    parts = [[r.digest, r.split, r.label, *r.covariates] for r in records]
    parts += [list(covariates)] if covariates else []
    return hashlib.sha256(json.dumps([list(classes), parts]).encode()).hexdigest()[:16]
