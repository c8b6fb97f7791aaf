"""The inputs of a generator and the paths of its outputs."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from medgan_pl.data.files.folders import walk
from medgan_pl.data.files.layouts import companion_name
from medgan_pl.data.files.mask_names import masks_among
from medgan_pl.data.files.records import Item, names_below
from medgan_pl.data.modality import Modality


@dataclass(frozen=True)
class Found:
    """The scans that were found: `items`; `unusable`: name -> reason; `left_out`: lines about files that are no such image."""

    items: list[Item]
    unusable: dict[str, str]
    left_out: list[str]


def gather(source: Path, modality: Modality, key: str = "input") -> Found:
    """Return the scans of a modality in a file or below a folder; a DICOM series is one scan.

    `key` is the setting that names the source, for messages. Raises FileNotFoundError if there is no such scan.
    """
    if not source.exists():
        raise FileNotFoundError(f"`{key}` must be a file or a folder of images, got {source}")
    if source.is_dir():
        files, passed = walk(source)
        taken = [path for path in files if modality.takes(path)]
        masks = masks_among([path.relative_to(source) for path in taken])
        taken = [path for path in taken if path.relative_to(source) not in masks]
        passed += Counter(path.suffix or path.name for path in {*files} - {*taken})
        names = [path.relative_to(source).as_posix() for path in taken]
    else:
        taken, names = ([source], [source.name]) if modality.takes(source) else ([], [])
        passed = Counter() if taken else Counter([source.suffix or source.name])
    gathered = modality.gather([Item(name, (path,)) for name, path in zip(names, taken, strict=True)]) if taken else None
    reasons = passed + (gathered.skipped if gathered else Counter())
    left = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common(8))
    if gathered is None or not (gathered.items or gathered.unusable):
        raise FileNotFoundError(
            f"`{key}` must contain what the generator was trained on, {modality.name} as {modality.kinds}, got "
            f"{left or 'no file at all'}; it takes no other images"
        )
    return Found(gathered.items, gathered.unusable, [f"left out: {left}"] if left else [])


def targets(items: Sequence[Item], source: Path, output: Path, *, spread: bool) -> list[tuple[Item, Path]]:
    """Return each item with the path of its output, without the ending: its path below `source`, moved below `output`.

    The names are those of `names_below`. `spread` says that <path>_sd is written too. Raises ValueError for two items with one path.
    """
    found: dict[Path, Item] = {}
    for item, name in zip(items, names_below(source, [item.paths for item in items]), strict=True):
        target = output / (name if item.part is None else f"{name}_{item.part + 1}")
        if target in found:
            raise ValueError(f"two inputs would become one output, {found[target].name} and {item.name}; rename one of them")
        found[target] = item
    for target, item in found.items():
        if spread and (other := found.get(target.with_name(f"{target.name}_sd"))):
            raise ValueError(f"the standard deviation of {item.name} and the output of {other.name} would be one file; rename one of them")
    return [(item, target) for target, item in found.items()]


def masks_of(items: Sequence[Item], source: Path, folder: Path, modality: Modality) -> dict[str, Item]:
    """Return, by the name of each item below `source`, the mask of the same name in a folder, if there is one.

    Endings do not count. A series has the name of its folder, or of `source` at the top. Raises ValueError for two masks or two items of
    one name, and FileNotFoundError if `folder` is none.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`holes` must be a folder of masks named as the inputs, got {folder}")
    taken = [path for path in walk(folder)[0] if modality.takes(path)]
    masks = modality.gather([Item(path.relative_to(folder).as_posix(), (path,)) for path in taken]).items if taken else []
    by_name: dict[str, Item] = {}
    for mask in masks:
        if other := by_name.get(name := named(mask, source)):
            raise ValueError(f"`holes` must contain one mask for each name, got {other.name} and {mask.name}; leave one of them out")
        by_name[name] = mask
    names = Counter(named(item, source) for item in items)
    name, count = names.most_common(1)[0] if names else ("", 0)
    if count > 1:
        raise ValueError(f"each input must have a name of its own, by which its mask is found, got {count} of {name}; move the others")
    return {item.name: by_name[named(item, source)] for item in items if named(item, source) in by_name}


def named(item: Item, source: Path) -> str:
    """Return the name by which a scan and its mask are matched."""
    name = companion_name(item.name)
    return source.name if name == "." else name
