"""The division of prepared scans into splits, and what is left out of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from medgan_pl.data.files.records import Record
from medgan_pl.data.files.split import SPLITS, assigned, with_fewer_in_train, without_copies, without_duplicates
from medgan_pl.data.prepare.cache import Cache
from medgan_pl.data.sources import Source
from medgan_pl.data.summary import Found
from medgan_pl.data.usable import usable


@dataclass(frozen=True)
class Division:
    """The rules that divide scans into splits: the arguments of the same names of `datamodule.ImageDataModule`."""

    split: str
    fractions: Sequence[float]
    split_seed: int
    duplicates: str
    max_train: int | None
    patches: int

    def __call__(
        self, table: Sequence[Record], cache: Cache, source: Source, unusable: Mapping[str, str], masks: Mapping[str, str], *, phantom: bool
    ) -> tuple[list[Record], Found, int]:
        """Return the records of the images with their splits, a summary, and the number of scans that `max_train` leaves out.

        `unusable` and `masks`: name of a scan of `table` -> reason. `phantom`: the scans are simulated. Raise ValueError as `usable`,
        `assigned` and `without_duplicates`.
        """
        kept = [record for record in table if record.name not in unusable]
        found = usable(kept, cache, masks, chosen=source.chosen, title=source.title)
        divided = assigned(found.records, self.split, self.fractions, self.split_seed, by_patient=phantom)
        single = without_duplicates(divided, drop=self.duplicates == "drop")
        records = without_copies(single)
        whole = len(records)
        if self.max_train is not None:
            records = with_fewer_in_train(records, self.max_train, self.split_seed)
        counts = [max(1, self.patches) * cache.entries[record.digest]["shape"][0] for record in records]
        rest = (source.skipped, len(found.records) - len(single), source.nameless, source.doubts, found.lines)
        return records, Found(records, counts, cache, dict(unusable), *rest, copies=len(single) - whole), whole - len(records)


def rows_by_split(splits: np.ndarray, split: str, title: str) -> dict[str, np.ndarray]:
    """Return the rows of each split, given that of each row (N,); with `split` none the rows of train also as val.

    `title` names the set. Raise ValueError if train or val is empty.
    """
    rows = {name: np.flatnonzero(splits == name) for name in SPLITS}
    if split == "none":
        rows["val"] = rows["train"]
    if not (len(rows["train"]) and len(rows["val"])):
        sizes = {name: len(own) for name, own in rows.items()}
        raise ValueError(f"train and val must each hold a usable image, got {sizes} from {title}")
    return rows
