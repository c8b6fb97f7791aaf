"""Attacks on the archive of a checkpoint: every other file is refused, or has the same content to whichever reader."""

import io
import pickle
import pickletools
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from written_checkpoint import saved

from medgan_pl.core.archive import read_archive

BASE = torch.arange(12.0)
NUMBERS = OrderedDict(a=BASE.view(3, 4).t(), b=BASE[2:5], c=torch.tensor(7), d=torch.zeros(0), e=torch.ones(2, dtype=torch.bfloat16))
PLAIN = {"list": [1, 2.5, None, True, "text", 2**40, -1], "tuple": (1, (2,), ()), "nested": {}}
CONTENT = {"state_dict": NUMBERS, "medgan_pl": PLAIN}


@pytest.fixture(scope="module")
def archive() -> bytes:
    return saved(CONTENT)


def read(data: bytes) -> Any:
    return read_archive(io.BytesIO(data))


def refused(data: bytes) -> bool:
    """Return False if the file has the content of the sound one; assert that it does not have another one."""
    try:
        found = read(data)
    except (ValueError, zipfile.BadZipFile, KeyError, RuntimeError, NotImplementedError, EOFError, pickle.UnpicklingError, TypeError):
        return True
    except (AttributeError, IndexError, OverflowError, struct.error, UnicodeDecodeError):
        return True
    assert plain(found) == plain(CONTENT)
    return False


def plain(node: Any) -> Any:
    if isinstance(node, torch.Tensor):
        return str(node.dtype), node.shape, node.stride(), node.tolist()
    if isinstance(node, dict):
        return [(name, plain(value)) for name, value in node.items()]
    return type(node), [plain(value) for value in node] if isinstance(node, list | tuple) else node


def test_what_torch_wrote_is_read_as_it_was(archive: bytes) -> None:
    found = read(archive)
    assert plain(found) == plain(CONTENT)
    numbers = found["state_dict"]
    assert numbers["a"].untyped_storage().data_ptr() == numbers["b"].untyped_storage().data_ptr()  # one part, read once


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 4)])
def test_a_tensor_without_numbers_has_any_shape(shape: tuple[int, ...]) -> None:
    found = read(saved({"state_dict": {"a": torch.zeros(shape), "b": torch.ones(2)}}))
    assert found["state_dict"]["a"].shape == shape


# The zip --------------------------------------------------------------------------------------------------------------------------


