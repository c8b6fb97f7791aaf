"""The scans that a trained generator takes and the images that it makes of them, according to its checkpoint."""

from typing import TYPE_CHECKING

import torch

from medgan_pl.data.modalities import reader_of_masks
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.models.games.unpaired import Unpaired
from medgan_pl.models.networks.translator import enlarged

if TYPE_CHECKING:
    from torch import Tensor

    from medgan_pl.models.module import AdversarialModule

UNREADABLE = "`checkpoint` must be a checkpoint of a run: shared weights do not record how its images were read"


class Reading:
    """The relation of scans, sources and generated images of one generator.

    - `pipeline`: maps scans to sources. `inverse`: maps generated images to native values of training.
    - `own`: True if the image has the levels and the unit of its own scan; else those of training (`inverse`).
    - `conditions`: batch keys that the game needs besides the source, with their value. `target`: the pipeline of the domain that scans are
      brought to, of a generator between domains.
    - `size`: of a source in training. `enlarges`: enlargement of the generator along each axis. `thick`: number of thin slices in one of
      the scan's slices, along each axis. `factors`: enlargement of the output over the scan, the product of both.
    - `spacing_mm`: of the training images, in the domain of the scans.
    - `segments`: True if the output is a segmentation; `structures`: the names of its channels.
    - `masks`: reads mask files of holes. `moved_levels`: True if training took levels from clean images that its degradation (fog) moves.

    `from_domain`, `to_domain`: for a generator between domains; by default the first and the last one.

    Raises ValueError for a generator that makes images of noise, unknown domains, and weights that were shared without a pipeline.
    """

    def __init__(self, module: "AdversarialModule", from_domain: str | None = None, to_domain: str | None = None) -> None:
        game = module.game
        if not game.sourced:
            raise ValueError("`checkpoint` must have a generator of images from images; this one draws from noise: use medgan_pl.sample")
        self.conditions: dict[str, int] = {}
        self.target: Pipeline | None = None
        if isinstance(game, Unpaired):
            from_domain, to_domain = self.set_domains(module, from_domain, to_domain)
        elif from_domain is not None or to_domain is not None:
            raise ValueError(f"`from` and `to` are for generators between domains, and this one plays {type(game).__name__}")
        elif "" not in module.pipelines:
            raise ValueError(UNREADABLE)
        self.inverse = module.inverses[to_domain] if to_domain else module.inverse
        self.spacing_mm = module.inverses[from_domain].spacing_mm if from_domain else module.inverse.spacing_mm
        stored = Pipeline.from_plain(module.pipelines[from_domain or ""])
        self.segments, self.enlarges = game.segments, module.ema.network.factors
        self.size = tuple(side // by for side, by in zip(stored.layout.image_size, self.enlarges, strict=True))
        self.pipeline = stored.of_source(self.size, image_alone=game.segments)
        self.own = not self.conditions and (game.segments or "source" not in stored.companions)
        self.structures = list(stored.companions["mask"].structures) if game.segments else []
        self.masks = reader_of_masks(self.pipeline.modality)
        frame = self.pipeline.frame
        self.thick = frame.thickness
        self.factors = tuple(a * b for a, b in zip(self.enlarges, self.thick, strict=True))
        self.moved_levels = frame.moves_levels and self.pipeline.intensity.from_values

    def set_domains(self, module: "AdversarialModule", from_domain: str | None, to_domain: str | None) -> tuple[str, str]:
        """Return the domain of the scans and the domain they are translated to, and store the batch keys that the game needs."""
        names = list(module.classes)
        for key, name in (("from", from_domain), ("to", to_domain)):
            if name is not None and name not in names:
                raise ValueError(f"`{key}` must be one of the domains, {', '.join(names)}, got {name}")
        from_domain, to_domain = from_domain or names[0], to_domain or names[-1]
        label, target = names.index(from_domain), names.index(to_domain)
        batch = {"label": torch.tensor([label]), "target": torch.tensor([target])}
        reached = int(module.game.target({"image": torch.zeros(1), **batch}))
        if reached != target or label == target:
            raise ValueError(f"this generator translates {from_domain} to {names[reached]}, got from={from_domain} to={to_domain}")
        if not {from_domain, to_domain} <= module.pipelines.keys() & module.inverses.keys():
            raise ValueError(UNREADABLE)
        self.conditions, self.target = {"label": label, "target": target}, Pipeline.from_plain(module.pipelines[to_domain])
        return from_domain, to_domain

    def thin(self, images: "Tensor") -> "Tensor":
        """Return thick slices (n, C, *S) on the grid of thin ones (n, C, *S · thick), as training sources were."""
        return enlarged(images, self.thick)
