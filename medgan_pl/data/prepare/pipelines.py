"""The prepared pipeline: it maps a scan in native units to cached images, or to the input of a trained generator.

Nothing is random here. Training, `apply` and `evaluate` share one Pipeline, and a checkpoint stores it as plain values.
"""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from monai.transforms import Compose
from torch import Tensor

from medgan_pl.core.allowed import DATA_PARTS, check_targets
from medgan_pl.core.command import instantiate
from medgan_pl.data.degrade.base import Frame
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Intensity, Levels, to_unit
from medgan_pl.data.masks import with_holes
from medgan_pl.data.modality import Modality
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.prepare.prepared import CompanionReader, Prepare, Prepared, Usable
from medgan_pl.data.readers.scan import Scan, ScanError

# Part of the key of every cache. Raise it whenever the same file would give other images.
VERSION = 9
# The packages whose classes a stored pipeline may name. None of them opens a folder by itself.
PARTS = (*DATA_PARTS, "medgan_pl.data.prepare.layouts", "medgan_pl.data.prepare.patches")


class Pipeline:
    """The map of a scan to images in [-1, 1], and of generated images back to the scan.

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
        except RuntimeError as error:  # MONAI wraps errors of transforms
            if isinstance(error.__cause__, ScanError):
                raise error.__cause__ from None
            raise

    def along(self, layout: Layout) -> "Pipeline":
        """Return the same pipeline with another layout: one whose plane is known."""
        return Pipeline(layout, self.intensity, self.modality, self.companions, self.frame)

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
        """Return the pipeline of the scans for a trained generator, for sources of `size`.

        If the source is another scan of the patient, it has its own rules. `image_alone`: the source is the image itself, as for a
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
                f"it must be {name}, like the scans of training, and no tag names its modality: {why}; if it is {name} nevertheless, "
                "use force=true"
            )

    def source_levels(self, scan: Scan) -> Levels:
        """Return the levels of a scan; with a frame of holes the values inside the holes (its companion above 0) do not count."""
        if self.frame.holes:
            hole = scan.beside[0].pixels > 0
            scan = replace(scan, padding=hole if scan.padding is None else scan.padding | hole)
        return self.intensity.levels(self.layout.seen(scan))

    def source_images(self, scan: Scan) -> Tensor:
        """Return all images of a scan on its own grid, (n, C, *S) in [-1, 1], with the holes filled and marked in a last channel.

        Raise ScanError for a scan that has no such images (`Layout.of`).
        """
        layout = self.layout.of(scan)
        images = to_unit(layout.images(scan.pixels), self.source_levels(scan)).movedim(0, 1)
        if self.frame.holes:
            images = with_holes(images, layout.images(scan.beside[0].pixels)[:, None] > 0, self.frame.fill)
        return images


def described(part: Any, without: Sequence[str] = ()) -> dict[str, Any]:
    """Return the plain node that builds `part` again: the name of its class and the arguments of its constructor.

    A part keeps each argument as an attribute of the same name. Raise ValueError for one that does not.
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
    """Raise ValueError unless `plain` is a stored pipeline that is safe to build: only our own parts, and a frame of plain numbers."""
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
        raise ValueError("the frame of a stored pipeline must have holes, fill, thickness and moves_levels")
