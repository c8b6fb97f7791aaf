"""What a generator is applied to, and where what it makes goes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from medgan_pl.data.beside import name_of
from medgan_pl.data.modalities import Modality
from medgan_pl.data.names import bare
from medgan_pl.data.records import Item, is_mask, walk

# Of scans in several files those that are no series: a header and its data.
HEADERS = (".nhdr", ".mhd")


@dataclass(frozen=True)
class Found:
    """`items`; `unusable`: name -> why; `left_out`: lines about what is no such image."""

    items: list[Item]
    unusable: dict[str, str]
    left_out: list[str]


def gather(source: Path, modality: Modality) -> Found:
    """The scans of a modality in a file, or below a folder; a DICOM series is one. FileNotFoundError where there is none."""
    if not source.exists():
        raise FileNotFoundError(f"`input` must be a file or a folder of images, got {source}")
    if source.is_dir():
        files, passed = walk(source)
        taken = [path for path in files if modality.takes(path) and not is_mask(path.relative_to(source), source)]
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
            f"`input` must hold what the generator was trained on, {modality.name} as {modality.kinds}, got "
            f"{left or 'no file at all'}; only such images can be given to it"
        )
    return Found(gathered.items, gathered.unusable, [f"left out: {left}"] if left else [])


def targets(items: Sequence[Item], source: Path, output: Path) -> list[tuple[Item, Path]]:
    """Each item with the path, but for the ending, of what is made of it: that below `source`, below `output`.

    A DICOM series has that of its folder, or of its first file where other images lie in or below that folder.
    ValueError for two items with one path.
    """
    found: dict[Path, Item] = {}
    inside = Counter(folder for item in items for folder in item.paths[0].parents)
    for item in items:
        first = PurePath(item.paths[0].relative_to(source)) if source.is_dir() else PurePath(source.name)
        name = bare(first.as_posix())
        if len(item.paths) > 1 and item.paths[0].suffix.lower() not in HEADERS and inside[item.paths[0].parent] == 1:
            name = first.parent.as_posix() if first.parent != PurePath() else source.name
        target = output / name
        if target in found:
            raise ValueError(f"two inputs would become one output, {found[target].name} and {item.name}; rename one of them")
        found[target] = item
    return [(item, target) for target, item in found.items()]


def holes_in(folder: Path, modality: Modality) -> dict[str, Item]:
    """The masks in a folder by the names of their images: endings aside, and of a series by its folder."""
    if not folder.is_dir():
        raise FileNotFoundError(f"`holes` must be a folder of masks named as the inputs, got {folder}")
    taken = [path for path in walk(folder)[0] if modality.takes(path)]
    items = modality.gather([Item(path.relative_to(folder).as_posix(), (path,)) for path in taken]).items if taken else []
    return {name_of(item.name): item for item in items}
