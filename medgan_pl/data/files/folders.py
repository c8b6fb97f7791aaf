"""A folder of images: its layout gives the splits and the classes."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from medgan_pl.data.files.listing import SPLIT_NAMES, Listing, Wanted, below_images
from medgan_pl.data.files.mask_names import masks_among
from medgan_pl.data.files.names import PICTURES, VOLUMES
from medgan_pl.data.files.pairs import masks_of
from medgan_pl.data.files.people import FEW_EACH, MANY, are_people
from medgan_pl.data.files.records import Item

GRID = "grid.png"
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar")
SIDECAR = re.compile(r"\d{6,}(\.(png|dcm|nii\.gz))?\.json")  # of an image by `medgan_pl.sample`


def walk(root: Path) -> tuple[list[Path], Counter[str]]:
    """Return every file below `root`, and what was left out by its kind. Linked folders are entered, each folder once."""
    files, passed, seen = [], Counter(), set()
    for folder, folders, names in os.walk(root, followlinks=True, onerror=lambda error: passed.update(["unreadable folders"])):
        place = os.stat(folder)
        if (place.st_dev, place.st_ino) in seen:
            passed["links back to a folder"] += 1
            folders.clear()
            continue
        seen.add((place.st_dev, place.st_ino))
        folders[:] = sorted(name for name in folders if not hidden(Path(name)))  # the first name of several links to a folder counts
        if is_grid(names):
            names.remove(GRID)
            passed["grid of generated images"] += 1
        for path in (Path(folder, name) for name in names if not hidden(Path(name))):
            if path.is_file():
                files.append(path)
            else:
                passed["broken links or special files"] += 1
    return sorted(files), passed


def read_folder(root: Path, wanted: Wanted) -> Listing:
    """Return the images below `root`, laid out as `{train,val,test}/{class}/`, `{class}/`, split folders without classes, or flat.

    Without `wanted.classes`, only split folders have a meaning. Hidden files, `__MACOSX`, masks by their names (`masks_among`) and files
    of other kinds are left out; the title counts them.
    Raise FileNotFoundError if the root is missing or holds no image, ValueError if it mixes layouts or is one folder too high.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"data.root must be a folder or a .csv file, got {root}, {no_folder(root)}")
    files, passed = walk(root)
    taken = [path for path in files if wanted.takes(path)]
    others = passed + Counter(kind_of(p) for p in sorted({*files} - {*taken}))
    if masks := masks_among([path.relative_to(root) for path in taken], wanted.chosen):
        others["masks"] = len(masks)
        taken = [path for path in taken if path.relative_to(root) not in masks]
    if not taken:
        held = ", ".join(f"{n} {kind}" for kind, n in others.most_common(5)) or "no file at all"
        raise FileNotFoundError(f"data.root must hold {wanted.kinds}, got {root}, which holds {held}{way_out(files)}")
    listing = by_folders(root, [p.relative_to(root) for p in taken], wanted.classes)
    if not others:
        return listing
    pairs = masks_of([path.relative_to(root) for path in taken], sorted(masks), root)
    title = f"{listing.title}; left out: " + ", ".join(f"{n} {kind}" for kind, n in others.most_common(5))
    return Listing(listing.items, title, {"mask": pairs} if pairs else {}, [root / path for path in sorted(masks)])


def no_folder(root: Path) -> str:
    """Return what a path is that is no folder, and what to do."""
    if not root.exists():
        return "which does not exist" + ("" if root.is_absolute() else f" in {Path.cwd()}")
    if root.name.lower().endswith(ARCHIVES):
        return "an archive; unpack it, and give its folder"
    return "which is neither; give the folder that holds it"


def kind_of(path: Path) -> str:
    """Return the ending of a file's name, both of them for one like .nii.gz; the name of a file without one."""
    twofold = (ending for ending in VOLUMES if ending.count(".") > 1 and path.name.lower().endswith(ending))
    return next(twofold, path.suffix or path.name)