def repacked(data: bytes, change: Callable[[zipfile.ZipFile, dict[str, bytes]], None]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        parts = {name: old.read(name) for name in old.namelist()}
        change(new, parts)
        for name, part in parts.items():
            new.writestr(name, part)
    return file.getvalue()


def two_members(data: bytes) -> bytes:
    """Return the archive with bytes between two of its parts, and all places behind them put right."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for number, name in enumerate(old.namelist()):
            if number == 2:
                new.fp.write(b"hidden")
                new.start_dir = new.fp.tell()
            new.writestr(name, old.read(name))
    return file.getvalue()


def commented(data: bytes) -> bytes:
    file = io.BytesIO(data)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"more"
    return file.getvalue()


def legacy() -> bytes:
    file = io.BytesIO()
    torch.save({"other": torch.ones(3)}, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


OTHER = saved({"other": torch.ones(3)})
FORGED = {
    "another archive behind": lambda data: data + OTHER,
    "another archive in front": lambda data: OTHER + data,
    "a prefix": lambda data: b"#!/bin/sh\n" + data,
    "a legacy pickle in front": lambda data: legacy() + data,
    "a legacy pickle alone": lambda data: legacy(),
    "bytes behind": lambda data: data + b"\0",
    "a comment": commented,
    "bytes between two parts": two_members,
    "twice the same": lambda data: data + data,
    "a part of another name": lambda data: repacked(data, lambda new, parts: parts.update({"archive/DATA.pkl": parts["archive/data.pkl"]})),
    "a part whose name differs in case": lambda data: repacked(data, lambda new, parts: parts.update({"archive/VERSION": b"3"})),
    "two pickles": lambda data: repacked(data, lambda new, parts: parts.update({"other/data.pkl": parts["archive/data.pkl"]})),
    "big endian": lambda data: repacked(data, lambda new, parts: parts.update({"archive/byteorder": b"big"})),
    "a part that is missing": lambda data: repacked(data, lambda new, parts: parts.pop("archive/data/0") and None),
    "a part that is shorter": lambda data: repacked(data, lambda new, parts: parts.update({"archive/data/0": b"1234"})),
    "a part that is longer": lambda data: repacked(data, lambda new, parts: parts.update({"archive/data/0": bytes(4000)})),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_file_that_another_reader_could_take_for_another_is_refused(archive: bytes, name: str) -> None:
    assert not refused(repacked(archive, lambda new, parts: None))  # the packing itself is no fault
    assert refused(FORGED[name](archive))


def flips(data: bytes, every: int) -> Iterator[bytes]:
    for place in range(0, len(data), every):
        yield data[:place] + bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_never_changes_the_content(archive: bytes, every: int) -> None:
    outcomes = [refused(data) for data in flips(archive, every)]
    assert sum(outcomes) > len(outcomes) / 4  # the rest are dates, flags and the space between parts, which say nothing


def test_a_part_that_nothing_refers_to_is_held_to_its_checksum_too(archive: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as parts:
        content, place = parts.read("archive/version"), parts.getinfo("archive/version").header_offset
    place = archive.index(content, place + 30 + len("archive/version"))
    assert refused(archive[:place] + b"4" + archive[place + 1 :])


@pytest.mark.parametrize("every", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_a_cut_file_is_refused(archive: bytes, every: int) -> None:
    assert all(refused(archive[:length]) for length in range(0, len(archive), every))


# The pickle -----------------------------------------------------------------------------------------------------------------------


def with_pickle(data: bytes, text: bytes) -> bytes:
    return repacked(data, lambda new, parts: parts.update({"archive/data.pkl": text}))


EMPTY = b"2"  # the part of the tensor without numbers


def numbers(key: bytes, count: bytes) -> bytes:
    """Return the operations that refer to a part of so many numbers."""
    return b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0%bX\x03\0\0\0cpuK%ctQ" % (key, count)


def view(key: bytes, count: bytes, offset: bytes, length: bytes) -> bytes:
    """Return those that make a tensor of them."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + numbers(key, count) + offset + length + b"\x85K\x01\x85\x89}tR"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.", "it names 'posix system'"),
        (b"\x80\x02ccollections\nCounter\n)R.", "it names 'collections Counter'"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "more than hold tensors"),  # STACK_GLOBAL
        (b"(iposix\nsystem\n.", "more than hold tensors"),  # INST
        (b"\x80\x02\x82\x01.", "more than hold tensors"),  # EXT1
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "numbers an object 2147483647"),  # a table of 2 billion entries
        (b"\x80\x05\x96\0\0\0\0\x01\0\0\0" + b"x" * 9 + b".", "expected 4294967296 bytes in a bytearray8"),
        (b"\x80\x02}.garbage", "goes on behind its end"),
        (b"\x80\x02}", "exhausted before seeing STOP"),
        (b"\x80\x02X\x01\0\0\0aQ.", "not enough values|too many values"),
        (b"\x80\x02" + numbers(b"0", b"\x0c") + b".", None),
        (b"\x80\x02" + numbers(b"0", b"\x0d") + b".", "must hold 13 numbers of torch.float32, got 48 bytes"),
        (b"\x80\x02" + numbers(b"9", b"\x0c") + b".", "archive/data/9"),
        (b"\x80\x02" + view(b"0", b"\x0c", b"K\x0a", b"K\x02") + b".", None),
        (b"\x80\x02" + view(b"0", b"\x0c", b"K\x0a", b"K\x03") + b".", "must lie within its 48 bytes"),
        (b"\x80\x02" + view(EMPTY, b"\0", b"K\0", b"J\xff\xff\xff\x7f") + b".", "within its 0 bytes"),
        (b"\x80\x02" + view(b"0", b"\x0c", b"J\xff\xff\xff\xff", b"K\x03") + b".", "must have a place and a shape, got -1"),
    ],
)  # fmt: skip
def test_a_pickle_that_is_more_than_tensors_is_refused(archive: bytes, text: bytes, match: str | None) -> None:
    if match is None:
        read(with_pickle(archive, text))
        return
    with pytest.raises((ValueError, KeyError, RuntimeError), match=match):
        read(with_pickle(archive, text))


def test_its_operations_are_those_that_torch_writes(archive: bytes) -> None:
    from medgan_pl.core.archive import OPERATIONS

    with zipfile.ZipFile(io.BytesIO(archive)) as parts:
        used = {code.name for code, _, _ in pickletools.genops(parts.read("archive/data.pkl"))}
    assert used <= OPERATIONS
