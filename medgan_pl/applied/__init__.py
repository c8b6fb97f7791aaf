"""A generator of images from images on whole films and volumes: read, in [-1, 1], by windows, in native units, written as they came."""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai
import numpy as np
import torch
from torch import Tensor, nn

from medgan_pl.applied.inputs import holes_in
from medgan_pl.applied.reading import Reading
from medgan_pl.data.beside import laid_under, name_of
from medgan_pl.data.export import Facts, Provenance, sha256
from medgan_pl.data.export.alike import alike
from medgan_pl.data.export.origin import sums_of, write_beside
from medgan_pl.data.intensity import Levels, from_unit
from medgan_pl.data.records import Item
from medgan_pl.data.scan import Scan
from medgan_pl.data.settings import numbers
from medgan_pl.data.windows import Windows, through_spacing
from medgan_pl.games.star import Star
from medgan_pl.keys import Purpose, key_randomness
from medgan_pl.sample import shareable

if TYPE_CHECKING:
    from medgan_pl.module import AdversarialModule

# Of the command line, what changes what is made.
SETTINGS = ("from", "to", "resample", "force", "uncertainty", "seed", "overlap")
# Most slices are one window then, without a seam; of larger films the overlap is wider than what a pixel sees.
WHOLE = 512
# Probabilities above which a voxel is of a structure; of several the likeliest.
LIKELY = 0.5


class Applied:
    """The averaged generator of a module of a sourced game, by the `settings` of conf/apply.yaml.

    Raises ValueError as `Reading`, and where settings and generator do not go together: `uncertainty` without dropout, `holes` with none
    to fill or missing.
    """

    def __init__(self, module: "AdversarialModule", settings: dict[str, Any]) -> None:
        self.module, self.settings = module, settings
        self.reading = Reading(module, settings["from"], settings["to"])
        self.modality = self.reading.modality(settings["series"])
        self.window = self.sides(settings["window"])
        network = module.average.network
        self.windows = Windows(
            self.window, self.reading.factors, network.multiple, settings["overlap"], settings["batch_size"], module.device
        )
        self.dropout = [layer for layer in network.modules() if isinstance(layer, nn.Dropout) and layer.p > 0]
        if settings["uncertainty"] and not self.dropout:
            raise ValueError(
                f"`uncertainty` needs a generator with dropout, and {type(network).__name__} has none; train one with "
                "model.generator.dropout=0.2"
            )
        if self.reading.needs_holes != (settings["holes"] is not None):
            need = "needs a folder of masks that say where something is missing" if self.reading.needs_holes else "has none to fill"
            raise ValueError(f"`holes` must fit the generator, which {need} (data.degrade), got holes={settings['holes']}")
        self.holes = holes_in(Path(str(settings["holes"])).expanduser(), self.reading.masks) if self.reading.needs_holes else {}
        self.provenance = Provenance(
            model=module.config["model"]["generator"]["_target_"].split(".")[-1],
            checkpoint_sha256=sha256(Path(settings["checkpoint"])),
            seed=settings["seed"],
            images_seen=module.images,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            config=shareable(module.config),
        )

    def sides(self, window: Any) -> tuple[int, ...]:
        """Of a window; by itself that of a training source, of films and slices WHOLE pixels of what is made if that is more."""
        size = self.reading.size
        if window is not None:
            return numbers("window", window, len(size), 4, whole=True)
        return size if len(size) == 3 else tuple(max(side, WHOLE // by) for side, by in zip(size, self.reading.factors, strict=True))

    # One scan -----------------------------------------------------------------------------------------------------------------------

    def write(self, item: Item, target: Path) -> bool:
        """Writes what is made of a scan, its standard deviation if asked for, and their sidecars; False where that was done before.

        Raises ScanError and ValueError for a scan that cannot be used, and OSError.
        """
        holes = self.holes_of(item)
        settings = {key: self.settings[key] for key in SETTINGS} | {"window": list(self.window)}
        told = {"checkpoint_sha256": self.provenance.checkpoint_sha256, "input_sha256": digest(item, holes), "settings": settings}
        names = [target, *([target.with_name(f"{target.name}_sd")] if self.settings["uncertainty"] else [])]
        if all(is_done(name, told) for name in names):
            return False
        scan = self.modality.read(item)
        if holes is not None:
            scan = laid_under(scan, {"holes": self.reading.masks.read(holes)})
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
            self.tell(kind.spread(names[1], spread), told, {"unit": unit, "content": "standard deviation over passes"})
        content = {"structures": self.reading.structures} if self.reading.segments else {"unit": unit, "levels": levels}
        self.tell(path, told, content | {"spacing_mm": spacing(scan, factors)})  # last: with it all is done
        return True

    def holes_of(self, item: Item) -> Item | None:
        if not self.reading.needs_holes:
            return None
        if name_of(item.name) not in self.holes:
            raise ValueError("it has no mask of its name in `holes`")
        return self.holes[name_of(item.name)]

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
        """`count` times what is made of images (n, C, *S): (M, n, *S · factors); each pass by its own numbers, keyed to the file's."""
        for layer in self.dropout if count > 1 else []:
            layer.train()
        for i in range(count):
            key_randomness(self.settings["seed"], i, int(key[:12], 16), Purpose.SAMPLES)
            whole: Callable[[Tensor], Tensor] = lambda x: self.windows(self.generate, x)  # noqa: E731
            made = whole(images) if scales is None else through_spacing(whole, images, scales, self.reading.factors)
            made = made.movedim(1, 0)  # (K, n, *S)
            yield (made.clamp(-1, 1) + 1) / 2 if self.reading.segments else from_unit(made, levels)[None]

    def generate(self, source: Tensor) -> Tensor:
        """What is made of windows, all by one style where there are styles."""
        told = {key: torch.full((len(source),), value, device=source.device) for key, value in self.reading.told.items()}
        if isinstance(self.module.game, Star):
            first = torch.randn(1, self.module.game.latent, generator=torch.Generator().manual_seed(self.settings["seed"]))
            told["z"] = first.to(source.device).expand(len(source), -1)
        return self.module.generate({"source": source, "image": source, **told}).float()

    def tell(self, path: Path, told: dict[str, Any], content: dict[str, Any]) -> None:
        """The sidecar of what is written at `path`."""
        versions = {"medgan_pl": self.provenance.version, "torch": torch.__version__, "monai": monai.__version__}
        run = {"model": self.provenance.model, "images_seen": self.provenance.images_seen, "created": self.provenance.created}
        origin = {"versions": versions, "config": self.provenance.config}
        write_beside(path, {"derived": True, "generator": "medgan_pl", **sums_of(path), **content, **told, **run, **origin})


def labels_of(probabilities: np.ndarray) -> np.ndarray:
    """(K, *S) -> (*S): 1 to K for the likeliest structure where it is above LIKELY, else 0."""
    return np.where(probabilities.max(0) > LIKELY, probabilities.argmax(0) + 1, 0)


def spacing(scan: Scan, factors: tuple[int, ...]) -> tuple[float, ...] | None:
    return scan.spacing_mm and tuple(mm / factor for mm, factor in zip(scan.spacing_mm, factors, strict=True))


def digest(item: Item, holes: Item | None) -> str:
    """SHA-256 of the content of all files of a scan, in order, and of its mask's."""
    parts = [[sha256(path) for path in each.paths] for each in (item, holes) if each is not None]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


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