def way_out(files: Sequence[Path]) -> str:
    """Return which data set reads images that this one does not take, "" for other files."""
    names = [path.name.lower() for path in files]
    said = ""
    if any(name.endswith(VOLUMES) for name in names):
        said += "; data=ct and data=mri read NIfTI, NRRD, MetaImage and DICOM series"
    if any(name.endswith(PICTURES) for name in names):
        said += "; data=xray reads pictures (PNG, JPEG, TIFF) and DICOM as films; data=ct and data=mri read pictures as slices if "
        said += "data.modality.pictures states their gray values: [HU at black, HU at white], such as [-1000,400], or arbitrary for MRI"
    return said


def is_grid(names: Sequence[str]) -> bool:
    """Return True if a folder of these names has the overview of `medgan_pl.sample`: unlike the images beside it, it has no sidecar."""
    return GRID in names and f"{GRID}.json" not in names and any(SIDECAR.fullmatch(name) for name in names)


def hidden(path: Path) -> bool:
    """Return True for a hidden path, and for `__MACOSX`."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def by_folders(root: Path, paths: list[Path], classes: bool) -> Listing:
    """Return the images at `paths` below `root`, with the splits and classes of their folders; errors as `read_folder`."""
    splits = split_folders(root, paths, classes)
    depth = bool(splits)  # the number of folders before the class, or before the patient
    labeled = has_class_folders(root, paths, depth, classes)
    items = [
        Item(
            str(p),
            (root / p,),
            p.parts[depth] if labeled else None,
            SPLIT_NAMES[p.parts[0].lower()] if splits else None,
            inner=below_images(p.parts[depth + labeled :]),
        )
        for p in paths
    ]
    return Listing(items, f"{'split folders' if splits else 'one folder'}, {'classes' if labeled else 'no label'}")


def split_folders(root: Path, paths: list[Path], classes: bool) -> set[str]:
    """Return the names of the split folders; empty without any. Raise ValueError for a mix of layouts."""
    tops = {p.parts[0] for p in paths if len(p.parts) > 1}
    splits = {top for top in tops if top.lower() in SPLIT_NAMES}
    loose = sum(len(p.parts) == 1 for p in paths)
    if tops and loose and (classes or splits):
        raise ValueError(
            f"images must lie either in folders or flat; {root} holds {loose} loose ones and the folders {', '.join(sorted(tops)[:5])}; "
            f"move the loose ones{'' if splits else ', or take all without classes: data.classes=none'}"
        )
    if splits and splits != tops:
        if classes:
            raise ValueError(f"the folders of {root} must be either splits or classes, got both: {', '.join(sorted(tops)[:8])}")
        splits = set()  # a patient's folder may be called test
    inner = {p.parts[1] for p in paths if len(p.parts) > 2 and p.parts[1].lower() in SPLIT_NAMES}
    if inner and not splits and len(tops) == 1 and all(len(p.parts) > 2 for p in paths):
        raise ValueError(
            f"data.root must hold the split folders itself, got {root}, whose one folder {min(tops)} holds {', '.join(sorted(inner))}; "
            f"use data.root={root / min(tops)}"
        )
    return splits


def has_class_folders(root: Path, paths: list[Path], depth: int, classes: bool) -> bool:
    """Return True if the images lie in class folders below `depth` folders.

    Folders that a known naming scheme gives to patients are no classes, nor is the one folder above them.
    Raise ValueError if only some do, or if the folders look like those of patients.
    """
    deep = [p for p in paths if len(p.parts) > depth + 1]
    if not (classes and deep) or are_people([p.parts[depth:] for p in deep]):
        return False
    if len({p.parts[depth] for p in deep}) == 1 and are_people([p.parts[depth + 1 :] for p in deep]):
        return False
    if len(deep) < len(paths):
        flat = next(p for p in paths if len(p.parts) == depth + 1)
        raise ValueError(f"in {root} some images lie in class folders and some do not, such as {flat}; give every image a class, or none")
    names = {p.parts[depth] for p in paths}
    if len(names) > MANY and len(paths) < FEW_EACH * len(names):
        raise ValueError(
            f"folders must be classes, got {len(names)} that hold {len(paths) / len(names):.1f} images each, as patients' folders do; use "
            "data.classes=none \"data.patient_pattern='^[^/]+(?=/)'\", or a CSV with the columns image and label"
        )
    return True
