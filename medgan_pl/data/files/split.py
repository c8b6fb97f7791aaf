"""Splits: no patient and no image appears in more than one."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from medgan_pl.data.files.records import Record

SPLITS = ("train", "val", "test")


def assigned(records: Sequence[Record], split: str, fractions: Sequence[float], seed: int, by_patient: bool) -> list[Record]:
    """Return the records with a split each: `folders` keeps their splits, `none` puts all into train, `patient` splits again.

    The order of patients depends on the contents of their images; with `by_patient` only on the patients, so that a patient of the cohort
    is in the same split in every modality. Errors as `split_by_patient`.
    """
    if split == "folders":
        return list(records)
    if split == "none":
        return [replace(record, split="train") for record in records]
    known = [replace(record, alone=record.patient) for record in records] if by_patient else records
    splits = split_by_patient(known, dict(zip(SPLITS, fractions, strict=True)), seed)
    return [replace(record, split=split) for record, split in zip(records, splits, strict=True)]


def split_by_patient(records: Sequence[Record], fractions: Mapping[str, float], seed: int) -> list[str]:
    """Return a split for each record. Whole patients, class after class in an order keyed by `seed`, go to the split that lags most.

    The lag is the number of records that a split is behind its fraction, so that sizes and classes match the fractions. Patients who share
    an identical image count as one, so that no duplicate is in two splits.
    Raise ValueError if a split of a fraction above 0 gets no patient.
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
            "add patients, raise the fraction, check the patients (the PatientID, a CSV's column patient "
            "or data.patient_pattern may join different ones; data.patient_pattern='[^/]+$' makes each file its own), "
            "or hold nothing out, for a trial only, with data.split=none"
        )
    return split


def joined(records: Sequence[Record]) -> dict[str, list[int]]:
    """Return the rows of each patient. Patients who share an image are joined (union-find); the key is the smallest of the group."""
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
    """Return the key that sorts the groups of `joined`: by class, then in an order keyed by `seed`."""
    digest, members = item
    label = min(records[row].label or "" for row in members)
    return label, hashlib.blake2b(f"{seed} {digest}".encode(), digest_size=16).digest()


def straddling(keys: Iterable[str], sides: Iterable[str | None]) -> int:
    """Return the number of keys (patients, digests) that appear on more than one side (split, label)."""
    seen: dict[str, set[str | None]] = defaultdict(set)
    for key, side in zip(keys, sides, strict=True):
        seen[key].add(side)
    return sum(len(s) > 1 for s in seen.values())


def without_duplicates(records: Sequence[Record], drop: bool) -> list[Record]:
    """Return the records without those whose image is also in a later split: val is kept over train, test over val.

    Raise ValueError if there are any, unless `drop`.
    """
    same: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        same[record.pixels].append(record)
    torn = [group for group in same.values() if len({record.split for record in group}) > 1]
    if torn and not drop:
        shown = "; ".join(" = ".join(f"{record.name} ({record.split})" for record in group[:3]) for group in torn[:5])
        raise ValueError(
            f"no image may be in two splits, got {len(torn)} identical ones: {shown}; use data.split=patient, which splits again, or "
            "data.duplicates=drop, which keeps the copy that is held out"
        )
    side = {pixels: max(SPLITS.index(record.split) for record in group) for pixels, group in same.items()}
    return [record for record in records if SPLITS.index(record.split) == side[record.pixels]]


def without_copies(records: Sequence[Record]) -> list[Record]:
    """Return the records without those that repeat an earlier one of the split: the same values, class, covariates and companions.

    Call it after the split, which joins the patients who share an image.
    """
    first: dict[tuple, Record] = {}
    for record in records:
        content = record.digest if record.alone else record.pixels
        first.setdefault((record.split, record.label, record.covariates, content), record)
    return list(first.values())


def with_fewer_in_train(records: Sequence[Record], max_train: int, seed: int) -> list[Record]:
    """Return the records with `max_train` of those in train, and all others.

    They are selected patient by patient in an order keyed by `seed`, independent of the class; the last patient may lose some. So for one
    seed a smaller selection is part of a larger one, and the held-out records stay the same.
    Raise ValueError if train has fewer.
    """
    train = [record for record in records if record.split == "train"]
    if max_train > len(train):
        raise ValueError(f"data.max_train must be at most the {len(train)} scans in train, got {max_train}; null takes all of them")

    def place(item: tuple[str, list[int]]) -> bytes:
        return hashlib.blake2b(f"{seed} {item[0]}".encode(), digest_size=16).digest()

    rows = [row for _, members in sorted(joined(train).items(), key=place) for row in sorted(members, key=lambda row: train[row].key)]
    kept = {id(train[row]) for row in rows[:max_train]}
    return [record for record in records if record.split != "train" or id(record) in kept]
