"""A generator of images from images on whole films and volumes: read, in [-1, 1], by windows, in native units, written as they came."""

import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai
import numpy as np
import torch
from torch import Tensor, nn

from medgan_pl.apply.inputs import digest, masks_of
from medgan_pl.apply.reading import Reading, check_modality
from medgan_pl.apply.reference import Reference, read_reference
from medgan_pl.apply.windows import Generate, Windows, through_spacing
from medgan_pl.core.keys import Purpose, key_randomness, keyed_generator
from medgan_pl.core.settings import for_sidecars
from medgan_pl.data.companion import laid_under
from medgan_pl.data.export import Facts, Provenance
from medgan_pl.data.export.alike import alike
from medgan_pl.data.export.origin import finite, sums_of, write_beside
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Levels, from_unit
from medgan_pl.data.readers.scan import Scan
from medgan_pl.data.settings import are_numbers
from medgan_pl.models.games.star import Star
from medgan_pl.models.games.translation import Translation

if TYPE_CHECKING:
    from medgan_pl.models.module import AdversarialModule

# Of the command line, what changes what is made.
SETTINGS = ("from", "to", "resample", "force", "uncertainty", "seed", "overlap")
# Most slices are one window then, without a seam. In larger films a quarter of it overlaps, 128 pixels of what is made: a pixel of a deep
# generator sees further (RRDB), and near a window's border what is made differs from what the whole would give.
WHOLE = 512
# Of volumes as much goes through at once, the whole where it is no more: a U-Net of 4 levels sees 93 voxels to each side, so that in
# windows of a training volume's size hardly a voxel is away from their borders. Of width 32 it takes 1 KiB a voxel, so 4 GiB; an RRDB 7.
WHOLE_VOLUME = 2**22
# More than any side: `Windows` cuts it to the image's.
MOST = 2**30
# Probabilities above which a voxel is of a structure; of several the likeliest.
LIKELY = 0.5


