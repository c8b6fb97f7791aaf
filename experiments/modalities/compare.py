"""Measure the gain of paired data in translation between modalities: one table and one picture of the same held-out heads.

  python -m experiments.modalities.compare experiment=mr_to_ct paired=[run_a/checkpoints/best.ckpt] unpaired=[run_b/checkpoints/best.ckpt]

Takes the keys of a paired training run (the experiment sets the modalities, data.… the patients) and those of compare.yaml. Each method
gets the same sources, and its images are compared with the image of the same head on the same grid. Methods without a network are the
unchanged source, and the source with other gray values (classical.py).
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from omegaconf import OmegaConf

from experiments.modalities.classical import HistogramMatch, mean_of_each, pools_matched
from experiments.modalities.translators import FOLDER, between_domains, composed, reaches, translated
from experiments.restoration.baselines import Announce, judge, write
from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.console import describe_keys, one_message
from medgan_pl.data.build import open_data
from medgan_pl.data.pictures import to_grid
from medgan_pl.data.sets import ImageSet, held_out, real_set
from medgan_pl.metrics.extractors.build import build_extractors
from medgan_pl.metrics.result import Result
from medgan_pl.models.fits import check_fits, training_unknown_because
from medgan_pl.models.generated import translate
from medgan_pl.models.load import load

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.data.domains import DomainsDataModule


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(f"{__doc__}\n{describe_keys(FOLDER / 'compare.yaml')}")
        return
    with one_message(None):
        compare(composed("compare", sys.argv[1:]), lambda what: print(what, flush=True))


def compare(config: "DictConfig", announce: Announce) -> dict[str, list[Result]]:
    """Translate, evaluate, write table.md, table.csv and pictures.png, and return the results of each method."""
    quiet_libraries()
    announce("the data")
    data = open_data(config.data)
    if "source" not in data.companions or data.channels != data.companions["source"].channels:
        raise ValueError(
            f"`experiment` must be of pairs with as many channels in source and image (mr_to_ct, mr_t1_to_t2), got {data.parts}"
        )
    rows, _, note = held_out(data)
    rows = rows[np.linspace(0, len(rows) - 1, min(config.images, len(rows))).astype(int)]
    truth, notes = real_set(data, rows), [note]
    source = replace(truth, get=lambda asked: data.batch(rows, asked.numpy())["source"], key="")
    made = by_gray_values(data, source, config.pooled)
    for name, images, caution in by_checkpoints(data, rows, source, config, announce):
        if name in made:
            raise ValueError(f"`paired` and `unpaired` must lie in run folders of different names, got {name} twice; each is a row")
        made[name] = images
        notes.append(caution and f"{name}: {caution}.")
    extractors = build_extractors(config.extractor)
    results = {name: judge(images, truth, data, extractors, config, announce).results for name, images in made.items()}
    output = Path(config.output)
    write(output, config.hydra.runtime.choices.experiment, results, truth, [each for each in notes if each])
    pictures = torch.cat([images.first(config.pictures) for images in (*made.values(), truth)])
    to_grid(pictures, min(config.pictures, len(rows))).save(output / "pictures.png")
    announce(f"{(output / 'table.md').read_text()}\npictures.png, from above: {', '.join(made)}, truth; all in {output}")
    return results


def by_gray_values(data: "ImageDataModule", source: ImageSet, count: int) -> dict[str, ImageSet]:
    """Return the unchanged sources, and those of methods without a network, which learn from `count` pairs of training images, evenly
    spaced."""
    pairs = data.peek("train", count)
    methods = {
        "histogram match": HistogramMatch(pairs["image"]),
        "pools matched": pools_matched(pairs["source"], pairs["image"]),
        "mean of each grey value": mean_of_each(pairs["source"], pairs["image"]),
    }
    return {"identity": source, **{name: source.changed(method, name) for name, method in methods.items()}}


def by_checkpoints(
    data: "ImageDataModule", rows: np.ndarray, source: ImageSet, config: "DictConfig", announce: Announce
) -> Iterator[tuple[str, ImageSet, str]]:
    """Yield for each checkpoint the name of its run folder, the images of its EMA generator from the sources, and a caution for the reader,
    "" for none."""
    for path in map(Path, config.paired):
        yield name_of(path), *in_pairs(path, data, rows, config, announce)
    for path in map(Path, config.unpaired):
        yield name_of(path), *without_pairs(path, data, rows, source, config, announce)


def name_of(path: Path) -> str:
    return path.resolve().parent.parent.name


def in_pairs(path: Path, data: "ImageDataModule", rows: np.ndarray, config: "DictConfig", announce: Announce) -> tuple[ImageSet, str]:
    """Return the images of a generator trained in pairs, and a caution. Raises ValueError for one that was trained on another task."""
    module = load(path, chosen_device(config.device))
    if not module.game.paired or module.game.segments:
        raise ValueError(f"{path} must be of a generator trained in pairs, got one of {type(module.game).__name__}; others are `unpaired`")
    check_fits(module, data)
    own, here = task(module.config["data"]), task(OmegaConf.to_container(config.data, resolve=True))
    if own != here:
        raise ValueError(f"{path} must be of a generator trained on the modalities of this experiment, {here}, got {own}")
    unknown = training_unknown_because(module.origin.fingerprint, data)
    announce(f"generating {len(rows):,} images")
    made = translate(module, data, rows, seed=config.seed, batch_size=config.batch_size)
    return made, unknown and f"test images may have been trained on, {unknown}"


def without_pairs(
    path: Path, data: "ImageDataModule", rows: np.ndarray, source: ImageSet, config: "DictConfig", announce: Announce
) -> tuple[ImageSet, str]:
    """Return the images of a generator between domains, and a caution. Raises ValueError for other sizes, another direction, and as
    `held_out_of` and `way`."""
    module, domains = between_domains(path, config)
    if (domains.size, domains.channels) != (data.size, data.channels):
        raise ValueError(f"{path} must make images of {data.channels} × {data.size}, got {domains.channels} × {domains.size}")
    caution = held_out_of(path, data, rows, domains)
    origin, target = way(path, data, domains, config.domains)
    if not reaches(module, origin, target):
        asked = f"{domains.classes[origin]} to {domains.classes[target]}"
        raise ValueError(f"{path} must translate {asked}, got a {type(module.game).__name__}, which does not")
    announce(f"{len(source):,} images of the generator")
    return translated(module, source, origin, target, config), caution


def task(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the task: source and image, without the place of the files."""
    source = (data.get("beside") or {}).get("source") or {}
    return {
        **{key: data.get(key) or {} for key in ("modality", "intensity", "degrade")},
        "source": {key: value for key, value in source.items() if key != "root"},
    }


