"""How a trained generator wants its sources, and what it makes of them, by the settings that lie in its checkpoint."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from medgan_pl.apply.windows import Planes
from medgan_pl.core.safe_load import check_targets
from medgan_pl.data.degrade import Degradation, Fog, Holes, Shrink
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Levels, Percentiles, ZScore, to_unit
from medgan_pl.data.modalities import CT, Modality, XRay
from medgan_pl.data.prepare.geometry import Fit
from medgan_pl.data.prepare.layouts import PLANES, Film
from medgan_pl.data.readers.scan import Scan
from medgan_pl.data.settings import numbers
from medgan_pl.models.games.unpaired import Unpaired
from medgan_pl.models.networks.translator import enlarged

if TYPE_CHECKING:
    from medgan_pl.models.module import AdversarialModule

# A spacing this much off that of training is refused: what a network learnt of size and sharpness holds no longer.
OFF = 0.1


class Reading:
    """`size` (S', …): a training source's; `enlarges`: by how much the generator's image is larger, along each axis; `thick`: of how many
    slices one of the scan's is, as `Shrink` made them, which `enlarged` brings to the generator's grid; `factors`: by how much what comes
    out is larger than the scan, for both; `planes`: what of an array is one image; `structures`: names of what a segmentation tells apart;
    `needs_holes`: whether the source says what is missing of it, in its last channel; `masks`: how files of that are read; `fogged`:
    whether it was learnt with levels that fog moves, those of each scan.

    `target`: of a generator between domains the data settings of the one they are brought to.

    `came`, `goes`: of a generator between domains that of the scans, and the one they are brought to; None: the first, the last.

    Raises ValueError for a module whose generator makes images of noise, for domains it does not know, and for weights shared without
    their data's settings.
    """

    def __init__(self, module: "AdversarialModule", came: str | None = None, goes: str | None = None) -> None:
        game, self.data, self.inverse = module.game, module.config["data"], module.inverse
        if not game.sourced:
            raise ValueError("`checkpoint` must hold a generator of images from images; this one draws them of noise: use medgan_pl.sample")
        self.told: dict[str, int] = {}  # what the game must be told of a batch besides
        self.spacing_mm = module.inverse.spacing_mm  # of the images trained on, of several domains those of `came`
        if isinstance(game, Unpaired):
            self.between(module, came, goes)
        elif came is not None or goes is not None:
            raise ValueError(f"`from` and `to` are for generators between domains, and this one plays {type(game).__name__}")
        if "modality" not in self.data:
            raise ValueError("`checkpoint` must be a checkpoint of a run: shared weights do not say how its images were read")
        self.segments = game.segments
        dims = module.config["image"]["spatial_dims"]
        self.enlarges = module.ema.network.factors
        whole = numbers("data.size", self.data["size"], dims, 1, whole=True)
        self.size = tuple(side // factor for side, factor in zip(whole, self.enlarges, strict=True))
        beside = self.data.get("beside") or {}
        # The source's own settings where it is another scan; a source made from the image, or the image to be segmented, is read as it.
        companion = {} if self.segments else beside.get("source") or {}
        self.own = not companion and not self.told
        self.node = {key: (companion or self.data)[key] for key in ("modality", "intensity")}
        self.intensity = self.built(self.node["intensity"], "intensity")
        film = self.modality(None).spatial_dims == 2
        self.film = Film(size=self.size, crop=self.data["crop"]) if film else None
        self.planes = Planes(None if film or dims == 3 else PLANES[self.data["slices"]["axis"]][0])
        self.masks = XRay() if film else CT()
        self.structures = list(beside["mask"]["structures"]) if self.segments else []
        degrade: Degradation | None = None if self.segments or not self.data.get("degrade") else self.built(self.data["degrade"], "degrade")
        self.needs_holes = degrade is not None and degrade.extra_channels > 0
        steps = [step for _, _, step in degrade.parts()] if degrade else []
        self.fill = steps[-1].fill if steps and isinstance(steps[-1], Holes) else None
        self.thick = (1,) * dims if film else thickness(steps, dims)
        self.factors = tuple(a * b for a, b in zip(self.enlarges, self.thick, strict=True))
        self.fogged = isinstance(self.intensity, Percentiles | ZScore) and any(isinstance(step, Fog) for step in steps)

    def between(self, module: "AdversarialModule", came: str | None, goes: str | None) -> None:
        """Takes the settings of the domain that scans come from, and the way back to native units of the one they go to."""
        names = list(module.classes)
        for key, name in (("from", came), ("to", goes)):
            if name is not None and name not in names:
                raise ValueError(f"`{key}` must be one of the domains, {', '.join(names)}, got {name}")
        came, goes = came or names[0], goes or names[-1]
        label, target = names.index(came), names.index(goes)
        told = {"label": torch.tensor([label]), "target": torch.tensor([target])}
        reached = int(module.game.target({"image": torch.zeros(1), **told}))
        if reached != target or label == target:
            raise ValueError(f"this generator brings {came} to {names[reached]}, got from={came} to={goes}")
        if came not in self.data.get("domains", {}) or not {came, goes} <= module.inverses.keys():
            raise ValueError("`checkpoint` must be a checkpoint of a run: shared weights, and older ones, do not say how images were read")
        self.target = self.data["domains"][goes]
        self.told, self.data, self.inverse = {"label": label, "target": target}, self.data["domains"][came], module.inverses[goes]
        self.spacing_mm = module.inverses[came].spacing_mm

    def built(self, node: dict[str, Any], room: str) -> Any:
        """What a checkpoint, which travels, names in one room of the data and in no other: a data module would read files."""
        from hydra.utils import instantiate

        check_targets(node, (f"medgan_pl.data.{room}",))
        return instantiate(node, _convert_="all")

    def modality(self, series: str | None) -> Modality:
        """That of the sources; of DICOM series it takes those that `series` finds, and not those of the training data."""
        node = self.node["modality"]
        if "series" not in node and series is not None:
            raise ValueError(f"`series` chooses among DICOM series of volumes, and the generator takes films, got {series}")
        return self.built(node | ({"series": series} if "series" in node else {}), "modalities")

    def made_of(self, source: Modality) -> str:
        """The modality of what is made, as DICOM has it."""
        return source.name if self.own else self.inverse.modality

    def native(self, modality: Modality, scan: Scan) -> tuple[Levels, str]:
        """The levels of what is made of a scan, and the name of their unit: the scan's own, or, of another kind, those of training."""
        return (self.levels(scan), modality.unit(scan).name) if self.own else (self.inverse.levels, self.inverse.unit)

    def levels(self, scan: Scan) -> Levels:
        """Those of what there is of it: what stands in a hole has no say."""
        if self.needs_holes:
            hole = scan.beside[0].pixels > 0
            scan = replace(scan, padding=hole if scan.padding is None else scan.padding | hole)
        return self.intensity.levels(self.film.seen(scan) if self.film else scan)

    def images(self, scan: Scan) -> Tensor:
        """(n, C, *S) in [-1, 1]: the film or volume, or its slices, with what is missing filled and told of."""
        images = to_unit(self.planes.of(scan.pixels), self.levels(scan)).movedim(0, 1)
        if self.needs_holes:
            missing = self.planes.of(scan.beside[0].pixels)[:, None] > 0
            images = images if self.fill is None else torch.where(missing, self.fill, images)
            images = torch.cat([images, 2 * missing.to(images.dtype) - 1], 1)
        return images

    def enlarged(self, images: Tensor) -> Tensor:
        """(n, C, *S) -> (n, C, *S · thick): thick slices on the grid of thin ones, as training sources were."""
        return enlarged(images, self.thick)

    def scales(self, scan: Scan, *, resample: bool, force: bool) -> tuple[float, ...] | None:
        """How many times as wide as the scan's a training source's pixels are, for `resample`; None: it is taken as it is.

        Films without a spacing are measured in pixels: their proportions kept, they must fill a training source as training films did.
        ValueError for a scan whose pixels are more than OFF wider or narrower, unless either is asked for; of both `resample` holds.
        """
        shape = self.planes.within(scan.pixels.shape)
        if self.spacing_mm is not None and scan.spacing_mm is not None:
            own = self.planes.within(scan.spacing_mm)
            wanted = tuple(mm * factor for mm, factor in zip(self.spacing_mm, self.factors, strict=True))
            scales = tuple(b / a for a, b in zip(own, wanted, strict=True))
            what, unit, numbers_of = "spacing", "mm", ([f"{mm:.3g}" for mm in wanted], [f"{mm:.3g}" for mm in own])
        elif self.film is not None:
            scales = Fit(self.size, crop=self.data["crop"]).spacing(shape, (1.0, 1.0))
            what, unit, numbers_of = "size", "pixels", (list(map(str, self.size)), list(map(str, shape)))
        else:
            return None
        if all(1 / (1 + OFF) <= scale <= 1 + OFF for scale in scales) or (force and not resample):
            return None
        if not resample:
            wanted_text, own_text = (" × ".join(text) for text in numbers_of)
            raise ValueError(
                f"its {what} must be within {OFF:.0%} of that of training, {wanted_text} {unit}, got {own_text} {unit}; resample=true "
                "brings it there and the result back, force=true takes it as it is"
            )
        return scales


def thickness(steps: Sequence[Degradation], dims: int) -> tuple[int, ...]:
    """Along each axis how many slices they made one of, and enlarged back; of several the most, as the others come upon the grid of it."""
    shrinks = [step for step in steps if isinstance(step, Shrink) and step.axes is not None]
    return tuple(max((step.by for step in shrinks if axis in step.axes), default=1) for axis in range(dims))


def check_modality(modality: Modality, item: Item, scan: Scan, low: float) -> None:
    """ValueError for a scan whose values, where no file names its modality, are not those of this one; `low`: the one that becomes -1."""
    if why := modality.doubt(item, scan, low):
        raise ValueError(
            f"it must be {modality.name}, as what the generator was trained on was, and no tag says what it is: {why}; if it is "
            f"{modality.name} nevertheless, force=true takes it as it is"
        )
