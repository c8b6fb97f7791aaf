"""What an image brought to another domain should show: on the cohort the same patient can be seen in every domain, on one grid."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from medgan_pl.data.companion import Companion
from medgan_pl.data.domains import DomainsDataModule
from medgan_pl.evaluate.sets import ImageSet, real_set, stored

if TYPE_CHECKING:
    from torch import Tensor

    from medgan_pl.data.datamodule import ImageDataModule
    from medgan_pl.data.files.records import Record


def unknown(data: "ImageDataModule") -> str:
    """Why nobody knows what an image of one domain should be in another, and what to do; "" where it is known."""
    if not isinstance(data, DomainsDataModule):
        return "the domains are classes of one data set, which show different patients"
    if not data.phantom:
        return (
            "the domains are files, and no pairs are known of them; where you have some, python -m medgan_pl.apply checkpoint=… "
            "input=SOURCES output=MADE and then python -m medgan_pl.evaluate fake=MADE real=TRUTHS paired=true, files of the same names"
        )
    if data.patches:
        return "patches are cut at random, elsewhere in each domain"
    first, *others = [(d.source.seed, d.source.shape, d.modality.structures, d.layout.settings) for d in data.domains.values()]
    if any(other != first for other in others):
        return "the domains show other patients or another part of the body, or cut them otherwise (cohort.seed, cohort.shape, slices)"
    return ""


def seen(data: DomainsDataModule, records: "Sequence[Record]") -> "Iterator[Tensor]":
    """Of each of these records of any one domain's table all that is cut from its patient in every domain, empty slices too:
    (domains, n, C, *S). Only where the truth is not `unknown`."""
    first, *_ = domains = list(data.domains.values())
    companions = [Companion(modality=domain.modality, intensity=domain.pipeline.intensity) for domain in domains]
    reads = [first.source.companions("source", companion, list(records)) for companion in companions]
    for place in range(len(records)):
        yield torch.stack([c.lay(read[place][1](), first.layout) for c, read in zip(companions, reads, strict=True)])


def in_last(data: DomainsDataModule, rows: np.ndarray) -> ImageSet:
    """Image for image what the last domain shows of the patient and the slice at these ascending `rows` of the table of images, whether or
    not it would have kept that slice itself; known to be of the patients at `rows`."""
    owners = data.image_records[rows]
    numbers = np.unique(owners)
    domains = data.labels[numbers]
    records = [data.domains[data.classes[d]].records[n - data.records_from[d]] for d, n in zip(domains, numbers, strict=True)]

    def parts() -> "Iterator[Tensor]":
        for number, domain, images in zip(numbers, domains, seen(data, records), strict=True):
            kept = data.layout.worth(images[domain])  # those that stand in the table
            yield images[-1][kept][rows[owners == number] - np.searchsorted(data.image_records, number)]

    return replace(real_set(data, rows), get=stored(parts(), len(rows)).get, key="", labels=None)
