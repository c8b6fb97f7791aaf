"""Checks of image data against themselves and against the model that learns from them."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from medgan_pl.data.doubts import FROM_AIR_HU, unlike_hu
from medgan_pl.data.files.listing import COMPANION_KEYS
from medgan_pl.data.files.records import Item, Record
from medgan_pl.data.image_table import Degrade
from medgan_pl.data.intensity import HU, Intensity
from medgan_pl.data.mask_values import spelled
from medgan_pl.data.modality import Modality
from medgan_pl.data.prepare.cache import Cache
from medgan_pl.data.prepare.prepared import CompanionReader
from medgan_pl.data.randomize import Randomize
from medgan_pl.data.readers.scan import blaming


def check_channels(channels: int, intensity: Intensity, companions: Mapping[str, CompanionReader]) -> None:
    """Raise ValueError for channels that are not the intensity's, and for a companion with an unknown key."""
    if channels != intensity.channels:
        raise ValueError(
            f"data.channels must be the channels of the intensity, got {channels}; use data.channels={intensity.channels}, "
            "or as many data.intensity.windows_hu"
        )
    if set(companions) - set(COMPANION_KEYS):
        raise ValueError(f"data.beside must hold some of {', '.join(COMPANION_KEYS)}, got {', '.join(companions)}")


def check_kinds(modality: Modality, companions: Mapping[str, CompanionReader]) -> None:
    """Raise ValueError unless films and slices in pictures have companions in pictures, and volumes have volumes."""
    for key, companion in companions.items():
        if companion.modality.spatial_dims != modality.spatial_dims:
            flat = modality.spatial_dims == 2
            use = f"beside@data.beside.mask={'film_masks' if flat else 'masks'}"
            if key == "source":
                use = f"beside@data.beside.source={'film, or ct or mri with data.beside.source.modality.pictures' if flat else 'ct or mri'}"
            kinds = "pictures" if flat else "volumes"
            raise ValueError(f"data.beside.{key} must read {kinds} like its image, got {companion.modality.kinds}; use {use}")


def check_folders(splits: Collection[str], title: str) -> None:
    """Raise ValueError unless split folders `splits` give images to train and val. `title` names the source."""
    if not {"train", "val"} <= set(splits):
        given = f"splits {', '.join(sorted(splits)) or 'none'} in {title}"
        raise ValueError(f"data.split=folders needs images in train and in val, got {given}; data.split=patient splits again")


def check_windows(degrade: Degrade | None, companions: Mapping[str, CompanionReader], intensity: Intensity) -> None:
    """Raise ValueError for a degradation that assumes other windows than those of its input images: its HU would be wrong."""
    key = "data.beside.source.intensity" if "source" in companions else "data.intensity"
    settings = companions["source"].settings if "source" in companions else intensity.settings
    windows = settings.get("window")
    for where, _, part in degrade.parts() if degrade else ():
        claimed = part.windows_hu and [list(pair) for pair in part.windows_hu]
        if claimed and claimed != windows:
            remedy = f"data.degrade{where}.windows_hu={windows}".replace(" ", "") if windows else f"intensity@{key}=window"
            raise ValueError(
                f"data.degrade{where}.windows_hu must be {key}.windows_hu, the values of -1 and 1, got {claimed} and {windows or 'none'}; "
                f"use {remedy}"
            )


def check_pixels(degrade: Degrade | None, spacing_mm: Sequence[float] | None) -> None:
    """Raise ValueError for a degradation that assumes a pixel more than 10 % larger or smaller than that of its input images."""
    for where, smaller, part in degrade.parts() if degrade and spacing_mm else ():
        side = smaller * spacing_mm[-1]
        if part.pixel_mm and not 0.9 <= part.pixel_mm / side <= 1.1:
            after = f" / {smaller}, after the earlier steps" if smaller > 1 else ""
            raise ValueError(
                f"data.degrade{where}.pixel_mm must be the side of a pixel at data.size{after}, got {part.pixel_mm:g}, and the images "
                f"have {side:.3g} mm there; use data.degrade{where}.pixel_mm={side:.3g}"
            )


def check_scans(records: Sequence[Record], companions: Mapping[str, CompanionReader], cache: Cache) -> None:
    """Raise ValueError as `check_units` and `check_masks`."""
    check_units(records, cache)
    check_masks(records, companions, cache)


def check_whole(degrade: Degrade, spacing_mm: Sequence[float] | None, randomize: Randomize) -> None:
    """Raise ValueError unless patches can be cut after a degradation of whole images.

    It must keep their size, nothing may move the patches afterwards, and pixels that it assumes must be those of every image.
    """
    if degrade.factor > 1:
        raise ValueError(f"a degradation of whole images must keep their size to cut patches after it, got a factor of {degrade.factor}")
    if on := [name for name, value in vars(randomize).items() if value]:
        raise ValueError(
            f"data.augment.{on[0]} must be off with data.patches and a degradation of whole images, whose sources are made before; use 0"
        )
    if spacing_mm is None and any(part.pixel_mm for _, _, part in degrade.parts()):
        raise ValueError(
            "data.spacing_mm must be given with data.patches and a degradation that assumes a pixel size, as each scan has its own; "
            "use that of most scans, such as data.spacing_mm=0.8"
        )


