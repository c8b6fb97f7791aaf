"""The bounds on what comes out of a file, each at its last value and one beyond: a bound that is a hundred times too late is none."""

import io
import zipfile
from typing import Any

import pytest

from medgan_pl.core.allowed import check_targets
from medgan_pl.core.safe_load import read_checkpoint, read_shared
from medgan_pl.core.untrusted import MAX_VALUES, is_table, walk


def deep(levels: int) -> dict[str, Any]:
    """A dict with so many levels below it."""
    node: dict[str, Any] = {}
    for _ in range(levels):
        node = {"a": node}
    return node


@pytest.mark.parametrize(
    ("last", "beyond", "match"),
    [
        ({"width": 2**20}, {"width": 2**20 + 1}, "'width' must be at most 1048576, got 1048577"),
        ({"width": -(2**20)}, {"width": -(2**20) - 1}, "'width' must be at most"),
        ({"total_images": 2**53}, {"total_images": 2**53 + 1}, "'total_images' must be at most 9007199254740992"),
        ({"every": 2**53, "seed": 2**53}, {"every": 2**53 + 1}, "'every' must be at most 9007199254740992"),
        ({"images": 2**21}, {"images_wide": 2**21}, "'images_wide' must be at most 1048576"),
        ({"a": "x" * 4096}, {"a": "x" * 4097}, "at most 4096 letters; 'a' is longer"),
        ({"k" * 4096: 1}, {"k" * 4097: 1}, "must have names as keys"),
        ({"a": [1] * 4998}, {"a": [1] * 4999}, "at most 5000 values"),
        (deep(32), deep(33), "at most 32 levels deep"),
        ({"size": 2**14}, {"size": 2**14 + 1}, "`size` must make at most 268435456 pixels"),
        ({"size": [2**14, 2**14]}, {"size": [2**14, 2**14 + 1]}, "`size` must make at most 268435456 pixels"),
        ({"size": 645, "spatial_dims": 3}, {"size": 646, "spatial_dims": 3}, "`size` must make at most 268435456 pixels"),
        ({"a": "$x {y} $ {z}"}, {"a": "${run_dir}"}, "must be resolved, got the interpolation '\\${run_dir}'"),
        ({"a": ["$"]}, {"a": [[{"b": "x ${oc.env:HOME} y"}]]}, "must be resolved, got the interpolation"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_settings_of_a_file(last: Any, beyond: Any, match: str) -> None:
    check_targets(last)
    with pytest.raises(ValueError, match=match):
        check_targets(beyond)


def test_values_of_a_whole_checkpoint() -> None:
    assert MAX_VALUES == 200_000
    assert sum(1 for _ in walk([None] * (MAX_VALUES - 1), MAX_VALUES)) == MAX_VALUES
    with pytest.raises(ValueError, match="at most 200000 values"):
        list(walk([None] * MAX_VALUES, MAX_VALUES))
    shared = [None] * 10
    with pytest.raises(ValueError, match="at most 100 values"):  # a value that is referred to twice counts twice
        list(walk([shared] * 10, 100))
    assert sum(1 for _ in walk([shared] * 9, 100)) == 100


def test_names_of_values_are_those_of_their_keys() -> None:
    found = [(name, value) for name, value in walk({"a": {"b": 1}, "c": [2, (3,)], 5: 4}, 99) if isinstance(value, int)]
    assert sorted(found) == [("", 4), ("b", 1), ("c", 2), ("c", 3)]


@pytest.mark.parametrize(
    ("node", "shape", "fits"),
    [
        ([[1, 2.5]], (1, 2), True),
        ([[1, 2], [3, 4]], (None, 2), True),
        ([], (None,), False),
        ([[1, 2]], (2, 1), False),
        ([1, float("nan")], (2,), False),
        ([1, float("inf")], (None,), False),
        ([1, "2"], (2,), False),
        ([1, [2]], (2,), False),
        ((1, 2), (2,), False),
    ],
)
def test_tables_of_numbers(node: Any, shape: tuple[int | None, ...], fits: bool) -> None:
    assert is_table(node, shape) is fits


def test_the_part_that_is_walked_through_is_small(tmp_path) -> None:
    path = tmp_path / "x.ckpt"
    for size, match in ((4 * 2**20 + 1, "at most 4194304 bytes, got 4194305"), (4 * 2**20, "it is not")):
        content = io.BytesIO()
        with zipfile.ZipFile(content, "w") as archive:
            archive.writestr("archive/data.pkl", b"\xff" * size)
        path.write_bytes(content.getvalue())
        with pytest.raises(ValueError, match=match) as caught:
            read_checkpoint(path, dict)
        assert ("at most" in str(caught.value)) == (size > 4 * 2**20)


def test_the_header_of_shared_weights_is_small(tmp_path) -> None:
    path = tmp_path / "x.safetensors"
    for size, match in ((4 * 2**20 + 1, "header must have at most 4194304 bytes, it says 4194305"), (4 * 2**20, "it is not")):
        path.write_bytes(size.to_bytes(8, "little") + b"{}")
        with pytest.raises(ValueError, match=match) as caught:
            read_shared(path, dict)
        assert ("at most" in str(caught.value)) == (size > 4 * 2**20)
