"""The cache: exact to half a level, keyed by content and pipeline, told apart from anything half made."""

import itertools
import json
import pickle
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medgan_pl.data.intensity import GRAY_LEVELS, HU, SIGNAL, FullRange, Percentiles, Window
from medgan_pl.data.prepare.cache import Cache
from medgan_pl.data.prepare.fill import Task, prepare
from medgan_pl.data.prepare.formats import Format
from medgan_pl.data.prepare.layouts import Film, Patches, Slices
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.data.readers.scan import Scan, ScanError


def film(seed):
    return Scan(np.random.default_rng(seed).random((12, 12), np.float32))


def volume(seed, depth=6):
    hu = np.random.default_rng(seed).uniform(-1000, 400, (depth, 12, 14)).astype(np.float32)
    return Scan(hu, (2.0, 1.0, 1.0), np.diag([2.0, 1.0, 1.0, 1.0]))


def corrupt():
    raise ScanError("cut off")


def signal(scan):
    return SIGNAL


def tasks(n=5, read=film):
    return [Task(f"{i:032x}", partial(read, i), signal) for i in range(n)]


def pipeline(size=8, crop=True, percentiles=(0.5, 99.5)):
    return Pipeline(Film(size=(size, size), crop=crop), Percentiles(*percentiles))


def images(cache, shape=(1, 8, 8)):
    """All of the cache's images by digest, through the rows that the data module would take."""
    found = {}
    for digest, entry in cache.entries.items():
        first = entry["offset"] // int(np.prod(shape))
        found[digest] = cache.images(np.arange(first, first + entry["shape"][0]), shape)
    return found


@pytest.mark.parametrize("dtype", ["uint16", "uint8", "float16", "float32"])
def test_a_stored_number_is_as_exact_as_promised(dtype):
    form = Format(dtype)
    rng = np.random.default_rng(0)
    values = torch.from_numpy(np.concatenate([np.linspace(-1, 1, 600_001), rng.uniform(-1, 1, 400_000)]).astype(np.float32))
    back = form.restore(form.quantize(values))
    off = (back.double() - values.double()).abs().max()
    assert off <= form.error + 2.5e-7  # the arithmetic itself is float32
    assert off >= 0.95 * form.error or dtype == "float32"  # and no looser than need be
    assert (back.min(), back.max()) == (-1, 1)
    assert back.is_contiguous()
    assert back.dtype == torch.float32
    again = form.restore(form.quantize(back))
    assert torch.equal(again, back)  # stored twice is stored once


@pytest.mark.parametrize(
    ("dtype", "levels", "unit", "loss"),
    [
        ("uint16", ((-1000, 400), (-160, 240)), HU, 1400 / 65535 / 2),
        ("uint16", ((0, 65535),), GRAY_LEVELS, 0.5),
        ("uint16", ((0, 1e6),), SIGNAL, 1000 / 65535 / 2),
        ("uint8", ((0, 255),), GRAY_LEVELS, 0.5),
        ("uint8", ((0, 80),), HU, 80 / 510),
        ("float16", ((-1000, 400),), HU, 1400 / 2**13),
        ("float32", ((0, 2**20),), GRAY_LEVELS, 2**-6),
        (
            "uint8",
            ((-1000, 400),),
            HU,
            r"within 1 HU, got uint8, which loses up to 2.75 between -1000 and 400; use data.cache.dtype=uint16",
        ),
        ("uint8", ((0, 1.0),), SIGNAL, r"within 1 thousandths of the range, got uint8, which loses up to 1.96"),
        ("uint8", ((0, 80), (-1000, 400)), HU, r"loses up to 2.75 between -1000 and 400"),
        ("float16", ((0, 65535),), GRAY_LEVELS, r"got float16, which loses up to 8 .*; use data.cache.dtype=float32"),
        ("uint16", ((0, 2**24),), GRAY_LEVELS, r"within 1 gray levels, got uint16.*use data.cache.dtype=float32"),
    ],
)
def test_what_storing_costs_is_true_or_refused(dtype, levels, unit, loss):
    form = Format(dtype)
    if isinstance(loss, str):
        with pytest.raises(ValueError, match=loss):
            form.check(levels, unit)
        return
    assert form.check(levels, unit) == pytest.approx(loss)
    if unit.absolute:  # by brute force, in native units
        low, high = max(levels, key=lambda pair: pair[1] - pair[0])
        native = torch.linspace(low, high, 200_001, dtype=torch.float64)
        back = (form.restore(form.quantize(((native - low) * (2 / (high - low)) - 1).float())).double() + 1) * ((high - low) / 2) + low
        assert (back - native).abs().max() <= loss * 1.01 + (high - low) * 1e-7


