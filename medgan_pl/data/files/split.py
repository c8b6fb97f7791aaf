"""Which records are shown in training and which are held out: whole patients, and no image on two sides."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from medgan_pl.data.files.records import Record

SPLITS = ("train", "val", "test")


def split_by_patient(records: Sequence[Record], fractions: Mapping[str, float], seed: int) -> list[str]:
    """A split for each record: whole patients, in an order keyed by `seed`, class after class, each to the split that lags most.

    Lagging is counted in records behind the split's fraction, so sizes and classes come out as asked. Patients who share an identical
    image count as one, so that no duplicate is on two sides.
    Raises ValueError where a split of a fraction above 0 gets no patient.
    """
    groups = [members for _, members in sorted(joined(records).items(), key=lambda item: order_key(records, item, seed))]
    held, split = dict.fromkeys(SPLITS, 0), [""] * len(records)
    done = 0
    for members in groups:
        done += len(members)
        chosen = max(SPLITS, key=lambda s: fractions[s] * done - held[s] if fractions[s] > 0 else -float("inf"))
        held[chosen] += len(members)
        for row in members:
            split[row] = chosen
    empty = [s for s in SPLITS if fractions[s] > 0 and not held[s]]
    if empty:
        raise ValueError(
            f"{len(groups)} patients are too few for a {' and a '.join(empty)} split at fractions {tuple(fractions[s] for s in SPLITS)}; "
            "add patients, raise the fraction, check whose images they are (the PatientID, a CSV's column "
            "patient or data.patient_pattern may join different patients), or hold nothing out, for a look only, with data.split=none"
        )
    return split


def joined(records: Sequence[Record]) -> dict[str, list[int]]:
    """Rows by patient, patients joined where they share an image's values (union-find); the key is the group's smallest."""
    parent: dict[str, str] = {}

    def find(node: str) -> str:
        while parent.setdefault(node, node) != node:
            parent[node] = node = parent[parent[node]]
        return node

    for record in records:
        parent[find("patient " + record.patient)] = find("image " + (record.pixels or record.digest))
    rows: dict[str, list[int]] = defaultdict(list)
    for row, record in enumerate(records):
        rows[find("patient " + record.patient)].append(row)
    return {min(records[row].key for row in members): members for members in rows.values()}


def order_key(records: Sequence[Record], item: tuple[str, list[int]], seed: int) -> tuple[str, bytes]:
    digest, members = item
    label = min(records[row].label or "" for row in members)
    return label, hashlib.blake2b(f"{seed} {digest}".encode(), digest_size=16).digest()


def straddling(keys: Iterable[str], sides: Iterable[str | None]) -> int:
    """How many of the keys (patients, digests) stand on more than one side (split, label)."""
    seen: dict[str, set[str | None]] = defaultdict(set)
    for key, side in zip(keys, sides, strict=True):
        seen[key].add(side)
    return sum(len(s) > 1 for s in seen.values())


def without_duplicates(records: Sequence[Record], drop: bool) -> list[Record]:
    """The records with no image on two sides: left out of train, then of val, for the sake of what is held out.

    Raises ValueError for any, unless `drop`.
    """
    same: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        same[record.pixels].append(record)
    torn = [group for group in same.values() if len({record.split for record in group}) > 1]
    if torn and not drop:
        shown = "; ".join(" = ".join(f"{record.name} ({record.split})" for record in group[:3]) for group in torn[:5])
        raise ValueError(
            f"no image may stand in two splits, got {len(torn)} identical ones: {shown}; use data.split=patient, which splits anew, or "
            "data.duplicates=drop, which keeps the copy that is held out"
        )
    side = {pixels: max(SPLITS.index(record.split) for record in group) for pixels, group in same.items()}
    return [record for record in records if SPLITS.index(record.split) == side[record.pixels]]


def with_fewer_in_train(records: Sequence[Record], most: int, seed: int) -> list[Record]:
    """The records with `most` of those in train, the rest as they are: patient after patient in an order keyed by `seed`, whatever their
    class, the last one perhaps in part. So fewer are among the more, for one seed, and what is held out does not change.

    Raises ValueError where train has fewer.
    """
    train = [record for record in records if record.split == "train"]
    if most > len(train):
        raise ValueError(f"data.max_train must be at most the {len(train)} scans in train, got {most}; null takes all of them")

    def place(item: tuple[str, list[int]]) -> bytes:
        return hashlib.blake2b(f"{seed} {item[0]}".encode(), digest_size=16).digest()

    rows = [row for _, members in sorted(joined(train).items(), key=place) for row in sorted(members, key=lambda row: train[row].key)]
    kept = {id(train[row]) for row in rows[:most]}
    return [record for record in records if record.split != "train" or id(record) in kept]
