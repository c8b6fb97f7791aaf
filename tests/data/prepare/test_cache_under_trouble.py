"""A cache whose folder cannot be used, whose disk is full, which is removed while it is filled, or which three runs need at once; NaN."""

import multiprocessing
import os
import re
import resource
import shutil
import signal
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image
from test_cache_resume import reads
from test_damaged_cache import Corner, check_images, film, films, folders, unit
from test_datamodule import films as data_module
from test_datamodule import write_films

from medgan_pl.data.companion import Companion, read_together, stack_companions
from medgan_pl.data.intensity import Window
from medgan_pl.data.modalities import XRay
from medgan_pl.data.prepare.fill import Task, prepare
from medgan_pl.data.prepare.layouts import Film
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import Scan, ScanError


@pytest.mark.parametrize(("place", "why"), [("/proc/nope", "No such file or directory"), ("file/cache", "Not a directory")])
def test_a_folder_that_cannot_be_made_is_named_with_its_key_before_a_file_is_hashed(tmp_path, monkeypatch, place, why):
    (tmp_path / "file").touch()
    folder = tmp_path / place
    monkeypatch.setattr("medgan_pl.data.sources.content_digests", lambda *_: pytest.fail("the files are hashed"))
    data = data_module(root=str(write_films(tmp_path / "films", 4)), cache={"dir": str(folder)})
    said = f"data.cache.dir must be a folder that can be written, got {folder}: {why} at {folder}; set data.cache.dir to one that can"
    with pytest.raises(OSError, match=f"^{re.escape(said)}$"):
        data.setup()


@pytest.mark.parametrize("room", [0, 300, 1100])
def test_a_full_disk_is_named_with_the_key_and_nothing_is_done_twice(tmp_path, room):
    """A file may not grow beyond `room` bytes: the values, or a line of the journal, stop in their midst."""
    limits, log = resource.getrlimit(resource.RLIMIT_FSIZE), tmp_path / "log"
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
    try:
        with pytest.raises(
            OSError, match=r"^data\.cache\.dir must be a folder that can be written, got .*; free some space or set "
        ) as said:
            prepare(films(tmp_path / "log"), Corner(), tmp_path / "cache", workers=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "File too large" in str(said.value) or "No space left" in str(said.value)
    before = reads(log)
    check_images(prepare(films(log), Corner(), tmp_path / "cache", workers=0))
    again = reads(log)
    assert len(again) - len(set(again)) <= 1  # only the one that found no room
    assert len(before) == len(set(before))


def slow(seed, log):
    if not (preparing := log.with_name("preparing")).exists():
        preparing.write_text(str(os.getpid()))
    with log.open("a") as file:
        file.write(f"{seed}\n")
    time.sleep(0.01)
    return film(seed)


def slowly(log):
    return [Task(f"{i:032x}", partial(slow, i, log), unit) for i in range(20)]


def test_three_runs_need_one_cache_and_the_one_that_prepares_it_is_killed(tmp_path):
    log, context = tmp_path / "log", multiprocessing.get_context("fork")
    runs = [context.Process(target=prepare, args=(slowly(log), Corner(), tmp_path / "cache"), kwargs={"workers": 0}) for _ in range(3)]
    for run in runs:
        run.start()
    until = time.monotonic() + 10
    while len(reads(log)) < 4 and time.monotonic() < until:
        time.sleep(0.005)
    os.kill(int((tmp_path / "preparing").read_text()), signal.SIGKILL)
    for run in runs:
        run.join()
    assert sorted(run.exitcode for run in runs) == [-9, 0, 0]
    found = reads(log)
    assert set(found) == set(range(20))
    assert len(found) <= 21
    check_images(prepare(films(log), Corner(), tmp_path / "cache", workers=0))
    assert len(folders(tmp_path / "cache")) == 1


def test_a_cache_that_is_removed_while_it_is_filled_is_said(tmp_path):
    def remove():
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "cache").mkdir()
        return film(99)

    some = [*films(tmp_path / "log", 3), Task("f" * 32, remove, unit)]
    with pytest.raises(
        OSError, match=r"data\.cache\.dir .*: No such file or directory at .*; it was removed while it was in use, start again"
    ):
        prepare(some, Corner(), tmp_path / "cache", workers=0)


def test_single_images_with_nan_are_named_and_the_rest_of_a_large_set_is_used(tmp_path, caplog):
    for i in range(50):
        values = np.random.default_rng(i).random((16, 16), np.float32)
        values[3, 5] = np.nan if i == 7 else 0.5
        Image.fromarray(values).save(tmp_path / f"person{i:02}.tif")
    data = data_module(root=str(tmp_path), max_corrupt=0.02, classes="none")
    data.setup()
    assert (
        "continuing without 1 of 50 that cannot be used (2.0 %): person07.tif: every voxel must be a finite number, got 1 " in caplog.text
    )
    assert len(data.records) == 49
    assert all(record.name != "person07.tif" for record in data.records)
    with pytest.raises(ValueError, match=r"at most 1 % may be unusable \(data\.max_corrupt\), got 1 of 50 .*: person07\.tif"):
        data_module(root=str(tmp_path), max_corrupt=0.01, classes="none").setup()


def test_nan_in_a_companion_is_no_image():
    source = Companion(modality=XRay(), intensity=Window([[0, 1]]))
    values = np.full((12, 12), 0.5, np.float32)
    values[2, 2] = np.nan
    with pytest.raises(ScanError, match="its source: every value must be a finite number, got 1 NaN or infinite of 144"):
        read_together(partial(film, 0), {"source": lambda: Scan(values)})
    values[2, 2] = 0
    beside = stack_companions(film(0), {"source": Scan(values)})
    assert Pipeline(Film(size=(8, 8), crop=True), Window([[0, 1]]), companions={"source": source})(beside).images.isfinite().all()


def test_a_clock_that_goes_backwards_changes_nothing(tmp_path):
    cache = prepare(films(tmp_path / "log"), Corner(), tmp_path, workers=0)
    for path in [cache.folder, *cache.folder.iterdir()]:
        os.utime(path, ns=(2**62, 2**62))  # long after
    check_images(prepare(films(tmp_path / "log"), Corner(), tmp_path, workers=0))
    check_images(cache)
    assert reads(tmp_path / "log") == list(range(20))