def check_units(records: Sequence[Record], cache: Cache) -> None:
    """Raise ValueError unless all scans have one unit."""
    units = {entry["unit"] for entry in cache.entries.values()}
    if len(units) > 1:
        names = [next(r.name for r in records if cache.entries.get(r.digest, {}).get("unit") == unit) for unit in sorted(units)]
        pairs = ", ".join(f"{unit} ({name})" for unit, name in zip(sorted(units), names, strict=True))
        raise ValueError(f"all scans must be in one unit, got {pairs}; convert them, or choose some with data.files")


def check_masks(records: Sequence[Record], companions: Mapping[str, CompanionReader], cache: Cache) -> None:
    """Raise ValueError for a structure that no mask of a set of files holds: the labels asked for are not those of the files."""
    facts = [cache.entries[record.digest]["facts"]["beside"] for record in records if companions and record.digest in cache.entries]
    for place, (key, companion) in enumerate(companions.items() if facts else ()):
        masks = [each[place] for each in facts if each[place]]
        absent = [name for name in (masks[0]["inside"] if masks else ()) if not any(mask["inside"][name] for mask in masks)]
        if absent:
            labels = companion.settings["labels"]
            raise ValueError(
                f"data.beside.{key}.labels must be values of the masks, got {labels or 'null: all above 0'}, and none of {len(masks)} "
                f"masks holds {', '.join(absent)}; their values are {spelled(mask['values'] for mask in masks)}"
            )


def reasons_against(records: Sequence[Record], cache: Cache, masks: Collection[str] = ()) -> dict[str, str]:
    """Return by name the reason why a record cannot be used, but for `masks`; of several files it names the one at fault."""
    records = [record for record in records if record.name not in masks]
    bad = [record for record in records if record.digest in cache.unusable]
    said = {r.name: blaming(cache.unusable[r.digest], r.paths, cache.faulty.get(r.digest)) for r in bad}
    read = [record for record in records if record.paths and record.digest in cache.entries]
    return said | shifted([record for record in read if not cache.entries[record.digest]["facts"]["mask"]], cache)


def shifted(records: Sequence[Record], cache: Cache) -> dict[str, str]:
    """Return by name the reason why a prepared scan is not in HU, as `apply` judges it."""
    found = {}
    for record in records:
        entry = cache.entries[record.digest]
        low = min(pair[0] for pair in entry["levels"])
        if entry["unit"] == HU.name and (
            why := unlike_hu(Item(record.name, record.paths), low, entry["facts"]["low"], entry["facts"]["shares"])
        ):
            found[record.name] = (
                f"{why}; store it in HU (often 1024 was added), or, if it is HU without any air, use a window that begins above "
                f"{FROM_AIR_HU} HU (data.intensity.windows_hu); if it is a mask, a dose or a map, choose the CT scans with data.files; "
                "data=mri reads MRI"
            )
    return found


def unusable_line(unusable: Mapping[str, str], total: int, max_corrupt: float) -> str:
    """Return a line that lists the unusable scans (name -> reason), "" without any. Raise ValueError above a share of `max_corrupt`."""
    if not unusable:
        return ""
    line = f"{len(unusable)} of {total} that cannot be used ({100 * len(unusable) / total:.1f} %): {by_kind(unusable)}"
    if len(unusable) > max_corrupt * total:
        raise ValueError(
            f"at most {100 * max_corrupt:g} % may be unusable (data.max_corrupt), got {line}; repair or remove them, or leave them "
            "out by the table of python -m medgan_pl.inspect (data.root=inspect/dataset.csv)"
        )
    return line


def by_kind(reasons: Mapping[str, str], kinds: int = 10, names: int = 3) -> str:
    """Return a text of named reasons: each kind once, with its first name, and a few of the others; numbers tell no kinds."""
    alike: dict[str, list[str]] = {}
    for name, why in reasons.items():
        alike.setdefault(re.sub(r"[\d.,]+", "0", why.removeprefix(name)), []).append(name)
    said = []
    for first, *others in list(alike.values())[:kinds]:
        more = f" and {len(others) - names} more" if len(others) > names else ""
        said.append(f"{first}: {reasons[first]}" + (f" (so are {', '.join(others[:names])}{more})" if others else ""))
    return "; ".join(said) + (f"; and {len(alike) - kinds} more reasons" if len(alike) > kinds else "")


def check_space(config: Mapping[str, Any], spatial_dims: int) -> None:
    """Raise ValueError unless the model has as many spatial dimensions as the images."""
    if config["image"]["spatial_dims"] != spatial_dims:
        raise ValueError(
            f"`image.spatial_dims` must be that of the data, got {config['image']['spatial_dims']}; these images have {spatial_dims}"
        )


def check_source(model: Mapping[str, Any], channels: Mapping[str, int], degrade: Degrade | None) -> None:
    """Raise ValueError unless a model of a paired task has the channels and the resolution of the data's source.

    `channels`: the channels of `image` and of the companions.
    """
    if "source_channels" not in model:
        return
    extra, factor = (degrade.extra_channels, degrade.factor) if degrade else (0, 1)
    given = channels.get("source", channels["image"]) + extra
    wanted = {"model.source_channels": (model["source_channels"], given), "model.factor": (model["factor"], factor)}
    for key, (own, found) in wanted.items():
        if own != found:
            raise ValueError(f"`{key}` must be that of the data, got {own}, and the source of the data has {found}; use {key}={found}")
