"""Find the style of a generator whose image is nearest to a given one: `analysis=inversion`."""

import csv
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from medgan_pl.core.allowed import DATA_PACKAGES, check_targets
from medgan_pl.core.console import say
from medgan_pl.core.counts import whole_number
from medgan_pl.core.files import atomically, write_whole
from medgan_pl.core.settings import reading
from medgan_pl.models.load import style_based

if TYPE_CHECKING:
    from omegaconf import DictConfig
    from torch import Tensor

    from medgan_pl.metrics.extractors.features import Extractor
    from medgan_pl.models.module import AdversarialModule
    from medgan_pl.models.networks.stylegan2 import StyleGAN2Generator


class Inversion:
    """Search for the style whose image is nearest to a given one, image by image (Karras et al. 2020, arXiv 1912.04958, sec. 5).

    - `steps`: steps of the search. `rate`: its highest learning rate.
    - `each_layer`: one w for each layer (W+), which comes nearer with images that the generator would not draw.
    - `features`: weight of the distance between features, added to that between pixels.
    """

    def __init__(self, *, steps: int = 1000, rate: float = 0.1, features: float = 1.0, each_layer: bool = False) -> None:
        whole_number("steps", steps, 1)
        if not all(isinstance(value, int | float) for value in (rate, features)) or not (rate > 0 and features >= 0):
            raise ValueError(f"`rate` must be above 0 and `features` at least 0, got {rate} and {features}")
        if not isinstance(each_layer, bool):
            raise ValueError(f"`each_layer` must be true or false, got {each_layer}")
        self.steps, self.rate, self.features, self.each_layer = steps, rate, features, each_layer

    def run(self, module: "AdversarialModule", config: "DictConfig", output: Path) -> None:
        """Write for each image a picture (target | nearest | difference) and its w, and distances.json for all."""
        import torch
        from rich.progress import track
        from safetensors.torch import save_file

        from medgan_pl.analyze.search import Search
        from medgan_pl.data.pictures import to_grid

        network = style_based(module, "an inversion")
        targets, names = read(module, Path(str(config.input)).expanduser(), config.n)
        extractors = [each.to(module.device) for each in extractors_for(targets, config)]
        output.mkdir(parents=True, exist_ok=True)
        center, spread = styles(module, network, config.seed)
        rows: list[dict[str, Any]] = []
        for start in range(0, len(targets), config.batch_size):
            part = targets[start : start + config.batch_size].to(module.device)
            search = Search(network, part, extractors, center, spread, each_layer=self.each_layer, features=self.features)
            torch.manual_seed(config.seed)  # of the noise of the search, so that no image depends on the others of its batch
            for step in track(range(self.steps), description="searching", transient=True):
                search.step(step / self.steps, self.rate)
            for target, found, w, near in zip(part, search.images(), search.w.detach(), search.left(), strict=True):
                name = f"{len(rows):06d}"
                with atomically(output / f"{name}.png") as temporary:
                    to_grid(torch.stack([target, found, (found - target) / 2]), columns=3).save(temporary, "PNG")
                with atomically(output / f"{name}.safetensors") as temporary:
                    save_file({"w": w.squeeze(0).cpu().contiguous()}, temporary)
                rmse = float((found - target).square().mean().sqrt())
                left = dict(zip(("pixels", *(each.name for each in extractors)), near.tolist(), strict=True))
                rows.append({"image": name, "rmse": rmse, "left": left})
                say(f"{name}  {names[len(rows) - 1]}  root mean square error {rmse:.4f} of a range of 2")
        about = {"about": "left: distances as shares of those of the average image", "steps": self.steps, "each_layer": self.each_layer}
        write_whole(output / "distances.json", (json.dumps(about | {"images": rows}, indent=2) + "\n").encode())
        say(f"{len(rows)} inversions, their w and distances.json are in {output}")


def read(module: "AdversarialModule", path: Path, n: int) -> tuple["Tensor", list[str]]:
    """Return at most n images (N, C, *S) in [-1, 1] of a file, a folder or a .csv, prepared like the generator's training data, and their
    names. Raises FileNotFoundError for no such file; ValueError for weights without the settings to read images."""
    from hydra.utils import instantiate

    stored = module.config["data"]
    if "modality" not in stored:
        raise ValueError("`checkpoint` must be a checkpoint of a run: shared weights do not record how its images were read")
    if not path.exists():
        raise FileNotFoundError(f"`input` must be a file or a folder of images, got {path}")
    node = reading(stored)
    check_targets(node, DATA_PACKAGES)
    whole = path.is_dir() or path.suffix.lower() == ".csv"
    with TemporaryDirectory() as folder:
        root = path if whole else Path(folder, "image.csv")  # a list of one: no folder is searched, and no rule for folders applies
        if not whole:
            with root.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([["image"], [path.absolute()]])
        where = {"root": str(root), "files": None, "split": "none", "classes": "none"}
        data = instantiate({**node, **where, "cache": {"dir": folder, "dtype": "float32"}}, _convert_="all")
        batch = data.peek("train", n)
        names = [data.records[row].name if whole else path.name for row in batch["record"].tolist()]
        return batch["image"].clone(), names


def extractors_for(images: "Tensor", config: "DictConfig") -> "list[Extractor]":
    """Return the extractors of the configuration, for images of these axes and channels."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    facts = {"image": {"spatial_dims": images.ndim - 2}, "data": {"channels": images.shape[1]}}
    node = OmegaConf.create(facts | {"extractor": OmegaConf.to_container(config.extractor, resolve=False)})
    return list(instantiate(node.extractor, _convert_="all").values())


def styles(module: "AdversarialModule", network: "StyleGAN2Generator", seed: int) -> tuple["Tensor", float]:
    """Return the mean w̄ (latent,) of 10,000 styles, over all conditions, and their spread √E‖w - w̄‖²."""
    import torch

    from medgan_pl.core.keys import Purpose, key_randomness

    key_randomness(seed, 0, 0, Purpose.SAMPLES)
    game, count, device = module.game, 10_000, module.device
    conditions = {"label": torch.arange(count, device=device) % max(1, game.classes)}
    conditions["covariates"] = torch.randn(count, len(game.covariates), device=device)
    with torch.no_grad():
        w = network.mapping(game.noise(count, game.latent, device), game.condition(conditions))
        return w.mean(0), float((w - w.mean(0)).square().sum(1).mean().sqrt())
