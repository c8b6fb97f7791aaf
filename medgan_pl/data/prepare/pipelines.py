"""The prepared pipeline: from a scan in native units to the images that are cached, and from a scan to the input of a trained generator.

Nothing is random here. Training, `apply` and `evaluate` share one Pipeline, and a checkpoint stores it as plain values.
"""

import hashlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from monai.transforms import Compose, Transform
from torch import Tensor

from medgan_pl.core.allowed import DATA_PARTS, check_targets
from medgan_pl.core.command import instantiate
from medgan_pl.data.degrade.base import Frame
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Intensity, Levels, to_unit
from medgan_pl.data.masks import with_holes
from medgan_pl.data.modalities import Modality
from medgan_pl.data.phantom import Patient
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.readers.scan import Scan, ScanError

# Part of the key of every cache. Raise it whenever the same file would give other images.
VERSION = 3
# The packages whose classes a stored pipeline may name. None of them opens a folder by itself.
PARTS = (*DATA_PARTS, "medgan_pl.data.prepare.layouts")


class CompanionReader(Protocol):
    """A reader of images on the same grid as the image: the source of a paired task, or masks.

    `channels`: those that it adds. `settings`: all settings that its images depend on besides the files. `root`: the folder of its files;
    None if the data's own table names them.
    """

    channels: int
    settings: Mapping[str, Any]
    modality: Modality
    root: str | None

    def simulate(self, modality: Modality, patient: Patient, shape: tuple[int, ...]) -> Scan:
        """Return the scan of a patient of the embedded cohort, whose image is of `modality`."""

    def lay(self, scan: Scan, layout: Layout) -> Tensor:
        """Return its images (n, channels, *S) in [-1, 1], cut as the image is."""


@dataclass(frozen=True)
class Prepared:
    """The part of a scan that the cache keeps.

    - `images`: (n, C, *S) in [-1, 1]; further channels hold the companions.
    - `levels`: of the images. `spacing_mm`: of the images. `affine`: of a volume.
    - `facts`: of the scan as it was read, in plain containers; see `facts_of`.
    """

    images: Tensor
    levels: Levels
    spacing_mm: tuple[float, ...] | None
    affine: np.ndarray | None
    facts: dict[str, Any]


class Usable(Transform):
    """Passes a scan on. Raises ScanError for NaN, infinity, or the same value everywhere."""

    def __call__(self, scan: Scan) -> Scan:
        bad = scan.pixels.size - np.count_nonzero(np.isfinite(scan.pixels))
        if bad:
            raise ScanError(f"every value must be a finite number, got {bad} NaN or infinite of {scan.pixels.size}")
        if scan.pixels.min() == scan.pixels.max():
            raise ScanError(f"it must show something, got {scan.pixels.min():g} everywhere")
        return scan


class Prepare(Transform):
    """Maps a usable scan to Prepared: finds its levels, cuts it in native units, maps it to [-1, 1], and drops empty images.

    Raises ScanError if every image is empty or nothing lies between the levels.
    """

    def __init__(self, layout: Layout, intensity: Intensity, beside: Sequence[CompanionReader] = ()) -> None:
        self.layout, self.intensity, self.beside = layout, intensity, beside

    def __call__(self, scan: Scan) -> Prepared:
        levels = self.intensity.levels(self.layout.seen(scan))
        cut = self.layout.cut(scan, fill=min(low for low, _ in levels))
        images = to_unit(cut.pixels, levels).movedim(0, 1)  # (n, C, *S)
        keep = self.layout.worth(images)
        facts = facts_of(scan) | {"empty": int((~keep).sum()), "enlarged": cut.enlarged}
        if not keep.any():
            raise ScanError(f"every one of its {len(keep)} slices is empty (data.slices.foreground); values {range_of(scan)}")
        if images.min() == images.max():
            raise ScanError(f"nothing lies between the levels {levels} that become -1 and 1; values {range_of(scan)}")
        under = [beside.lay(other, self.layout) for beside, other in zip(self.beside, scan.beside, strict=True)]
        return Prepared(torch.cat([images, *under], 1)[keep], levels, cut.spacing_mm, cut.affine, facts)


