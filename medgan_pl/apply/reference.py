"""An image of the domain that others are brought to, whose style they take."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from medgan_pl.apply.inputs import digest, gather
from medgan_pl.apply.reading import Reading, check_modality
from medgan_pl.data.prepare.layouts import laid_out
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import ScanError
from medgan_pl.data.settings import numbers


@dataclass(frozen=True)
class Reference:
    """`image` (1, C, *S) in [-1, 1]; `sha256` of its files' content."""

    image: Tensor
    sha256: str


def read_reference(path: Path, reading: Reading, *, force: bool) -> Reference:
    """The image at `path`, a file or the folder of a DICOM series, as the images of the target domain were for training: at their size and
    levels. Of a volume, for a generator of slices, it is the middle one of those that training would take. `force`: whatever its values
    say of its modality.

    Raises FileNotFoundError where no file is of the domain's modality, ValueError for more than one image and for one that cannot be used.
    """
    data, dims = reading.target, len(reading.size)
    any_series = {"series": None} if "series" in data["modality"] else {}  # that of the training data had another name
    modality = reading.built(data["modality"] | any_series, "modalities")
    found = gather(path, modality, "reference")
    if len(found.items) + len(found.unusable) != 1:
        raise ValueError(f"`reference` must be one image, got {len(found.items) + len(found.unusable)} in {path}; name one of them")
    try:
        if found.unusable:
            raise ScanError(*found.unusable.values())
        (item,) = found.items
        scan = modality.read(item)
        # Of patches the one in the middle, on the grid that they are cut from.
        spacing = data.get("spacing_mm") or (scan.spacing_mm if data.get("patches") and dims == 3 else None)
        spacing = spacing and numbers("spacing_mm", spacing, dims, 0)
        size = numbers("size", data["size"], dims, 4, whole=True)
        layout = laid_out(modality.spatial_dims, dims, size, spacing, data["crop"], data.get("slices") or {})
        prepared = Pipeline(layout, reading.built(data["intensity"], "intensity"))(scan)
        if not force:
            check_modality(modality, item, scan, min(low for low, _ in prepared.levels))
    except (ValueError, RuntimeError) as error:  # RuntimeError: a compression whose decoder is not installed
        raise ValueError(f"`reference` must be an image that can be used, got {path}: {error}") from error
    return Reference(prepared.images[len(prepared.images) // 2][None], digest(item))
