"""The sets of images that an evaluation compares: reals of a data module, and fakes from any source."""

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from medgan_pl.data.files import split
from medgan_pl.data.prepare.formats import Format

if TYPE_CHECKING:
    from medgan_pl.data.datamodule import ImageDataModule

# Fakes are stored like the reals in the cache, so that rounding does not distinguish them.
STORED = Format("uint16")


@dataclass(frozen=True)
class ImageSet:
    """Images and facts about them; as `metrics.features.Images`, `set[rows]` are images (B, C, *S) in [-1, 1].

    - `get`: (B,) int64 -> those images. `count`: their number.
    - `key`: a hash of the content, equal for equal images in equal order; features of reals are cached by it. "" for fakes.
    - `labels`: (N,) int64, None without classes. `groups`: (N,) int64, the patient of each image, None if each is a separate one.
    - `names`: a name for each image by which a person finds it. `masks`: (N, 1, *S) of {0, 1}, None if unknown. `covariates`: (N, K)
      float32, standardized, None without any.
    - `inside`: as `get`, (B, 1, *S) of {0, 1}: 0 in padding, which is no image; None if no image has any.
    """

    get: Callable[[Tensor], Tensor] = field(repr=False)
    count: int
    key: str = ""
    labels: Tensor | None = field(default=None, repr=False)
    groups: Tensor | None = field(default=None, repr=False)
    names: Sequence[str] = field(default=(), repr=False)
    masks: Tensor | None = field(default=None, repr=False)
    covariates: Tensor | None = field(default=None, repr=False)
    inside: Callable[[Tensor], Tensor] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, rows: Tensor) -> Tensor:
        return self.get(rows)

    @property
    def patients(self) -> int:
        return self.count if self.groups is None else len(self.groups.unique())

    def take(self, rows: Tensor) -> "ImageSet":
        """Return the set of the images at `rows`, in that order."""
        key = self.key and digest(self.key, rows.numpy().tobytes())
        return ImageSet(
            lambda asked: self.get(rows[asked]),
            len(rows),
            key,
            None if self.labels is None else self.labels[rows],
            None if self.groups is None else self.groups[rows],
            [self.names[row] for row in rows.tolist()] if self.names else (),
            None if self.masks is None else self.masks[rows],
            None if self.covariates is None else self.covariates[rows],
            None if self.inside is None else lambda asked: self.inside(rows[asked]),
        )

    def at_most(self, n: int, seed: int = 0) -> "ImageSet":
        """Return all images, or `n` of them drawn by `seed`."""
        return self if self.count <= n else self.take(torch.randperm(self.count, generator=keyed(seed))[:n])

    def of_class(self, label: int) -> "ImageSet":
        return self.take((self.labels == label).nonzero()[:, 0])

    def changed(self, change: Callable[[Tensor], Tensor], name: str) -> "ImageSet":
        """Return the images after `change`, a function of one image; `name` identifies it."""
        return replace(self, get=lambda rows: change(self.get(rows)), key=self.key and digest(self.key, name))

    def first(self, n: int) -> Tensor:
        """Return at most `n` images (n, C, *S), evenly spaced."""
        return self[torch.linspace(0, self.count - 1, min(n, self.count)).long()]

    def parts(self, size: int) -> Iterable[Tensor]:
        """Yield all images, `size` at a time."""
        for rows in torch.arange(self.count).split(size):
            yield self[rows]


def joined(a: ImageSet, b: ImageSet) -> ImageSet:
    """Return the images of both, of different patients; facts that only one of them has are dropped."""

    def get(rows: Tensor) -> Tensor:
        first = rows < len(a)
        images = torch.empty(len(rows), *a[torch.tensor([0])].shape[1:])
        for part, source, start in ((first, a, 0), (~first, b, len(a))):
            if part.any():
                images[part] = source[rows[part] - start]
        return images

    def both(left: Tensor | None, right: Tensor | None, shift: int = 0) -> Tensor | None:
        return None if left is None or right is None else torch.cat([left, right + shift])

    groups = both(a.groups, b.groups, 0 if a.groups is None else int(a.groups.max()) + 1)
    return ImageSet(
        get, len(a) + len(b), labels=both(a.labels, b.labels), groups=groups, names=[*a.names, *b.names], masks=both(a.masks, b.masks)
    )


