"""Measure whether images translated to a domain look like it, and like the same head in it: a table of every ordered pair of domains.

  python -m experiments.modalities.agreement checkpoint=outputs/<date>/<time>/checkpoints/best.ckpt

A small classifier learns the domains from the real training images of the checkpoint's run. "Called the target" is the share of
translations of real test images that it classifies as the target. That alone proves little, because an image of another head of the domain
would do as well. So on the cohort, which has each head in every domain on one grid, translations are also compared with the truth.
"""

import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from experiments.modalities.translators import FOLDER, between_domains, composed, reaches, translated
from experiments.restoration.baselines import Announce
from medgan_pl.core.command import chosen_device, quiet_libraries
from medgan_pl.core.console import describe_keys, one_message
from medgan_pl.data.domain_truth import each_domain_of, truth_unknown_because
from medgan_pl.data.pictures import to_grid
from medgan_pl.data.scale import scale_of
from medgan_pl.data.sets import ImageSet, held_out, real_set
from medgan_pl.metrics.estimate import Estimate, Resampling, cases
from medgan_pl.metrics.paired import Paired
from medgan_pl.metrics.pairs import measure_pairs
from medgan_pl.metrics.utility.classifier import Classifier, fit_classifier, predict
from medgan_pl.metrics.utility.teaching import Labeled

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from medgan_pl.data.domains import DomainsDataModule
    from medgan_pl.models.module import AdversarialModule

SHOWN = ("mae", "ssim")


@dataclass(frozen=True)
class Agreement:
    """The results of translations from `origin` to `target`: the share `called` the target; the errors of translations and of unchanged
    sources against the truth, {mae, mae_identity, ssim, ssim_identity}, empty if it is not known; `unit` of the MAE."""

    origin: str
    target: str
    called: Estimate
    errors: dict[str, Estimate] = field(default_factory=dict)
    unit: str = ""


def main() -> None:
    if {"--help", "-h"} & set(sys.argv[1:]):
        print(f"{__doc__}\n{describe_keys(FOLDER / 'agreement.yaml')}")
        return
    with one_message(None):
        agree(composed("agreement", sys.argv[1:]), lambda what: print(what, flush=True))


def agree(config: "DictConfig", announce: Announce) -> list[Agreement]:
    """Train the classifier, translate, evaluate, and write agreement.md, agreement.csv and pictures.png."""
    quiet_libraries()
    announce("the data")
    module, data = between_domains(Path(config.checkpoint), config)
    rows, _, note = held_out(data)
    test = real_set(data, rows[np.linspace(0, len(rows) - 1, min(config.images, len(rows))).astype(int)])
    announce("a classifier of domains")
    network = domain_classifier(data, config)
    accuracy = share(network, test, test.labels, config)
    known, why = truths(data, config.heads)
    notes = [f"Of {len(test):,} real test images the classifier is right on {percent(accuracy)}.", note, why]
    if known:
        heads = known[0].patients
        notes.append(f"Errors on {len(known[0]):,} images of {heads} simulated test heads, `identity` of the sources as they are.")
    found, pictures, output = [], [], Path(config.output)
    for origin, target in pairs(module, data):
        announce(f"from {data.classes[origin]} to {data.classes[target]}")
        found.append(agreement(module, data, network, (origin, target), test, known, config))
        pictures += pictured(
            module, (origin, target), known or [test.of_class(number) for number in range(len(data.classes))], bool(known), config
        )
    write(output, found, [each for each in notes if each])
    to_grid(torch.cat(pictures), len(pictures[0])).save(output / "pictures.png")
    rows = "source, made, truth" if known else "source, made"
    announce(f"{(output / 'agreement.md').read_text()}\npictures.png, from above, for each row of the table: {rows}; all in {output}")
    return found


def pairs(module: "AdversarialModule", data: "DomainsDataModule") -> list[tuple[int, int]]:
    places = range(len(data.classes))
    return [(origin, target) for origin in places for target in places if reaches(module, origin, target)]


def domain_classifier(data: "DomainsDataModule", config: "DictConfig") -> Classifier:
    """Return a classifier of the domains, trained on their real training images."""
    from hydra.utils import instantiate

    train = real_set(data, data.rows["train"])
    settings = instantiate(config.classifier)
    return fit_classifier([Labeled(train, train.labels)], len(data.classes), settings, config.seed, chosen_device(config.device))


