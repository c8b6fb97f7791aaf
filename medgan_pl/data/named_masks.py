"""Files that are left out as masks by their names, and may be images: with_mask/7.png is a face, T1_brainmask.mgz a brain."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgan_pl.data.files.records import Item
from medgan_pl.data.mask_kinds import RANGE, kind_of
from medgan_pl.data.modality import Modality
from medgan_pl.data.prepare.label_maps import label_map
from medgan_pl.data.readers.scan import ScanError

KINDS = 5  # so many kinds of names are looked at, one file each


def doubts_about(masks: Sequence[Path], modality: Modality) -> list[str]:
    """Return a sentence if files that are masks by their names hold gray values as images do. It holds no name."""
    kinds: dict[str, list[Path]] = defaultdict(list)
    for path in masks:
        kinds[kind_of(path.as_posix())].append(path)
    commonest = sorted(kinds.values(), key=len, reverse=True)[:KINDS]
    if not (images := sum(len(paths) for paths in commonest if is_image(paths[0], modality))):
        return []
    return [
        f"{images} files are left out as masks by their names, but one of each kind that was read holds gray values as an image does; if "
        "they are images, set use=yes in the rows of `a mask by its name` in the dataset.csv of medgan_pl.inspect, and data.root to it"
    ]


def is_image(path: Path, modality: Modality) -> bool:
    """Return True for a file that can be read and has many values, which are not those of a mask."""
    try:
        pixels = modality.read(Item(path.name, (path,))).pixels
    except (ScanError, RuntimeError):  # color, several volumes, no decoder: no image of this set
        return False
    if not np.isfinite(pixels).all() or pixels.max() - pixels.min() <= RANGE:
        return False
    return not label_map(pixels, np.histogram(pixels, 64)[0].tolist())