def held_out_of(path: Path, data: "ImageDataModule", rows: np.ndarray, domains: "DomainsDataModule") -> str:
    """Return a caution if patients cannot be compared, "" if they can. Raises ValueError if the generator of `domains` was trained on a
    patient at `rows`."""
    if not data.phantom or not all(domain.phantom for domain in domains.domains.values()):
        # Patients are identified by a hash of their images, so the same patient has another name in each modality.
        return "with files it is not known whether its training held out the patients of these test images"
    asked = {data.records[record].patient for record in data.image_records[rows]}
    trained = {record.patient for record in domains.records if record.split == "train"}
    if asked & trained:
        raise ValueError(
            f"the test heads must be none that {path} was trained on, got {len(asked & trained)} of {len(asked)} that were; use the cohort "
            "(data.cohort) and the split (data.fractions, data.split_seed) of its run, or train it again"
        )
    return ""


def way(path: Path, data: "ImageDataModule", domains: "DomainsDataModule", names: Sequence[str] | None) -> list[int]:
    """Return the places of the domains of source and image: those `names`, or the only ones read and scaled as in the paired data."""
    available = f"{', '.join(domains.classes)} of {path}"
    if names is not None:
        if len(names) != 2 or set(names) - set(domains.classes):
            raise ValueError(f"`domains` must name the source's and the image's among {available}, got {list(names)}")
        return [domains.classes.index(name) for name in names]
    each = [preparation(domain) for domain in domains.domains.values()]
    found = []
    for what, wanted in (("source", data.companions["source"].settings), ("image", preparation(data))):
        if each.count(wanted) != 1:
            raise ValueError(
                f"one domain must be read and scaled as the {what} of the experiment, {wanted}, got {each.count(wanted)} of {available}; "
                "choose with domains=[SOURCE,IMAGE]"
            )
        found.append(each.index(wanted))
    return found


def preparation(data: "ImageDataModule") -> dict[str, Any]:
    """Return how the scans are read and scaled, in the form of a companion's `settings`."""
    return {**data.modality.settings, **data.pipeline.intensity.settings}


if __name__ == "__main__":
    main()