def share(network: Classifier, images: ImageSet, wanted: Tensor | int, config: "DictConfig") -> Estimate:
    """Return the share of the images that the classifier calls `wanted`, with its interval over patients."""
    right = predict(network, images).argmax(1) == wanted
    return Resampling(config.draws).of_mean(right.double(), images.groups).as_share(cases(len(right), images.groups))


def agreement(
    module: "AdversarialModule", data: "DomainsDataModule", network: Classifier, way: tuple[int, int], test: ImageSet,
    known: Sequence[ImageSet], config: "DictConfig",
) -> Agreement:  # fmt: skip
    """Return the results of one direction between two domains; `known` are the same heads in every domain, empty if not known."""
    origin, target = way
    names = data.classes[origin], data.classes[target]
    called = share(
        network, with_patients_of(test.of_class(origin), translated(module, test.of_class(origin), *way, config)), target, config
    )
    if not known:
        return Agreement(*names, called)
    scale = scale_of(data.domains[names[1]])
    errors = {}
    for ending, images in (("", translated(module, known[origin], *way, config)), ("_identity", known[origin])):
        how = {"groups": known[target].groups, "draws": config.draws, "batch_size": config.batch_size, "inside": known[target].inside}
        results = measure_pairs(Paired(half_range=scale.half_range), images, known[target], **how)
        errors |= {result.key + ending: result.estimate for result in results if result.key in SHOWN}
    return Agreement(*names, called, dict(sorted(errors.items())), scale.unit)


def pictured(
    module: "AdversarialModule", way: tuple[int, int], images: Sequence[ImageSet], known: bool, config: "DictConfig"
) -> list[Tensor]:
    """Return evenly spaced images of the first domain, their translations and, if known, the truth."""
    origin, target = way
    source = images[origin]
    few = source.take(torch.linspace(0, len(source) - 1, min(config.pictures, len(source))).long())
    rows = [few.first(len(few)), translated(module, few, *way, config).first(len(few))]
    return [*rows, images[target].first(len(few))] if known else rows


def with_patients_of(source: ImageSet, made: ImageSet) -> ImageSet:
    """Return the translations with the patients of their sources."""
    return ImageSet(made.get, len(made), groups=source.groups)


def truths(data: "DomainsDataModule", heads: int) -> tuple[list[ImageSet], str]:
    """Return evenly spaced test heads of the cohort in every domain, on one grid: image i of each shows the same slice of the same head. A
    slice is kept if it is kept in every domain, since each domain drops empty ones by its own content. Returns [] with the reason if the
    domains are not of one cohort on one grid.
    """
    if why := truth_unknown_because(data):
        return [], f"Errors are not judged, since {why}."
    first = next(iter(data.domains.values()))
    known = {record.patient for record in data.records if record.split != "test"}
    records = [record for record in first.records if record.split == "test" and record.patient not in known]
    records = [records[i] for i in np.linspace(0, len(records) - 1, min(heads, len(records))).astype(int)]
    kept, groups = [], []
    for head, images in enumerate(each_domain_of(data, records)):
        keep = torch.stack([first.layout.worth(each) for each in images]).all(0)
        kept.append(images[:, keep])
        groups += [head] * int(keep.sum())
    together = torch.cat(kept, 1)
    return [ImageSet(images.__getitem__, len(images), groups=torch.tensor(groups)) for images in together], ""


def percent(share: Estimate) -> str:
    return f"{100 * share.value:.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def write(folder: Path, found: Sequence[Agreement], notes: Sequence[str]) -> None:
    """Write agreement.md for readers and agreement.csv for programs."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = list(found[0].errors)
    with (folder / "agreement.csv").open("w", newline="") as file:
        table = csv.writer(file)
        columns = [column for key in ("called", *keys) for column in (key, f"{key}_low", f"{key}_high")]
        table.writerow(["source", "target", "unit", *columns])
        for row in found:
            ends = [f"{getattr(e, end):.6g}" for e in (row.called, *row.errors.values()) for end in ("value", "low", "high")]
            table.writerow([row.origin, row.target, row.unit, *ends])
    lines = [f"| from | to | called the target |{''.join(f' {key} |' for key in keys)} mae is |", f"|---|---|---|{'---|' * len(keys)}---|"]
    for row in found:
        errors = [f" {e.value:.4g} ({e.low:.4g} to {e.high:.4g}) |" for e in row.errors.values()]
        lines.append(f"| {row.origin} | {row.target} | {percent(row.called)} |{''.join(errors)} {row.unit} |")
    (folder / "agreement.md").write_text("\n".join([*lines, "", "With 95 % intervals over patients.", *notes]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
