"""A reference image of the target domain, whose style the generated images take."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from medgan_pl.apply.inputs import gather
from medgan_pl.data.export.origin import digest, digest_of_values
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import ScanError


@dataclass(frozen=True)
class Reference:
    """A style image: `image` (1, C, *S) in [-1, 1], and `sha256` of the content of its files, `values_sha256` of its values alone."""

    image: Tensor
    sha256: str
    values_sha256: str


def read_reference(path: Path, target: Pipeline, *, force: bool) -> Reference:
    """Return the image at `path` (a file, or the folder of a DICOM series) as the images of the target domain were prepared for training.

    Of a volume, a generator of slices takes the middle one of the slices that training would take. `force` skips the check of the values
    against the modality. Raises FileNotFoundError if no file is of the domain's modality, and ValueError for more than one image and for an
    image that cannot be used.
    """
    modality = target.modality.choosing(None)  # the series of the training data had another name
    found = gather(path, modality, "reference")
    if len(found.items) + len(found.unusable) != 1:
        raise ValueError(f"`reference` must be one image, got {len(found.items) + len(found.unusable)} in {path}; name one of them")
    try:
        if found.unusable:
            raise ScanError(*found.unusable.values())
        (item,) = found.items
        scan = modality.read(item)
        pipeline = Pipeline(target.layout.fixed(scan), target.intensity, modality)
        prepared = pipeline(scan)
        if not force:
            pipeline.check_modality(item, scan)
    except (ValueError, RuntimeError) as error:  # RuntimeError: a compression whose decoder is not installed
        raise ValueError(f"`reference` must be a usable image, got {path}: {error}") from error
    return Reference(prepared.images[len(prepared.images) // 2][None], digest([item.paths]), digest_of_values([scan]))
