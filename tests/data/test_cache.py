"""The cache: exact to half a level, keyed by content and pipeline, whole or not there."""

import json
import multiprocessing
import os
import pickle
import signal
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medgan_pl.data.cache import Cache, Task, content_digests, prepare, quantise, restore
from medgan_pl.data.pipelines import FilmError, FilmPipeline


def film(seed):
    return np.random.default_rng(seed).random((1, 12, 12), np.float32)


def corrupt():
    raise FilmError("cut off")


def interrupt():
    raise KeyboardInterrupt


def tasks(n=5):
    return [Task(f"{i:032x}", partial(film, i)) for i in range(n)]


def pipeline(size=8, **options):
    return FilmPipeline(**{"size": (size, size), "crop": True, "percentiles": (0.5, 99.5), **options})


def test_a_stored_pixel_is_at_most_half_a_level_off():
    image = torch.linspace(-1, 1, 300_001)
    back = restore(quantise(image))
    assert (back - image).abs().max() < 1.6e-5
    assert (back.min(), back.max()) == (-1, 1)
    assert back.is_contiguous()


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_the_pipeline_of_their_films(tmp_path, workers):
    state = torch.get_rng_state()
    many = tasks(70)  # enough to start processes
    cache = prepare(many, pipeline(), tmp_path, workers)
    assert torch.equal(torch.get_rng_state(), state)  # preparing or not, the run draws the same numbers
    images = cache.images(np.array([cache.rows[t.digest] for t in many]))
    for image, task in zip(images, many, strict=True):
        assert (image - pipeline()(task.read())).abs().max() < 1.6e-5
    assert not cache.corrupt


def test_made_once_per_content_and_pipeline(tmp_path):
    first = prepare(tasks(), pipeline(), tmp_path, 0)
    before = (first.folder / "pixels.u16").stat().st_mtime_ns
    again = prepare(tasks()[::-1] + tasks(2), pipeline(), tmp_path, 0)  # order and repetition do not matter
    assert again.folder == first.folder
    assert (again.folder / "pixels.u16").stat().st_mtime_ns == before
    folders = {first.folder}
    for other in (pipeline(10), pipeline(crop=False), pipeline(percentiles=(1, 99))):
        folders.add(prepare(tasks(), other, tmp_path, 0).folder)
    folders.add(prepare(tasks(6), pipeline(), tmp_path, 0).folder)
    assert len(folders) == 5


def test_corrupt_films_are_told_and_the_rest_is_kept(tmp_path):
    cache = prepare([*tasks(), Task("bad", corrupt)], pipeline(), tmp_path, 0)
    assert cache.corrupt == {"bad": "cut off"}
    assert prepare([*tasks(), Task("bad", corrupt)], pipeline(), tmp_path, 0).corrupt == {"bad": "cut off"}


def test_ctrl_c_leaves_nothing_and_the_next_run_works(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        prepare([*tasks(), Task("f" * 32, interrupt)], pipeline(), tmp_path, 0)
    assert not [p for p in tmp_path.iterdir() if p.is_dir()]
    assert len(prepare([*tasks(), Task("f" * 32, partial(film, 9))], pipeline(), tmp_path, 0).rows) == 6


def slow(seed):
    time.sleep(0.2)
    return film(seed)


def test_a_killed_process_leaves_no_cache_and_the_next_run_works(tmp_path):
    slowly = [Task(f"{i:032x}", partial(slow, i)) for i in range(50)]
    process = multiprocessing.get_context("fork").Process(target=prepare, args=(slowly, pipeline(), tmp_path, 0))
    process.start()
    for _ in range(100):
        if list(tmp_path.glob("*.unfinished/pixels.u16")):
            break
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    left = [p.name for p in tmp_path.iterdir() if p.is_dir()]
    assert [name.partition(".")[2] for name in left] == ["unfinished"]
    cache = prepare(tasks(50), pipeline(), tmp_path, 0)
    assert (cache.images(np.arange(50)).flatten(1).std(1) > 0.1).all()
    assert [p for p in tmp_path.iterdir() if p.is_dir()] == [cache.folder]


def test_two_processes_at_once_make_one_cache(tmp_path):
    slowly = [Task(f"{i:032x}", partial(slow, i)) for i in range(5)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=prepare, args=(slowly, pipeline(), tmp_path, 0)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert len([p for p in tmp_path.iterdir() if p.is_dir()]) == 1


def test_it_travels_to_other_processes_as_a_path(tmp_path):
    cache = prepare(tasks(), pipeline(), tmp_path, 0)
    images = cache.images(np.arange(5))
    sent = pickle.dumps(cache)
    assert len(sent) < 2000
    assert torch.equal(pickle.loads(sent).images(np.arange(5)), images)


def test_no_room_on_the_disk_is_said_before(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(OSError, match=r"free some or set data\.cache_dir"):
        prepare(tasks(), pipeline(), tmp_path, 0)


def test_digests_follow_content_and_are_remembered_without_names(tmp_path, monkeypatch):
    one, two = tmp_path / "Jane_Doe_1.png", tmp_path / "Jane_Doe_2.png"
    one.write_bytes(b"same")
    two.write_bytes(b"same")
    first = content_digests([one, two], tmp_path / "c")
    assert first[0] == first[1]
    assert "Doe" not in (tmp_path / "c/digests.json").read_text()
    monkeypatch.setattr("medgan_pl.data.cache.digest", lambda path: pytest.fail(f"{path} is read again"))
    assert content_digests([one, two], tmp_path / "c") == first
    monkeypatch.undo()
    two.write_bytes(b"else")
    assert content_digests([one, two], tmp_path / "c")[1] != first[1]


def test_the_index_holds_hashes_and_nothing_else(tmp_path):
    cache = prepare(tasks(), pipeline(), tmp_path, 0)
    index = json.loads((cache.folder / "index.json").read_text())
    assert sorted(index) == ["corrupt", "digests", "enlarged", "shape"]
    assert isinstance(Cache(cache.folder).rows, dict)
