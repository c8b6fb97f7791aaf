"""A finished cache that was changed on the disk: found when it is opened or read; only the damage is made anew."""

import json
import os
import pickle
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_cache import film, pipeline
from test_cache_resume import folders, listed, padded, reads
from torch.utils.data import DataLoader

from medgan_pl.data.intensity import SIGNAL
from medgan_pl.data.prepare import checked, fill
from medgan_pl.data.prepare.cache import Cache, Damaged
from medgan_pl.data.prepare.fill import Task, prepare
from medgan_pl.data.prepare.prepared import Prepared

N = 20
ALL = list(range(N))
MISSED = 9  # the sample that is checked when a cache is opened leaves it out


class Corner:
    """A pipeline that costs nothing: a corner of each film. `number` tells two of them apart."""

    def __init__(self, number=0):
        self.settings = {"corner": number}

    def __call__(self, scan):
        corner = torch.from_numpy(scan.pixels[:8, :8] * 2 - 1)[None, None]
        return Prepared(corner / (1 + self.settings["corner"]), ((0.0, 1.0),), None, None, {})


def read(seed, log):
    with log.open("a") as file:
        file.write(f"{seed}\n")
    return film(seed)


def unit(scan):
    return SIGNAL


def films(log, count=N):
    return [Task(f"{i:032x}", partial(read, i, log), unit) for i in range(count)]


def again(folder, workers=0):
    return prepare(films(folder / "log"), Corner(), folder, workers=workers)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return again(tmp_path_factory.mktemp("original")).folder


@pytest.fixture
def made(tmp_path, original):
    """The folder of a finished cache of N films."""
    return Path(shutil.copytree(original, tmp_path / original.name))


