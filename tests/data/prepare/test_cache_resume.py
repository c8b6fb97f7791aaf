"""A preparation that is stopped, however hard, leaves nothing that looks like a cache and is not done twice."""

import json
import logging
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from test_cache import film, images, pipeline, tasks
from test_cache import signal as in_signal

from medgan_pl.data.prepare.fill import Task, prepare


def interrupt():
    raise KeyboardInterrupt


def counted(seed, log):
    """A read that is counted, whatever process does it."""
    with log.open("a") as file:
        file.write(f"{seed}\n")
    return film(seed)


def slow(seed, log):
    time.sleep(0.05)
    return counted(seed, log)


def reads(log):
    return sorted(map(int, log.read_text().split())) if log.exists() else []


def listed(n, read, log):
    return [Task(f"{i:032x}", partial(read, i, log), in_signal) for i in range(n)]


def folders(path):
    return sorted(p.name for p in path.iterdir() if p.is_dir())


def check_images(cache, n):
    found = images(cache)
    assert len(found) == n
    for i in range(n):
        assert (found[f"{i:032x}"] - pipeline()(film(i)).images).abs().max() < 1.6e-5


def test_ctrl_c_leaves_no_cache_and_only_the_rest_is_read_again(tmp_path, caplog):
    log = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt):
        prepare([*listed(5, counted, log), Task("f" * 32, interrupt, in_signal)], pipeline(), tmp_path, workers=0)
    assert [name.partition(".")[2] for name in folders(tmp_path)] == ["unfinished"]
    with caplog.at_level(logging.INFO):
        cache = prepare([*listed(5, counted, log), Task("f" * 32, partial(counted, 9, log), in_signal)], pipeline(), tmp_path, workers=0)
    assert "resuming a stopped preparation: 5 of 6 are done" in caplog.text
    assert reads(log) == [0, 1, 2, 3, 4, 9]
    assert len(cache.entries) == 6
    assert folders(tmp_path) == [cache.folder.name]


def stop_after(n, folder, log):
    """The unfinished cache of 8 films of which `n` are whole."""
    stopping = [*listed(n, counted, log), *(Task(f"{i:032x}", interrupt, in_signal) for i in range(n, 8))]
    with pytest.raises(KeyboardInterrupt):
        prepare(stopping, pipeline(), folder, workers=0)
    log.unlink(missing_ok=True)
    (unfinished,) = folder.glob("*.unfinished")
    return unfinished


@pytest.mark.parametrize(
    ("line", "values"),
    [
        (b"", b""),
        (b"", b"\x07" * 50),  # killed while it wrote values
        (b"", b"\x07" * 128),  # after it wrote them all
        (b'["0000', b"\x07" * 128),  # in the midst of its line
        (b'["00000000000000000000000000000005", {"shape": [1, 1, 8, 8]}, 384]', b"\x07" * 128),  # just before the line's end
        (bytes(90), b"\x07" * 128),  # a power cut: the file had grown, what it holds was not written
        (bytes(90) + b"\n", b""),
        (bytes(40) + b', {"shape": [1, 1, 8, 8]}, 384]\n', bytes(128)),
    ],
)
def test_a_torn_end_is_cut_off_and_only_what_is_left_is_read(tmp_path, line, values):
    log = tmp_path / "log"
    unfinished = stop_after(5, tmp_path, log)
    before = (unfinished / "journal.jsonl").read_bytes()
    with (unfinished / "journal.jsonl").open("ab") as file:
        file.write(line)
    with (unfinished / "values.bin").open("ab") as file:
        file.write(values)
    cache = prepare(listed(8, counted, log), pipeline(), tmp_path, workers=0)
    assert reads(log) == [5, 6, 7]
    assert (cache.folder / "journal.jsonl").read_bytes().startswith(before)
    assert len(cache.values) == 8 * 64
    check_images(cache, 8)


@pytest.mark.parametrize("damage", ["short", "zeros"])
def test_values_that_a_power_cut_lost_are_read_again_and_never_shown_as_black(tmp_path, damage):
    log = tmp_path / "log"
    unfinished = stop_after(5, tmp_path, log)
    os.truncate(unfinished / "values.bin", 3 * 128 + 20)
    if damage == "zeros":
        os.truncate(unfinished / "values.bin", 5 * 128)
    cache = prepare(listed(8, counted, log), pipeline(), tmp_path, workers=0)
    assert reads(log) == [3, 4, 5, 6, 7]
    check_images(cache, 8)


def padded(seed, log):
    """A film whose last rows, as many as its number and one, are padding."""
    padding = np.zeros((12, 12), bool)
    padding[11 - seed :] = True
    return replace(counted(seed, log), padding=padding)


@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_what_is_image_is_checked_as_the_pixels_are(tmp_path, damage):
    log = tmp_path / "log"
    stopping = [*listed(4, padded, log), Task("f" * 32, interrupt, in_signal)]
    with pytest.raises(KeyboardInterrupt):
        prepare(stopping, pipeline(12), tmp_path, workers=0)
    (unfinished,) = tmp_path.glob("*.unfinished")
    file = unfinished / "inside" / f"{2:032x}.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 16
    file.unlink() if damage == "missing" else file.write_bytes(content if damage == "flipped" else content[:-3])
    log.unlink()
    cache = prepare([*listed(4, padded, log), Task("f" * 32, partial(padded, 9, log), in_signal)], pipeline(12), tmp_path, workers=0)
    assert reads(log) == [2, 9]
    for seed in range(4):
        inside = np.unpackbits(cache.inside(f"{seed:032x}"), axis=-1)[0, :, :12]
        assert inside.sum(0).tolist() == [11 - seed] * 12


def test_a_killed_process_leaves_no_cache_and_the_next_goes_on(tmp_path):
    log = tmp_path / "log"
    process = multiprocessing.get_context("fork").Process(
        target=prepare, args=(listed(40, slow, log), pipeline(), tmp_path), kwargs={"workers": 0}
    )
    process.start()
    until = time.monotonic() + 10
    while len(reads(log)) < 4 and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert [name.partition(".")[2] for name in folders(tmp_path)] == ["unfinished"]
    before = reads(log)
    cache = prepare(listed(40, counted, log), pipeline(), tmp_path, workers=2)
    again = reads(log)
    assert len(again) - len(set(again)) <= 1  # only the one in whose midst it was killed
    assert len(before) < 40
    check_images(cache, 40)
    assert folders(tmp_path) == [cache.folder.name]


def test_two_processes_at_once_make_one_cache(tmp_path):
    log = tmp_path / "log"
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=prepare, args=(listed(5, slow, log), pipeline(), tmp_path), kwargs={"workers": 0}) for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert reads(log) == [0, 1, 2, 3, 4]
    assert len(folders(tmp_path)) == 1


def test_several_workers_write_the_same_images_as_one(tmp_path):
    log = tmp_path / "log"
    alone = images(prepare(tasks(24), pipeline(), tmp_path / "a", workers=0))
    together = prepare(listed(24, counted, log), pipeline(), tmp_path / "b", workers=2)
    assert reads(log) == list(range(24))
    assert all(torch.equal(image, alone[digest]) for digest, image in images(together).items())
    ends = [json.loads(line)[2] for line in (together.folder / "journal.jsonl").read_text().splitlines()]
    assert np.array_equal(ends, np.arange(1, 25) * 64)