def range_of(scan: Scan) -> str:
    return f"{scan.pixels.min():g} to {scan.pixels.max():g}"


def facts_of(scan: Scan) -> dict[str, Any]:
    """Return facts of a scan as it was read: shape, spacing, bits, range, a histogram of 64 bins over it, and the share of padding.

    `synthetic` says if the file calls itself generated. `pixels` is the hash of the values, equal for equal images whatever the files say.
    """
    low, high = float(scan.pixels.min()), float(scan.pixels.max())
    counts, content = np.zeros(64, np.int64), hashlib.blake2b(str(scan.pixels.shape).encode(), digest_size=16)
    for part in scan.pixels if scan.pixels.ndim == 3 else [scan.pixels]:  # slice by slice: whole, a volume would be copied
        content.update(np.ascontiguousarray(part))
        counts += np.histogram(part.astype(np.float64) - low, 64, (0, high - low))[0]
    return {
        "shape": list(scan.pixels.shape),
        "spacing_mm": scan.spacing_mm and list(scan.spacing_mm),
        "bits": scan.bits,
        "low": low,
        "high": high,
        "histogram": counts.tolist(),
        "padding": 0.0 if scan.padding is None else float(scan.padding.mean()),
        "synthetic": scan.synthetic,
        "pixels": content.hexdigest(),
    }


class Pipeline:
    """The map of a scan to images in [-1, 1], and of what is generated back to the scan.

    - `layout`, `intensity`, `modality`: the rules that cut, scale and read an image. A pipeline without a modality cannot be stored.
    - `companions`: readers of images on the same grid, by their key in a batch.
    - `frame`: the relation of a degraded source to its image.
    - `settings`: all settings that the result depends on besides the files of the scan, for the key of the cache.
    """

    def __init__(
        self,
        layout: Layout,
        intensity: Intensity,
        modality: Modality | None = None,
        companions: Mapping[str, CompanionReader] | None = None,
        frame: Frame | None = None,
    ) -> None:
        self.layout, self.intensity, self.modality, self.companions = layout, intensity, modality, dict(companions or {})
        self.frame = frame or Frame()
        beside = list(self.companions.values())
        self.chain = Compose([Usable(), Prepare(layout, intensity, beside)], log_stats=False)
        self.settings = {"version": VERSION, **(modality.settings if modality else {}), **layout.settings, **intensity.settings}
        if beside:
            self.settings["beside"] = [dict(each.settings) for each in beside]

    def __call__(self, scan: Scan) -> Prepared:
        """Return the images of training of a scan. Raise ScanError for a scan that cannot be used."""
        try:
            return self.chain(scan)
        except RuntimeError as error:  # MONAI wraps what a transform raises
            if isinstance(error.__cause__, ScanError):
                raise error.__cause__ from None
            raise

    # As plain values ------------------------------------------------------------------------------------------------------------------

    def plain(self) -> dict[str, Any]:
        """Return the pipeline as plain containers, without the folders of this machine."""
        parts = {name: described(getattr(self, name)) for name in ("modality", "layout", "intensity")}
        companions = {key: described(each, without=("root",)) for key, each in self.companions.items()}
        return json.loads(json.dumps(parts | {"companions": companions, "frame": asdict(self.frame)}))

    @classmethod
    def from_plain(cls, plain: Any) -> "Pipeline":
        """Return the pipeline that `plain` describes. Raise ValueError as `check_plain`."""
        check_plain(plain)
        parts = {name: instantiate(plain[name]) for name in ("layout", "intensity", "modality")}
        companions = {key: instantiate(node) for key, node in plain["companions"].items()}
        frame = Frame(**plain["frame"] | {"thickness": tuple(plain["frame"]["thickness"])})
        return cls(**parts, companions=companions, frame=frame)

    # Whole scans for a trained generator ------------------------------------------------------------------------------------------------

    def of_source(self, size: Sequence[int], *, image_alone: bool) -> "Pipeline":
        """Return the pipeline of the scans that a trained generator takes, for sources of `size`.

        If the source is another scan of the patient, it has rules of its own. `image_alone`: the source is the image itself, as for a
        segmentation.
        """
        source = None if image_alone else self.companions.get("source")
        modality, intensity = (source.modality, source.intensity) if source else (self.modality, self.intensity)
        whole = (1,) * len(size)
        frame = Frame() if image_alone else self.frame
        thickness = whole if modality.spatial_dims == 2 else frame.thickness or whole
        return Pipeline(self.layout.resized(size), intensity, modality, frame=replace(frame, thickness=thickness))

    def check_modality(self, item: Item, scan: Scan) -> None:
        """Raise ValueError for a scan whose values are not of this modality, if no file names its modality."""
        if why := self.modality.doubt(item, scan, min(low for low, _ in self.source_levels(scan))):
            name = self.modality.name
            raise ValueError(
                f"it must be {name}, as the scans of training were, and no tag names its modality: {why}; if it is {name} nevertheless, "
                "force=true takes it as it is"
            )

    def source_levels(self, scan: Scan) -> Levels:
        """Return the levels of a scan; with a frame of holes the values inside the holes (its companion above 0) do not count."""
        if self.frame.holes:
            hole = scan.beside[0].pixels > 0
            scan = replace(scan, padding=hole if scan.padding is None else scan.padding | hole)
        return self.intensity.levels(self.layout.seen(scan))

    def source_images(self, scan: Scan) -> Tensor:
        """Return all images of a scan on its own grid, (n, C, *S) in [-1, 1], with the holes filled and marked in a last channel."""
        images = to_unit(self.layout.images(scan.pixels), self.source_levels(scan)).movedim(0, 1)
        if self.frame.holes:
            images = with_holes(images, self.layout.images(scan.beside[0].pixels)[:, None] > 0, self.frame.fill)
        return images