def test_an_unknown_format_is_refused():
    with pytest.raises(ValueError, match=r"data\.cache\.dtype must be one of uint16, uint8, float16, float32, got int8"):
        Format("int8")


@pytest.mark.parametrize("workers", [0, 2])
def test_rows_are_the_pipeline_of_their_films(tmp_path, workers):
    state = torch.get_rng_state()
    many = tasks(30)  # enough to start processes
    cache = prepare(many, pipeline(), tmp_path, workers=workers)
    assert torch.equal(torch.get_rng_state(), state)  # preparing or not, the run draws the same numbers
    found = images(cache)
    for task in many:
        assert (found[task.digest] - pipeline()(task.read()).images).abs().max() < 1.6e-5
    assert not cache.unusable


@pytest.mark.parametrize("workers", [0, 2])
def test_volumes_give_several_images_each_however_many_share_the_work(tmp_path, workers):
    cut = Pipeline(Slices(size=(12, 12), spacing_mm=None, crop=True), Window([[-1000, 400], [-160, 240]]))
    many = [Task(f"{i:032x}", partial(volume, i, depth=3 + i), lambda scan: HU) for i in range(6)]
    cache = prepare(many, cut, tmp_path, workers=workers)
    found = images(cache, (2, 12, 12))
    for i, task in enumerate(many):
        assert cache.entries[task.digest]["shape"] == [3 + i, 2, 12, 12]
        assert (found[task.digest] - cut(task.read()).images).abs().max() < 1.6e-5
        assert cache.entries[task.digest]["unit"] == "HU"
    places = sorted((e["offset"], e["offset"] + int(np.prod(e["shape"]))) for e in cache.entries.values())
    assert all(end == start for (_, end), (start, _) in itertools.pairwise(places))  # no gap and no overlap


def test_patches_come_from_corner_to_corner(tmp_path):
    cut = Pipeline(Patches(patch=(4, 5, 6), spacing_mm=None), Window([[-1000, 400]]))
    one, two = (Task(f"{i:032x}", partial(volume, i, depth=4 + i), lambda scan: HU) for i in (0, 3))
    cache = prepare([one, two], cut, tmp_path, "float32", workers=0)
    whole = {task.digest: cut(task.read()).images[0] for task in (one, two)}
    starts = set()
    for corner in itertools.product((0.0, 0.3, 0.7, 1 - 2**-53), repeat=3):
        got = cache.patches([one.digest, two.digest], np.array([corner, corner]), (4, 5, 6))
        assert got.shape == (2, 1, 4, 5, 6)
        for patch, digest in zip(got, (one.digest, two.digest), strict=True):
            room = [n - p + 1 for n, p in zip(whole[digest].shape[1:], (4, 5, 6), strict=True)]
            z, y, x = (int(c * r) for c, r in zip(corner, room, strict=True))
            assert torch.equal(patch, whole[digest][:, z : z + 4, y : y + 5, x : x + 6])
            starts.add((digest, z, y, x))
    assert {(one.digest, 0, 0, 0), (one.digest, 0, 7, 8), (two.digest, 3, 7, 8)} <= starts