class Applied:
    """The averaged generator of a module of a sourced game, by the `settings` of conf/apply.yaml.

    Raises ValueError as `Reading`, and where settings and generator do not go together: `uncertainty` with nothing to draw, `holes` with
    none to fill or missing, a `reference` with no style to take from it; and as `read_reference`.
    """

    def __init__(self, module: "AdversarialModule", settings: dict[str, Any]) -> None:
        self.module, self.settings = module, settings
        self.reading = Reading(module, settings["from"], settings["to"])
        self.modality = self.reading.modality(settings["series"])
        self.styled = isinstance(module.game, Star)
        self.window = self.sides(settings["window"])
        network = module.ema.network
        self.dropout = [layer for layer in network.modules() if isinstance(layer, nn.Dropout) and layer.p > 0]
        if settings["uncertainty"] and not (self.dropout or self.styled):
            raise ValueError(
                f"`uncertainty` needs a generator with dropout or with styles of noise, and {type(network).__name__} has neither; train "
                "one with model.generator.dropout=0.2, or model=star_gan"
            )
        # Where dropout is drawn, one window after the other: layer by layer, several would take the same numbers in another order.
        at_once = 1 if settings["uncertainty"] and self.dropout else settings["batch_size"]
        most = WHOLE_VOLUME if len(self.window) == 3 and settings["window"] is None else 0
        self.windows = Windows(self.window, self.reading.enlarges, network.multiple, settings["overlap"], at_once, module.device, most)
        self.keeps_known = isinstance(module.game, Translation) and module.game.keep_known
        if self.reading.needs_holes != (settings["holes"] is not None):
            need = "needs a folder of masks that say where something is missing" if self.reading.needs_holes else "has none to fill"
            raise ValueError(f"`holes` must fit the generator, which {need} (data.degrade), got holes={settings['holes']}")
        self.reference = self.looked_up(settings["reference"])
        self.provenance = Provenance(
            model=module.config["model"]["generator"]["_target_"].split(".")[-1],
            checkpoint_sha256=module.origin.sha256,
            seed=settings["seed"],
            images_seen=module.images,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            config=for_sidecars(module.config),
        )

    def sides(self, window: Any) -> tuple[int, ...]:
        """Of a window; by itself that of a training source, which in volumes grows to WHOLE_VOLUME, of films and slices WHOLE pixels of
        what is made if that is more, and the whole where instance norms look at all of it. ValueError for what is no window."""
        size = self.reading.size
        if window is not None:
            sides = [window] * len(size) if isinstance(window, int) else window
            if not are_numbers(sides, len(size), int) or min(sides) < 4:
                axes = "[H, W]" if len(size) == 2 else "[D, H, W]"
                raise ValueError(f"`window` must be a number or {axes} of at least 4 whole pixels or voxels, got {window}; null suits most")
            return tuple(sides)
        if self.styled:
            return (MOST,) * len(size)
        return size if len(size) == 3 else tuple(max(side, WHOLE // by) for side, by in zip(size, self.reading.enlarges, strict=True))

    def looked_up(self, reference: Any) -> Reference | None:
        """The image whose style is taken, if any is."""
        if reference is None:
            return None
        if not self.styled:
            raise ValueError(
                f"`reference` gives a style, and only model=star_gan has styles; this one plays {type(self.module.game).__name__}"
            )
        if self.settings["uncertainty"]:
            raise ValueError("`uncertainty` draws a style for each pass, and `reference` gives one for all; leave one of them out")
        return read_reference(Path(str(reference)).expanduser().resolve(), self.reading, force=self.settings["force"])

    # One scan -----------------------------------------------------------------------------------------------------------------------

    def write(self, item: Item, target: Path, holes: Item | None) -> bool:
        """Writes what is made of a scan, its standard deviation if asked for, and their sidecars; False where that was done before.
        `holes`: its mask, where the generator needs one.

        Raises ScanError and ValueError for a scan that cannot be used, and OSError.
        """
        if self.reading.needs_holes and holes is None:
            raise ValueError("it has no mask of its name in `holes`")
        settings = {key: self.settings[key] for key in SETTINGS} | {"window": list(self.window), "window_voxels": self.windows.most}
        settings["reference_sha256"] = self.reference and self.reference.sha256
        told = {"checkpoint_sha256": self.provenance.checkpoint_sha256, "input_sha256": digest(item, holes), "settings": settings}
        names = [target, *([target.with_name(f"{target.name}_sd")] if self.settings["uncertainty"] else [])]
        if all(is_done(name, told) for name in names):
            return False
        scan = self.modality.read(item)
        if holes is not None:
            scan = laid_under(scan, {"holes": self.reading.masks.read(holes)})
        if not self.settings["force"]:
            check_modality(self.modality, item, scan, min(low for low, _ in self.reading.levels(scan)))
        factors = self.reading.planes.each_axis(self.reading.factors)
        kind = alike(item, scan, factors, told)
        levels, unit = self.reading.native(self.modality, scan)
        mean, spread = self.made(scan, levels, told["input_sha256"])
        target.parent.mkdir(parents=True, exist_ok=True)
        if self.reading.segments:
            path = kind.labels(target, labels_of(mean))
        else:
            facts = Facts(0, unit, min(low for low, _ in levels), max(high for _, high in levels), spacing(scan, factors))
            path = kind.image(target, mean[0], facts, self.provenance, self.reading.made_of(self.modality))
        if spread is not None:
            of = "probability" if self.reading.segments else unit
            self.tell(kind.spread(names[1], spread), told, {"unit": of, "content": "standard deviation over passes"})
        content = {"structures": self.reading.structures} if self.reading.segments else {"unit": unit, "levels": levels}
        self.tell(path, told, content | {"spacing_mm": spacing(scan, factors)})  # last: with it all is done
        return True

    def masks(self, items: Sequence[Item], source: Path) -> dict[str, Item]:
        """By the names of scans below `source` their masks in `holes`; none where none is needed. Raises as `masks_of`."""
        if not self.reading.needs_holes:
            return {}
        return masks_of(items, source, Path(str(self.settings["holes"])).expanduser().resolve(), self.reading.masks)

    def made(self, scan: Scan, levels: Levels, key: str) -> tuple[np.ndarray, np.ndarray | None]:
        """(M, *S · factors) as the scan's axes are: M = 1 native, or a probability for each structure; and, of several passes, the standard
        deviation (*S · factors), of probabilities the largest."""
        images = self.reading.images(scan)
        scales = self.reading.scales(scan, resample=self.settings["resample"], force=self.settings["force"])
        passes = self.settings["uncertainty"] or 1
        mean = squares = torch.zeros(())
        for count, values in enumerate(self.passes(images, scales, levels, passes, key), 1):
            off = values - mean
            mean = mean + off / count
            squares = squares + off * (values - mean)  # Welford 1962
        back = self.reading.planes.back
        spread = None if passes == 1 else back((squares / (passes - 1)).amax(0).sqrt())
        return np.stack([back(one) for one in mean]), spread

    def passes(self, images: Tensor, scales: tuple[float, ...] | None, levels: Levels, count: int, key: str) -> Iterator[Tensor]:
        """`count` times what is made of images (n, C, *S): (M, n, *S · factors); each pass by its own style, and its own dropout, keyed to
        the file's."""
        for layer in self.dropout if count > 1 else []:
            layer.train()
        for i in range(count):
            key_randomness(self.settings["seed"], i, int(key[:12], 16), Purpose.SAMPLES)
            whole = partial(self.through, partial(self.generate, self.style(i)))
            made = whole(images) if scales is None else through_spacing(whole, images, scales, self.reading.factors)
            if self.keeps_known:  # to the bit, which resampling there and back would not
                made = torch.where(images[:, -1:] > 0, made, images[:, : made.shape[1]])
            made = made.movedim(1, 0)  # (K, n, *S)
            yield (made.clamp(-1, 1) + 1) / 2 if self.reading.segments else from_unit(made, levels)[None]

    def through(self, generate: Generate, images: Tensor) -> Tensor:
        """(n, C, *S) at the spacing of training -> (n, K, *S · factors), by windows of the generator's grid."""
        return self.windows(generate, self.reading.enlarged(images))

    def style(self, turn: int) -> dict[str, Tensor]:
        """What the game is told of a pass's style, a row: the same for every window and every image, or windows would not fit."""
        if self.reference is not None:
            return {"reference": self.reference.image}
        if not self.styled:
            return {}
        generator = keyed_generator(self.settings["seed"], 0, turn, Purpose.SAMPLES)
        return {"z": torch.randn(1, self.module.game.latent, generator=generator)}

    def generate(self, style: dict[str, Tensor], source: Tensor) -> Tensor:
        """What is made of windows, all by one `style` where there are styles."""
        told = {key: torch.full((len(source),), value, device=source.device) for key, value in self.reading.told.items()}
        told |= {key: row.to(source.device).expand(len(source), *row.shape[1:]) for key, row in style.items()}
        if self.reading.needs_holes:  # resampled, a hole's rim is partly filled, and a pixel that is missing in part is not known
            missing, shown = source[:, -1:] > -0.999, source[:, :-1]
            shown = shown if self.reading.fill is None else torch.where(missing, self.reading.fill, shown)
            source = torch.cat([shown, 2 * missing.to(source.dtype) - 1], 1)
        return self.module.generate({"source": source, "image": source, **told}).float()

    def tell(self, path: Path, told: dict[str, Any], content: dict[str, Any]) -> None:
        """The sidecar of what is written at `path`."""
        versions = {"medgan_pl": self.provenance.version, "torch": torch.__version__, "monai": monai.__version__}
        run = {"model": self.provenance.model, "images_seen": self.provenance.images_seen, "created": self.provenance.created}
        origin = {"versions": versions, "config": self.provenance.config}
        write_beside(path, {"derived": True, "generator": "medgan_pl", **sums_of(path), **content, **told, **run, **origin})


def labels_of(probabilities: np.ndarray) -> np.ndarray:
    """(K, *S) -> (*S): 1 to K for the likeliest structure where it is above LIKELY, else 0. ValueError for one that is not finite."""
    return np.where(finite(probabilities.max(0)) > LIKELY, probabilities.argmax(0) + 1, 0)


def spacing(scan: Scan, factors: tuple[int, ...]) -> tuple[float, ...] | None:
    return scan.spacing_mm and tuple(mm / factor for mm, factor in zip(scan.spacing_mm, factors, strict=True))


def is_done(target: Path, told: dict[str, Any]) -> bool:
    """Whether a sidecar of the name, and any ending, says that this was made, and what it belongs to is as it says."""
    for ending in ("", ".nii.gz", ".dcm", ".png", ".tif"):
        path = target.with_name(target.name + ending)
        sidecar = path.with_name(path.name + ".json")
        try:
            known = json.loads(sidecar.read_text(encoding="utf-8")) | {}
            if all(known.get(key) == value for key, value in (told | sums_of(path)).items()):
                return True
        except (OSError, ValueError, TypeError):  # no sidecar, or of something else
            continue
    return False