def described(part: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the plain node that builds `part` again: the name of its class and the arguments of its constructor.

    A part keeps each argument as an attribute of the same name. Raises ValueError for one that does not.
    """
    node = {"_target_": f"{type(part).__module__}.{type(part).__qualname__}"}
    for name in inspect.signature(type(part)).parameters:
        if name in without:
            continue
        try:
            value = getattr(part, name)
        except AttributeError:
            raise ValueError(f"{type(part).__name__} must keep its argument `{name}` as an attribute of that name, to be stored") from None
        plain = value is None or isinstance(value, str | bool | int | float | Sequence)
        node[name] = value if plain else described(value)
    return node


def check_plain(plain: Any) -> None:
    """Raise ValueError unless `plain` is a stored pipeline that is safe to build: parts of ours alone, and a frame of plain numbers."""
    keys = {"modality", "layout", "intensity", "companions", "frame"}
    if not isinstance(plain, dict) or plain.keys() != keys:
        raise ValueError(f"a stored pipeline must have {', '.join(sorted(keys))}, and nothing else")
    check_targets({key: node for key, node in plain.items() if key != "frame"}, PARTS)
    frame = plain["frame"]
    fill, thickness = (frame.get(key) for key in ("fill", "thickness")) if isinstance(frame, dict) else (None, None)
    fits = isinstance(frame, dict) and frame.keys() == asdict(Frame()).keys()
    fits = fits and all(isinstance(frame[key], bool) for key in ("holes", "moves_levels"))
    fits = fits and (fill is None or (isinstance(fill, int | float) and -1 <= fill <= 1))
    if not fits or not isinstance(thickness, list) or not all(type(n) is int and 1 <= n <= 1024 for n in thickness):
        raise ValueError("the frame of a stored pipeline must say its holes, fill, thickness and moves_levels")