def digest(*parts: str | bytes) -> str:
    found = hashlib.blake2b(digest_size=12)
    for part in parts:
        found.update(part if isinstance(part, bytes) else part.encode())
    return found.hexdigest()


def keyed(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def real_set(data: "ImageDataModule", rows: np.ndarray) -> ImageSet:
    """Return the images of a data module at `rows` of its table of images."""
    records = data.image_records[rows]
    first = np.searchsorted(data.image_records, records)  # for each image the first of its scan
    crops = [data.seed, rows.tolist()] if data.patches else None  # a patch depends on these too
    content = json.dumps([data.cache.folder.name, [data.records[r].digest for r in records], (rows - first).tolist(), crops])
    patients = np.array([data.records[r].patient for r in records])
    inside = data.images.inside
    return ImageSet(
        lambda asked: data.images.images(rows[asked.numpy()], asked.numpy()),
        len(rows),
        digest(content),
        None if data.labels is None else torch.from_numpy(data.labels[records]),
        torch.from_numpy(np.unique(patients, return_inverse=True)[1]),
        [data.records[r].name for r in records],
        covariates=None if data.values is None else torch.from_numpy(data.values[records]),
        inside=None if inside is None else lambda asked: inside(rows[asked.numpy()], asked.numpy()),
    )


def held_out(data: "ImageDataModule") -> tuple[np.ndarray, np.ndarray, str]:
    """Return the rows of the reference (test), the rows of the reals for the floor (val), and a note.

    Without a test split, the val split is halved by patient, and the note states it. Raise ValueError if nothing is held out.
    """
    if data.split == "none":
        raise ValueError(
            "an evaluation needs reals that the generator never saw, but data.split=none holds nothing out; use data.split=patient"
        )
    if len(data.rows["test"]):
        return data.rows["test"], data.rows["val"], ""
    first, second = halves(data, data.rows["val"])
    return first, second, "There is no test split: the val split, by which the best checkpoint was chosen, was halved by patient."


def halves(data: "ImageDataModule", rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in two parts without a common patient; identical images count as one patient.

    Raise ValueError for fewer than two patients.
    """
    members = np.unique(data.image_records[rows])
    if (found := len(split.joined([data.records[member] for member in members]))) < 2:
        raise ValueError(
            f"the real images must be of 2 patients or more, half of them reference and half floor, got {found}; add patients, or say "
            "who is who (the PatientID, a CSV's column patient, data.patient_pattern)"
        )
    fractions = {"train": 0.0, "val": 0.5, "test": 0.5}
    sides = split.split_by_patient([data.records[member] for member in members], fractions, data.split_seed)
    in_test = np.isin(data.image_records[rows], members[np.array(sides) == "test"])
    return rows[in_test], rows[~in_test]


def stored(parts: Iterable[Tensor], count: int, labels: Tensor | None = None, names: Sequence[str] = ()) -> ImageSet:
    """Return the `count` images of parts (B, C, *S), stored in an unnamed file that is removed when the process ends.

    Raise ValueError for NaN or infinity, and for parts that differ in size.
    """
    values: np.memmap | None = None
    place = 0
    for part in parts:
        bad = int((~part.flatten(1).isfinite().all(1)).sum())
        if bad:
            raise ValueError(f"every fake must be finite, got NaN or infinity in {bad} of images {place} to {place + len(part) - 1}")
        kept = STORED.quantize(part.float().cpu())
        if values is None:
            with tempfile.TemporaryFile() as file:  # the map stays open without a name
                values = np.memmap(file, STORED.dtype, "w+", shape=(count, *kept.shape[1:]))
        if kept.shape[1:] != values.shape[1:]:
            raise ValueError(f"all fakes must be of one size, got {kept.shape[1:]} after {values.shape[1:]}")
        values[place : place + len(kept)] = kept
        place += len(kept)
    if values is None or place != count:
        raise ValueError(f"{count} fakes were expected, got {place}")
    return ImageSet(lambda rows: STORED.restore(values[rows.numpy()]), count, "", labels, None, names)
