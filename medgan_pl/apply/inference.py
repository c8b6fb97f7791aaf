"""Inference on whole films and volumes: read a scan, map it to [-1, 1], generate by windows, map back to native units, write it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import monai
import numpy as np
import torch
from torch import Tensor, nn

from medgan_pl.apply.detail import Clipped, Loss
from medgan_pl.apply.inputs import masks_of
from medgan_pl.apply.reading import Reading
from medgan_pl.apply.reference import Reference, read_reference
from medgan_pl.apply.windows import WINDOW_VOXELS, Generate, Windows, at_spacing, scales_to_training, window_sides
from medgan_pl.core.console import say
from medgan_pl.core.keys import Purpose, key_randomness, keyed_generator
from medgan_pl.core.settings import for_sidecars
from medgan_pl.data.companion import stack_companions
from medgan_pl.data.export import Facts, Provenance
from medgan_pl.data.export.alike import alike
from medgan_pl.data.export.anonymous import Alias, refuse_burned_in
from medgan_pl.data.export.origin import digest, digest_of_values, finite, is_done, sums_of, write_beside
from medgan_pl.data.files.records import Item
from medgan_pl.data.intensity import Levels, from_unit
from medgan_pl.data.mask_values import inside, spelled, values_in
from medgan_pl.data.masks import as_share, holes_of, with_holes
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.readers.scan import Scan
from medgan_pl.models.games.star import Star
from medgan_pl.models.games.translation import Translation

if TYPE_CHECKING:
    from medgan_pl.models.module import AdversarialModule

# The settings of the command line that change the result.
SETTINGS = ("from", "to", "resample", "coarser", "force", "uncertainty", "seed", "overlap")
# The probability above which a voxel belongs to a structure; of several structures the likeliest is used.
LIKELY = 0.5


class Inference:
    """The EMA generator of an image-to-image game, applied to whole scans by the `settings` of conf/apply.yaml.

    Raises ValueError as `Reading` and `read_reference`, and for settings that do not fit the generator: `uncertainty` without dropout or
    styles, `holes` for a generator that fills none (or missing for one that does), a `reference` for a generator without styles.
    """

    def __init__(self, module: "AdversarialModule", settings: dict[str, Any]) -> None:
        self.module, self.settings = module, settings
        self.reading = Reading(module, settings["from"], settings["to"])
        self.pipeline, self.layout = self.reading.pipeline, self.reading.pipeline.layout
        self.modality = self.pipeline.modality.choosing(settings["series"])
        self.frame = self.pipeline.frame
        self.styled = isinstance(module.game, Star)
        self.window = window_sides(settings["window"], self.reading.size, self.reading.enlarges, whole=self.styled)
        network = module.ema.network
        self.dropout = [layer for layer in network.modules() if isinstance(layer, nn.Dropout) and layer.p > 0]
        if settings["uncertainty"] and not (self.dropout or self.styled):
            raise ValueError(
                f"`uncertainty` needs a generator with dropout or with styles of noise, and {type(network).__name__} has neither; train "
                "one with model.generator.dropout=0.2, or model=star_gan"
            )
        # With dropout, one window at a time: several at once would use the same random numbers in another order.
        at_once = 1 if settings["uncertainty"] and self.dropout else settings["batch_size"]
        max_voxels = WINDOW_VOXELS if len(self.window) == 3 and settings["window"] is None else 0
        self.windows = Windows(
            self.window, self.reading.enlarges, network.multiple, settings["overlap"], at_once, module.device, max_voxels
        )
        self.alias = Alias() if settings["anonymize"] else None
        self.keeps_known = isinstance(module.game, Translation) and module.game.keep_known
        if self.frame.holes != (settings["holes"] is not None):
            need = "needs a folder of masks of the missing parts" if self.frame.holes else "has none to fill"
            raise ValueError(f"`holes` must fit the generator, which {need} (data.degrade), got holes={settings['holes']}")
        self.without_holes: list[str] = []  # scans whose mask marks nothing
        self.clipped: dict[str, Clipped] = {}  # by the name of the scan
        self.reference = self.style_image(settings["reference"])
        self.provenance = Provenance(
            model=module.config["model"]["generator"]["_target_"].split(".")[-1],
            checkpoint_sha256=module.origin.sha256,
            seed=settings["seed"],
            images_seen=module.images,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            config=for_sidecars(module.config),
        )

    def style_image(self, reference: Any) -> Reference | None:
        """Return the image whose style is used, or None if no reference is given."""
        if reference is None:
            return None
        if not self.styled:
            raise ValueError(
                f"`reference` gives a style, and only model=star_gan has styles; this one plays {type(self.module.game).__name__}"
            )
        if self.settings["uncertainty"]:
            raise ValueError("`uncertainty` draws a style for each pass, and `reference` gives one for all; leave one of them out")
        return read_reference(Path(str(reference)).expanduser().resolve(), self.reading.target, force=self.settings["force"])

    # One scan -----------------------------------------------------------------------------------------------------------------------

    def write(self, item: Item, target: Path, holes: Item | None) -> bool:
        """Write the generated image of a scan, its standard deviation if asked for, and their sidecars; return False if they are there.

        `holes` is the mask of the scan, for a generator that needs one. The detail that is lost is printed, and values outside the window
        are kept in `clipped`. Raises ScanError and ValueError for a scan that cannot be used, and OSError.
        """
        if self.frame.holes and holes is None:
            raise ValueError("it has no mask of its name in `holes`")
        settings = {key: self.settings[key] for key in SETTINGS} | {"window": list(self.window), "window_voxels": self.windows.max_voxels}
        settings["reference_sha256"] = self.reference and (self.reference.values_sha256 if self.alias else self.reference.sha256)
        content = digest([each.paths for each in (item, holes) if each is not None])
        target, known_by = (target, {"input_sha256": content}) if self.alias is None else self.unnamed(item, holes)
        origin = {"checkpoint_sha256": self.provenance.checkpoint_sha256, **known_by, "settings": settings}
        names = [target, *([target.with_name(f"{target.name}_sd")] if self.settings["uncertainty"] else [])]
        if all(is_done(name, origin) for name in names):
            return False
        scan = self.modality.read(item)
        layout = self.layout.of(scan)
        if holes is not None:
            mask = self.reading.masks.read_mask(holes)
            missing = inside(mask.pixels, None)[0]
            self.without_holes += [] if missing.any() else [f"{item.name} (values {spelled([values_in(mask.pixels)])})"]
            scan = stack_companions(scan, {"holes": replace(mask, pixels=missing.astype(np.float32))})
        if not self.settings["force"]:
            self.pipeline.check_modality(item, scan)
        scales = self.scales(scan)
        loss = None if self.keeps_known else Loss.of(scan, layout, scales)
        if loss:
            say(f"{item.name}: {loss}", error=True)
        levels, unit = self.native(scan)
        clipped = self.values_lost(scan, levels, unit)
        said = [f"{what}: {each}".replace("×", "x") for what, each in (("Resampled", loss), ("Clipped", clipped)) if each]
        kind = alike(item, scan, layout.each_axis(self.reading.factors), origin, ". ".join(said), self.alias)
        mean, deviation = self.made(scan, layout, scales, levels, content)
        target.parent.mkdir(parents=True, exist_ok=True)
        spacing_mm = self.made_spacing(scan, layout)
        if self.reading.segments:
            path = kind.labels(target, labels_of(mean))
        else:
            made_of = self.modality.name if self.reading.own else self.reading.inverse.modality  # as DICOM names it
            facts = Facts(0, unit, min(low for low, _ in levels), max(high for _, high in levels), spacing_mm)
            path = kind.image(target, mean[0], facts, self.provenance, made_of)
        lost = {"lost": loss and loss.plain(), "clipped": clipped and clipped.plain()}
        if deviation is not None:
            of = "probability" if self.reading.segments else unit
            self.write_sidecar(kind.spread(names[1], deviation), origin, {"unit": of, "content": "standard deviation over passes"} | lost)
        meaning = {"structures": self.reading.structures} if self.reading.segments else {"unit": unit, "levels": levels}
        self.write_sidecar(path, origin, meaning | lost | {"spacing_mm": spacing_mm})  # last: it marks the output as complete
        self.clipped |= {item.name: clipped} if clipped else {}
        return True

    def unnamed(self, item: Item, holes: Item | None) -> tuple[Path, dict[str, Any]]:
        """Return the path of an anonymous output, and what its sidecar says of the input. Print which input it is, which no file says.

        Both come from the values alone: names may be those of patients, and so may what a hash of the files holds, which trying finds.
        Raise ScanError for text in the pixels.
        """
        refuse_burned_in(item.paths)
        values = digest_of_values([self.modality.read(item), *([self.reading.masks.read_mask(holes)] if holes else [])])
        target = Path(str(self.settings["output"])).expanduser().resolve() / values[:16]
        say(f"{item.name} -> {target.name}")
        return target, {"anonymized": True, "input_values_sha256": values}

    def masks(self, items: Sequence[Item], source: Path) -> dict[str, Item]:
        """Return the masks in `holes` by the names of the scans below `source`, or none if none are needed. Raises as `masks_of`."""
        if not self.frame.holes:
            return {}
        return masks_of(items, source, Path(str(self.settings["holes"])).expanduser().resolve(), self.reading.masks)

    def native(self, scan: Scan) -> tuple[Levels, str]:
        """Return the levels of the generated image and the name of their unit: those of the scan, or of training for another modality."""
        if self.reading.own:
            return self.pipeline.source_levels(scan), self.modality.unit(scan).name
        return self.reading.inverse.levels, self.reading.inverse.unit

    def values_lost(self, scan: Scan, levels: Levels, unit: str) -> Clipped | None:
        """Return the values that the result cannot hold; None for a segmentation, another modality, and a generator that keeps them."""
        return Clipped.among(scan, levels, unit) if self.reading.own and not self.reading.segments and not self.keeps_known else None

    def made_spacing(self, scan: Scan, layout: Layout) -> tuple[float, ...] | None:
        """Return the spacing of the generated image, None if the scan has none or its slices lie on no even grid."""
        if scan.loose is not None:
            return None
        factors = layout.each_axis(self.reading.factors)
        return scan.spacing_mm and tuple(mm / factor for mm, factor in zip(scan.spacing_mm, factors, strict=True))

    def scales(self, scan: Scan) -> tuple[float, ...] | None:
        """Return the scales to the spacing of training. Raise ValueError as `scales_to_training`."""
        options = {key: self.settings[key] for key in ("resample", "force", "coarser")}
        options |= {"enlarges": max(self.reading.enlarges) > 1, "keeps": self.keeps_known}
        return scales_to_training(scan, self.pipeline, self.reading.spacing_mm, self.reading.factors, **options)

    def made(
        self, scan: Scan, layout: Layout, scales: tuple[float, ...] | None, levels: Levels, key: str
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the generated image on the axes of the scan, (M, *S · factors), and the standard deviation of several passes or None.

        M = 1 in native units, or one probability for each structure. The deviation (*S · factors) of probabilities is the largest one.
        """
        images = self.pipeline.source_images(scan)
        known = layout.images(scan.pixels) if self.keeps_known else None  # (n, *S), native: also what lies outside the window
        count = self.settings["uncertainty"] or 1
        mean = squares = torch.zeros(())
        for number, values in enumerate(self.passes(images, scales, levels, count, key), 1):
            values = values if known is None else torch.where(holes_of(images)[:, 0], values, known)
            off = values - mean
            mean = mean + off / number
            squares = squares + off * (values - mean)  # Welford 1962
        assembled = layout.assembled
        deviation = None if count == 1 else assembled((squares / (count - 1)).amax(0).sqrt())
        return np.stack([assembled(one) for one in mean]), deviation

    def passes(self, images: Tensor, scales: tuple[float, ...] | None, levels: Levels, count: int, key: str) -> Iterator[Tensor]:
        """Yield `count` times the output (M, n, *S · factors) for images (n, C, *S).

        Each pass has its own style, and its own dropout keyed to the content of the file.
        """
        for layer in self.dropout if count > 1 else []:
            layer.train()
        for i in range(count):
            if count > 1:  # a single pass draws only its style, by a generator of its own
                key_randomness(self.settings["seed"], i, int(key[:12], 16), Purpose.SAMPLES)
            apply = partial(self.apply_windows, partial(self.generate, self.style(i) if self.styled else {}))
            made = apply(images) if scales is None else at_spacing(apply, images, scales, self.reading.factors)
            made = made.movedim(1, 0)  # (K, n, *S)
            yield as_share(made.clamp(-1, 1)) if self.reading.segments else from_unit(made, levels)[None]

    def apply_windows(self, generate: Generate, images: Tensor) -> Tensor:
        """Map (n, C, *S) at the spacing of training to (n, K, *S · factors), by windows of the generator's grid."""
        return self.windows(generate, self.reading.thin(images) if max(self.reading.thick) > 1 else images)

    def style(self, turn: int) -> dict[str, Tensor]:
        """Return the batch keys of a pass's style, one row: the same for every window and image, or the windows would not fit together."""
        if self.reference is not None:
            return {"reference": self.reference.image}
        generator = keyed_generator(self.settings["seed"], 0, turn, Purpose.SAMPLES)
        return {"z": torch.randn(1, self.module.game.latent, generator=generator)}

    def generate(self, style: dict[str, Tensor], source: Tensor) -> Tensor:
        """Return the output of the generator for windows, all with one `style` if there are styles."""
        batch = {key: torch.full((len(source),), value, device=source.device) for key, value in self.reading.conditions.items()}
        batch |= {key: row.to(source.device).expand(len(source), *row.shape[1:]) for key, row in style.items()}
        if self.frame.holes:  # a resampled pixel that is partly missing is not known
            source = with_holes(source[:, :-1], holes_of(source), self.frame.fill)
        return self.module.generate({"source": source, "image": source, **batch}).float()

    def write_sidecar(self, path: Path, origin: dict[str, Any], content: dict[str, Any]) -> None:
        """Write the JSON beside the file or folder at `path`."""
        versions = {"medgan_pl": self.provenance.version, "torch": torch.__version__, "monai": monai.__version__}
        run = {"model": self.provenance.model, "images_seen": self.provenance.images_seen, "created": self.provenance.created}
        made_by = {"versions": versions, "config": self.provenance.config}
        write_beside(path, {"derived": True, "generator": "medgan_pl", **sums_of(path), **content, **origin, **run, **made_by})


def labels_of(probabilities: np.ndarray) -> np.ndarray:
    """Return (*S) from (K, *S): 1 to K for the likeliest structure where it is above LIKELY, else 0. Raise ValueError if not finite."""
    return np.where(finite(probabilities.max(0)) > LIKELY, probabilities.argmax(0) + 1, 0)
