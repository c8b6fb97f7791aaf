"""The images that one pipeline made of one set of scans: one memory-mapped array, whose parts are checked when they are first read."""

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medgan_pl.core.sealed import read_sealed, write_sealed
from medgan_pl.data.prepare.checked import Checked
from medgan_pl.data.prepare.formats import Format
from medgan_pl.data.prepare.journal import JOURNAL, VALUES, inside_of, intact, told

DAMAGED = "damaged"  # the file in a cache's folder by which a reader says that it found damage
SAMPLED_BYTES = 2**26  # read to check a cache when it is opened
REMEDY = (
    "; start again, and the damaged scans are prepared again from their files; if it happens again, the disk may be failing: set "
    "data.cache.dir to another one"
)


class Damaged(OSError):
    """A cache is not as it was made. In a worker process the loader adds a traceback to the message, which is cut off again here."""

    def __init__(self, said: str) -> None:
        super().__init__(said.rstrip().rpartition(f"{__name__}.Damaged: ")[2])


class Cache:
    """A folder of images, opened to be read.

    `entries`: digest -> {"shape": [n, C, *S], "offset": elements before it, and the facts of `fill.Entries`}; `unusable`: digest -> reason.
    `faulty`: digest -> the place of the file at fault among those of the scan, where it is known.
    An entry with `inside`, the share that is image, has padding: `inside/<digest>.npy` says where.

    Each entry is compared with its checksum when it is first read, and again if the file was written to meanwhile. Another process that
    gets the object by pickle opens the folder for itself. Raise Damaged for what is not as it was made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.format = format_of(folder)
            lines = [told(folder, line) for line in (folder / JOURNAL).read_bytes().splitlines(keepends=True)]
        except FileNotFoundError as error:
            raise Damaged(f"the cache {folder} was changed: it has no {Path(error.filename).name}{REMEDY}") from None
        if bad := lines.count(None):
            raise Damaged(f"the cache {folder} was changed: {bad} of {len(lines)} lines of {JOURNAL} are not as they were written{REMEDY}")
        found = {digest: entry for digest, entry, _ in lines}
        self.entries: dict[str, dict[str, Any]] = {digest: entry for digest, entry in found.items() if "shape" in entry}
        self.unusable: dict[str, str] = {digest: entry["unusable"] for digest, entry in found.items() if "unusable" in entry}
        self.faulty: dict[str, int] = {digest: entry["file"] for digest, entry in found.items() if "file" in entry}
        self.elements = lines[-1][2] if lines else 0
        self._checked = Checked(self.entries)
        self._values: np.ndarray | None = None
        self.open()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_values": None}

    def open(self) -> None:
        """Map the values into memory. Processes that are forked afterwards share the map, even if the folder is removed."""
        path = self.folder / VALUES
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                self._opened, self._since = (stat.st_dev, stat.st_ino), stat.st_mtime_ns
                self.check_size(stat.st_size)
                empty = not self.elements
                found = np.empty(0, self.format.dtype) if empty else np.memmap(file, self.format.dtype, "r", shape=self.elements)
        except FileNotFoundError:
            raise self.damaged(f"it has no {VALUES}") from None
        self._values = np.asarray(found)

    @property
    def values(self) -> np.ndarray:
        """Return all values (elements,) in the stored type, as the file is now; its entries are checked by those who read them."""
        if self._values is None:
            self.open()
        with suppress(FileNotFoundError):  # removed files stay as they are for those who have them open
            stat = os.stat(self.folder / VALUES)
            if (stat.st_dev, stat.st_ino) == self._opened and stat.st_mtime_ns != self._since:
                self.check_size(stat.st_size)  # to read beyond the end of a mapped file would kill the process
                self._since = stat.st_mtime_ns
                self._checked.forget()
        return self._values

    def images(self, rows: np.ndarray, shape: Sequence[int]) -> Tensor:
        """Return images (B, C, *S), float32 in [-1, 1], at rows (B,) of a cache whose images all have one `shape` (C, *S)."""
        values = self.values
        for number in self._checked.unread_at(rows * int(np.prod(shape))):
            self.check(number, values)
        return self.format.restore(values.reshape(-1, *shape)[rows])

    def whole(self, digest: str, number: int = 0) -> Tensor:
        """Return image `number` of a scan, (C, *S), at its own size."""
        return self.format.restore(self.stored(digest, number))

    def entry(self, digest: str) -> np.ndarray:
        """Return the images of a scan as they are stored, (n, C, *S)."""
        values, number = self.values, self._checked.numbers[digest]
        if not self._checked.done[number]:
            self.check(number, values)
        return self._checked.part(number, values).reshape(self.entries[digest]["shape"])

    def stored(self, digest: str, number: int) -> np.ndarray:
        """Return image `number` of a scan as it is stored, (C, *S)."""
        return self.entry(digest)[number]

    def patches(self, digests: Sequence[str], corners: np.ndarray, patch: Sequence[int], numbers: Sequence[int] | None = None) -> Tensor:
        """Return from image `numbers` (B,) (None: the first) of each scan the patch at `corners` (B, N): (B, C, *patch).

        The corners are fractions of the possible range.
        """
        cut = []
        for digest, corner, number in zip(digests, corners, [0] * len(digests) if numbers is None else numbers, strict=True):
            image = self.stored(digest, number)
            cut.append(image[(slice(None), *window(corner, image.shape[1:], patch))])
        return self.format.restore(np.stack(cut))

    def inside(self, digest: str) -> np.ndarray | None:
        """Return which voxels of a scan's images are image (n, *S), the last axis as packed bits; None if all are."""
        if "inside" not in self.entries[digest]:
            return None
        path = inside_of(self.folder, digest)
        if not intact(path, self.entries[digest]["inside_crc"]):
            raise self.damaged(f"{path.relative_to(self.folder)} is not as it was written", found_by_reader=True)
        return np.load(path, mmap_mode="r")

    def picture(self, digest: str) -> Tensor:
        """Return a picture (H, W) in [-1, 1] of a scan: the first channel of its middle image, of a volume the middle slice."""
        values = self.entry(digest)
        image = values[len(values) // 2, 0]
        return self.format.restore(image if image.ndim == 2 else image[len(image) // 2])

    # Checks -----------------------------------------------------------------------------------------------------------------------------

    def check_all(self, digests: Iterable[str], dtype: np.dtype) -> None:
        """Check that this is the finished cache of these scans, and a sample of its values. Raise Damaged, also if a reader did."""
        if (self.folder / DAMAGED).exists():
            raise self.damaged("its values were not those that were written")
        if self.format.dtype != dtype:
            raise self.damaged(f"its format is {self.format.dtype} and not {dtype}")
        known = self.entries.keys() | self.unusable.keys()
        if missing := len(set(digests) - known):
            raise self.damaged(f"{missing} of its {len(known) + missing} scans are missing")
        self.check_size((self.folder / VALUES).stat().st_size)
        for number in self._checked.sample(SAMPLED_BYTES // self.format.dtype.itemsize):
            self.check(number, self.values)
            self.inside(self._checked.digests[number])

    def check_size(self, size: int) -> None:
        wanted = self.elements * self.format.dtype.itemsize
        if size < wanted:
            raise self.damaged(f"{VALUES} has {size:,} of its {wanted:,} bytes", found_by_reader=True)

    def check(self, number: int, values: np.ndarray) -> None:
        """Compare entry `number` with its checksum."""
        if not self._checked.compare(number, values):
            digest = self._checked.digests[number]
            raise self.damaged(f"the values of scan {digest} are not those that were written", found_by_reader=True)

    def damaged(self, why: str, found_by_reader: bool = False) -> Damaged:
        """Return the error; a reader leaves a note in the folder too, so that the next start mends the cache."""
        if found_by_reader:
            with suppress(OSError):
                (self.folder / DAMAGED).touch()
        return Damaged(f"the cache {self.folder} was changed: {why}{REMEDY}")


def mark(folder: Path, form: Format) -> None:
    """Write into the folder of a cache its format."""
    write_sealed(folder / "format.json", json.dumps({"dtype": form.dtype.name}).encode())


def format_of(folder: Path) -> Format:
    """Return the format of a cache. Raise Damaged unless it is as `mark` wrote it."""
    content = read_sealed(folder / "format.json")
    if content is None:
        raise Damaged(f"the cache {folder} was changed: its format.json is missing, or not as it was written{REMEDY}")
    return Format(json.loads(content)["dtype"])


def window(corner: Sequence[float], sides: Sequence[int], patch: Sequence[int]) -> tuple[slice, ...]:
    """Return the place of a patch in an image of these sides, at a corner (fractions of the possible range)."""
    starts = [int(c * (n - p + 1)) for c, n, p in zip(corner, sides, patch, strict=True)]
    return tuple(slice(s, s + p) for s, p in zip(starts, patch, strict=True))
