"""Which record goes to which split, and which copies go, by a few records written out."""

from dataclasses import replace

import pytest

from medgan_pl.data.files.records import Record
from medgan_pl.data.files.split import (
    assigned,
    joined,
    split_by_patient,
    straddling,
    with_fewer_in_train,
    without_copies,
    without_duplicates,
)


def record(patient: int, label: str | None = None, image: str = "", **more: object) -> Record:
    digest = image or f"{patient:03d}"
    fields = {"name": f"{patient} {digest}", "paths": (), "label": label, "patient": f"p{patient}", "split": None, "digest": digest}
    return Record(**{**fields, "pixels": digest, **more})


def counts(splits: list[str]) -> dict[str, int]:
    return {split: splits.count(split) for split in ("train", "val", "test")}


def test_fractions_are_met_exactly_and_in_every_class() -> None:
    records = [record(i, "ab"[i % 2]) for i in range(40)]
    splits = split_by_patient(records, {"train": 0.6, "val": 0.25, "test": 0.15}, seed=1)
    for label in "ab":
        own = [split for split, each in zip(splits, records, strict=True) if each.label == label]
        assert counts(own) == {"train": 12, "val": 5, "test": 3}
    big = [record(0, image=f"{i}") for i in range(30)] + [record(i) for i in range(1, 11)]
    splits = split_by_patient(big, {"train": 0.75, "val": 0.25, "test": 0.0}, seed=0)
    assert counts(splits) == {"train": 30, "val": 10, "test": 0}, "records count, not patients"


def test_the_seed_orders_the_patients() -> None:
    records = [record(i) for i in range(40)]
    fractions = {"train": 0.5, "val": 0.25, "test": 0.25}
    assert len({tuple(split_by_patient(records, fractions, seed)) for seed in range(5)}) == 5


def test_patients_who_share_an_image_are_one_by_the_smallest_key() -> None:
    records = [record(1, image="c", pixels="x"), record(2, image="b", pixels="x"), record(3, image="a", pixels="y"), record(2, image="d")]
    assert joined(records) == {"b": [0, 1, 3], "a": [2]}
    unread = [replace(each, pixels="") for each in records]
    assert joined(unread) == {"c": [0], "b": [1, 3], "a": [2]}
    same_file = [replace(each, pixels="", digest="z") for each in records[:2]]
    assert joined(same_file) == {"z": [0, 1]}


def test_the_three_ways_of_a_split() -> None:
    records = [record(i, split=("train", "val")[i % 2]) for i in range(20)]
    assert assigned(records, "folders", (0.5, 0.25, 0.25), 0, by_patient=False) == records
    assert counts([r.split for r in assigned(records, "none", (0.5, 0.25, 0.25), 0, by_patient=False)])["train"] == 20
    split = assigned(records, "patient", (0.5, 0.3, 0.2), 0, by_patient=False)
    assert counts([r.split for r in split]) == {"train": 10, "val": 6, "test": 4}
    assert [replace(r, split=None) for r in split] == [replace(r, split=None) for r in records], "nothing else changes"


def test_by_patient_two_modalities_are_split_alike() -> None:
    """Images of other contents of the same patients: alike by patient, and not by their contents."""
    one, other = ([record(i, image=f"{kind} {i}") for i in range(40)] for kind in ("ct", "mr"))
    alike, apart = (
        [[r.split for r in assigned(each, "patient", (0.5, 0.25, 0.25), 3, by_patient)] for each in (one, other)]
        for by_patient in (True, False)
    )
    assert alike[0] == alike[1]
    assert apart[0] != apart[1]


def test_of_images_in_two_splits_the_one_held_out_is_kept() -> None:
    kept = [
        record(1, split="train"),
        record(2, image="b", split="val"),
        record(3, image="c", split="test"),
        record(3, image="c", split="test"),
    ]
    torn = [record(4, image="b", split="train"), record(5, image="c", split="train"), record(6, image="c", split="val")]
    assert without_duplicates([*torn, *kept], drop=True) == kept
    assert without_duplicates(kept, drop=False) == kept
    with pytest.raises(ValueError, match=r"got 2 identical ones: 4 b \(train\) = 2 b \(val\); 5 c \(train\) = 6 c \(val\) = 3 c \(test\)"):
        without_duplicates([*torn, *kept], drop=False)


def test_a_copy_repeats_split_class_covariates_and_companions() -> None:
    first = record(1, "a", image="x", split="train", covariates=("40",), alone="x", pixels="x")
    others = [
        replace(first, split="val"),
        replace(first, label="b"),
        replace(first, covariates=("41",)),
        replace(first, digest="x with another mask"),
    ]
    again = [replace(first, name="copy", patient="p9"), replace(first, name="in another file", pixels="x")]
    assert without_copies([first, *others, *again]) == [first, *others]
    lone = replace(first, alone="")
    assert without_copies([lone, replace(lone, digest="another file")]) == [lone], "without companions the values alone count"
    assert without_copies([lone, replace(lone, pixels="other values")]) == [lone, replace(lone, pixels="other values")]


def test_all_of_train_and_none_more() -> None:
    records = [record(i, split="train") for i in range(6)] + [record(9, split="val")]
    assert with_fewer_in_train(records, 6, seed=0) == records
    assert with_fewer_in_train(records, 0, seed=0) == records[-1:]
    with pytest.raises(ValueError, match="at most the 6 scans in train, got 7"):
        with_fewer_in_train(records, 7, seed=0)
    assert len({tuple(r.digest for r in with_fewer_in_train(records, 3, seed)) for seed in range(6)}) > 2


def test_straddling_by_hand() -> None:
    assert straddling(["a", "a", "b", "b", "c", "c", "c"], ["train", "val", "train", "train", "train", "val", "test"]) == 2