def all_images(cache):
    return {digest: cache.images(np.array([entry["offset"] // 64]), (1, 8, 8)) for digest, entry in cache.entries.items()}


def check_images(cache, count=N):
    found = all_images(cache)
    assert len(found) == count
    for i in range(count):
        assert (found[f"{i:032x}"] - Corner()(film(i)).images).abs().max() < 1.6e-5


def change(path, place, mask=64):
    """Flip bits of one byte; the time of change stays, as after a fault of the disk."""
    content = bytearray(path.read_bytes())
    content[place] ^= mask
    times = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def line(folder, number, change):
    path = folder / "journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[number] = change(lines[number])
    path.write_bytes(b"".join(lines))


def another_in_its_place(folder):
    other = prepare(films(folder.parent / "other"), Corner(1), folder.parent, workers=0).folder
    shutil.rmtree(folder)
    other.rename(folder)


ENTRY = 8 * 8 * 2  # bytes of a film
DAMAGES = {
    "a value of the first": (lambda folder: change(folder / "values.bin", 5), [0]),
    "a value of the last": (lambda folder: change(folder / "values.bin", -1), [N - 1]),
    "cut within": (lambda folder: os.truncate(folder / "values.bin", 17 * ENTRY + 7), [17, 18, 19]),
    "no values": (lambda folder: (folder / "values.bin").unlink(), ALL),
    "empty values": (lambda folder: os.truncate(folder / "values.bin", 0), ALL),
    "a fact": (lambda folder: line(folder, 3, lambda told: told.replace(b'"levels": [[0', b'"levels": [[1')), [3]),
    "a journal cut": (lambda folder: line(folder, N - 1, lambda told: told[:-3]), [N - 1]),
    "a line less": (lambda folder: line(folder, 5, lambda told: b""), [5]),
    "no end of a line": (lambda folder: line(folder, 5, lambda told: told[:-1]), [5, 6]),
    "zeros": (lambda folder: line(folder, 7, lambda told: bytes(len(told))), [7, 8]),
    "no journal": (lambda folder: (folder / "journal.jsonl").unlink(), ALL),
    "no format": (lambda folder: (folder / "format.json").unlink(), []),
    "another format": (lambda folder: (folder / "format.json").write_text(json.dumps({"dtype": "float16"})), []),
    "a byte of the format": (lambda folder: change(folder / "format.json", -3), []),
    "another cache": (another_in_its_place, ALL),
    "empty": (lambda folder: [file.unlink() for file in folder.iterdir()], ALL),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_found_when_a_cache_is_opened_and_only_its_scans_are_read_again(tmp_path, made, caplog, damage):
    break_it, scans = DAMAGES[damage]
    break_it(made)
    caplog.clear()
    check_images(again(tmp_path))
    assert f"the cache {made} was changed: " in caplog.text
    assert "; its sound scans are kept, and the others are prepared again" in caplog.text
    caplog.clear()
    check_images(again(tmp_path))
    assert reads(tmp_path / "log") == scans
    assert not caplog.text
    assert folders(tmp_path) == [made.name]


@pytest.mark.parametrize("damage", ["flipped", "missing"])
def test_what_is_image_is_checked_when_it_is_read(tmp_path, damage):
    log = tmp_path / "log"
    some = listed(4, padded, log)
    cache = prepare(some, pipeline(12), tmp_path, workers=0)
    file = cache.folder / "inside" / f"{2:032x}.npy"
    file.unlink() if damage == "missing" else change(file, -1, 16)
    with pytest.raises(Damaged, match=rf"the cache {cache.folder} was changed: inside/0+2.npy is not as it was written; start again, "):
        cache.inside(f"{2:032x}")
    log.unlink()
    cache = prepare(some, pipeline(12), tmp_path, workers=0)
    assert reads(log) == [2]
    assert np.unpackbits(cache.inside(f"{2:032x}"), axis=-1)[0, :, :12].sum(0).tolist() == [9] * 12


READS = {
    "images": lambda cache, i: cache.images(np.array([i]), (1, 8, 8)),
    "whole": lambda cache, i: cache.whole(f"{i:032x}"),
    "patches": lambda cache, i: cache.patches([f"{i:032x}"], np.zeros((1, 2)), (4, 4)),
    "picture": lambda cache, i: cache.picture(f"{i:032x}"),
}


@pytest.mark.parametrize("read", READS)
def test_damage_that_the_sample_missed_is_found_when_it_is_read(tmp_path, made, read):
    change(made / "values.bin", MISSED * ENTRY + 5)
    cache, log = again(tmp_path), tmp_path / "log"
    assert not reads(log)
    READS[read](cache, MISSED - 1)
    said = rf"the cache {made} was changed: the values of scan {MISSED:032x} are not those .*; start again, .*data\.cache\.dir"
    for _ in range(2):
        with pytest.raises(Damaged, match=said):
            READS[read](cache, MISSED)
    check_images(again(tmp_path))
    assert reads(log) == [MISSED]


def in_a_fork(act):
    """Call `act` in a forked process and return its exit code."""
    if (process := os.fork()) == 0:
        try:
            os._exit(int(act() or 0))
        except BaseException:
            os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_each_entry_is_compared_once_by_all_forked_processes_together(made, monkeypatch):
    cache, compared, real = Cache(made), [], checked.zlib.crc32
    rows = np.array([0, 9, 9, 14])
    assert in_a_fork(lambda: cache.images(rows, (1, 8, 8)) is None) == 0
    monkeypatch.setattr(checked, "zlib", SimpleNamespace(crc32=lambda part: compared.append(1) or real(part)))
    cache.images(rows, (1, 8, 8))
    cache.whole(f"{9:032x}")
    assert not compared
    all_images(cache)
    all_images(cache)
    assert len(compared) == N - 3
    all_images(pickle.loads(pickle.dumps(cache)))
    assert len(compared) == N - 3 + N  # an object that came by pickle begins anew


def test_a_file_that_is_written_in_place_is_checked_anew(made):
    cache = Cache(made)
    all_images(cache)
    values = made / "values.bin"
    change(values, MISSED * ENTRY + 5)
    os.utime(values, ns=(1, 1))  # a clock that went backwards
    with pytest.raises(Damaged, match=f"the values of scan {MISSED:032x} "):
        all_images(cache)
    os.truncate(values, 10 * ENTRY)
    os.utime(values, ns=(2, 2))
    with pytest.raises(Damaged, match=r"values\.bin has 1,280 of its 2,560 bytes"):  # to read it would kill the process
        all_images(cache)


@pytest.mark.parametrize("rebuilt", [False, True])
def test_a_cache_that_is_removed_or_made_anew_is_read_on_by_those_who_have_it_open(tmp_path, made, rebuilt):
    cache = Cache(made)
    shutil.rmtree(made)
    if rebuilt:
        prepare(films(tmp_path / "log")[::-1], Corner(), tmp_path, workers=0)
    check_images(cache)
    assert in_a_fork(lambda: check_images(cache)) == 0  # a loader's process
    if not rebuilt:
        with pytest.raises(Damaged, match=rf"the cache {made} was changed: it has no values\.bin; start again"):
            all_images(pickle.loads(pickle.dumps(cache)))


class Reads(torch.utils.data.Dataset):
    def __init__(self, cache):
        self.cache = cache

    def __getitem__(self, row):
        return self.cache.images(np.array([row]), (1, 8, 8))


def test_the_message_of_a_loaders_process_is_one_line(made):
    change(made / "values.bin", MISSED * ENTRY + 5)
    with pytest.raises(Damaged) as caught:
        list(DataLoader(Reads(Cache(made)), batch_size=None, sampler=[MISSED], num_workers=1))
    assert str(caught.value).startswith(f"the cache {made} was changed: ")
    assert "\n" not in str(caught.value)


def stop():
    raise KeyboardInterrupt


def test_a_mending_that_is_stopped_goes_on(tmp_path, made):
    os.truncate(made / "values.bin", 17 * ENTRY)
    some = films(tmp_path / "log")
    with pytest.raises(KeyboardInterrupt):
        prepare([*some[:18], *(Task(task.digest, stop, unit) for task in some[18:])], Corner(), tmp_path, workers=0)
    check_images(again(tmp_path))
    assert reads(tmp_path / "log") == [17, 18, 19]
    assert folders(tmp_path) == [made.name]


def refuse(*_, **__):
    raise OSError(30, "Read-only file system")


def test_damage_is_said_and_a_whole_cache_is_read_where_nothing_can_be_written(tmp_path, made, monkeypatch):
    monkeypatch.setattr(Path, "touch", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(fill, "locked", refuse)
    check_images(again(tmp_path))
    change(made / "values.bin", MISSED * ENTRY + 5)
    with pytest.raises(Damaged, match="the values of scan"):
        all_images(Cache(made))
    change(made / "values.bin", 5)
    with pytest.raises(OSError, match=rf"data\.cache\.dir must be a folder that can be written, got {tmp_path}: Read-only file system"):
        again(tmp_path)