def test_made_once_per_content_and_pipeline(tmp_path):
    first = prepare(tasks(), pipeline(), tmp_path, workers=0)
    before = (first.folder / "values.bin").stat().st_mtime_ns
    again = prepare(tasks()[::-1] + tasks(2), pipeline(), tmp_path, workers=0)  # order and repetition do not matter
    assert again.folder == first.folder
    assert (again.folder / "values.bin").stat().st_mtime_ns == before
    folders = {first.folder}
    for other in (pipeline(10), pipeline(crop=False), pipeline(percentiles=(1, 99))):
        folders.add(prepare(tasks(), other, tmp_path, workers=0).folder)
    folders.add(prepare(tasks(6), pipeline(), tmp_path, workers=0).folder)
    folders.add(prepare(tasks(), pipeline(), tmp_path, "float32", workers=0).folder)
    assert len(folders) == 6


@pytest.mark.parametrize("workers", [0, 2])
def test_corrupt_scans_are_told_and_the_rest_is_kept(tmp_path, workers):
    some = [*tasks(), Task("bad", corrupt, signal), Task("flat", lambda: Scan(np.ones((8, 8), np.float32)), signal)]
    for _ in range(2):
        cache = prepare(some, pipeline(), tmp_path, workers=workers)
        assert cache.unusable == {"bad": "cut off", "flat": "it must have different values, got 1 everywhere"}
        assert len(images(cache)) == 5


def test_a_set_in_which_nothing_is_usable(tmp_path):
    cache = prepare([Task("bad", corrupt, signal)], pipeline(), tmp_path, workers=0)
    assert cache.entries == {}
    assert cache.unusable == {"bad": "cut off"}
    assert prepare([], pipeline(), tmp_path, workers=0).entries == {}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_lossy_format_is_refused_in_one_message(tmp_path, workers):
    grey = Pipeline(Film(size=(8, 8), crop=True), FullRange())
    deep = [Task(f"{i:032x}", partial(deep_film, i), lambda scan: GRAY_LEVELS) for i in range(5)]
    with pytest.raises(ValueError, match=r"^data\.cache\.dtype must keep every value within 1 gray levels, got uint8, .* 8\.03 ") as error:
        prepare(deep, grey, tmp_path, "uint8", workers)
    assert "Traceback" not in str(error.value)
    assert len(prepare(deep, grey, tmp_path, "uint16", workers).entries) == 5


def deep_film(seed):
    return Scan(np.random.default_rng(seed).integers(0, 4096, (12, 12)).astype(np.float32), bits=12)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_disk_that_fails_is_no_fault_of_the_scan(tmp_path, workers):
    def fail():
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        prepare([*tasks(), Task("f" * 32, fail, signal)], pipeline(), tmp_path, workers=workers)


def test_it_travels_to_other_processes_as_a_path(tmp_path):
    cache = prepare(tasks(), pipeline(), tmp_path, workers=0)
    before = images(cache)
    assert cache._values is not None
    there = pickle.loads(pickle.dumps(cache))
    assert there._values is None
    assert all(torch.equal(image, before[digest]) for digest, image in images(there).items())


def test_no_room_on_the_disk_is_said_before(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100))
    with pytest.raises(OSError, match=r"free some space or set data\.cache\.dir"):
        prepare(tasks(), pipeline(), tmp_path, workers=0)


def test_the_journal_holds_hashes_and_what_was_measured_and_nothing_else(tmp_path):
    cache = prepare(tasks(), pipeline(), tmp_path, workers=0)
    for line in (cache.folder / "journal.jsonl").read_text().splitlines():
        _, entry, _, _ = json.loads(line)
        assert sorted(entry) == ["affine", "crc", "facts", "levels", "loss", "loss_unit", "offset", "shape", "spacing_mm", "unit"]
    assert Cache(cache.folder).entries == cache.entries
    assert sorted(path.name for path in cache.folder.iterdir()) == ["format.json", "journal.jsonl", "values.bin"]
