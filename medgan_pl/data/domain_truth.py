"""The true image of a patient in another domain. On the embedded cohort the same patient can be read in every domain, on one grid."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from medgan_pl.data.companion import Companion
from medgan_pl.data.domains import DomainsDataModule
from medgan_pl.data.sets import ImageSet, real_set, stored

if TYPE_CHECKING:
    from torch import Tensor

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.data.files.records import Record


def truth_unknown_because(data: "ImageDataModule") -> str:
    """Return why the true image in another domain is unknown, and what to do; "" if it is known."""
    if not isinstance(data, DomainsDataModule):
        return "the domains are classes of one data set, which show different patients"
    if not data.phantom:
        return (
            "the domains are files, and their pairs are unknown; if you have pairs, use python -m medgan_pl.apply checkpoint=… "
            "input=SOURCES output=MADE and then python -m medgan_pl.evaluate fake=MADE real=TRUTHS paired=true, files of the same names"
        )
    if data.patches:
        return "patches are cut at random, at other places in each domain"
    first, *others = [(d.source.seed, d.source.shape, d.modality.structures, d.layout.settings) for d in data.domains.values()]
    if any(other != first for other in others):
        return "the domains have other patients or another part of the body, or cut them differently (cohort.seed, cohort.shape, slices)"
    return ""


def each_domain_of(data: DomainsDataModule, records: "Sequence[Record]") -> "Iterator[Tensor]":
    """Yield for each record all images that are cut from its patient in every domain, empty slices too: (domains, n, C, *S).

    `records` are of any one domain's table. The truth must be known (`truth_unknown_because`).
    """
    first, *_ = domains = list(data.domains.values())
    companions = [Companion(modality=domain.modality, intensity=domain.pipeline.intensity) for domain in domains]
    reads = [first.source.companions("source", companion, list(records)) for companion in companions]
    for place in range(len(records)):
        yield torch.stack([c.lay(read[place][1](), first.layout) for c, read in zip(companions, reads, strict=True)])


def truth_in_last_domain(data: DomainsDataModule, rows: np.ndarray) -> ImageSet:
    """Return for each image at these ascending `rows` of the table the same slice of the same patient in the last domain.

    It includes slices that the last domain would have dropped. The groups of the set are the patients at `rows`.
    """
    owners = data.image_records[rows]
    numbers = np.unique(owners)
    domains = data.labels[numbers]
    records = [data.domains[data.classes[d]].records[n - data.records_from[d]] for d, n in zip(domains, numbers, strict=True)]

    def parts() -> "Iterator[Tensor]":
        for number, domain, images in zip(numbers, domains, each_domain_of(data, records), strict=True):
            kept = data.layout.worth(images[domain])  # the slices that are in the table
            yield images[-1][kept][rows[owners == number] - np.searchsorted(data.image_records, number)]

    return replace(real_set(data, rows), get=stored(parts(), len(rows)).get, key="", labels=None)
