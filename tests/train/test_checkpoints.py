"""Checkpoints: which one a run goes on from, what a kill and a full disk in the middle of a save leave, and what refuses to go on."""

import copy
import os
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import TINY, rows
from games_of_numbers import NumbersData
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from PIL import Image
from test_kills import leaves
from test_module import TINY as SMALL
from test_module import fit

from medgan_pl.core.console import configuration_folder
from medgan_pl.models import turn
from medgan_pl.models.build import build_module
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.state import RunState
from medgan_pl.train.checkpoints import SIGNALS, Checkpoints, Stopped, WholeFiles, newest
from medgan_pl.train.checks import check_same_place, check_same_run
from medgan_pl.train.resume import checkpoint_to_resume

TORN: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) * 2 // 3],
    "flipped": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :],
}


@pytest.fixture(scope="module")
def plain() -> dict[str, Any]:
    """The configuration of a run of three saves."""
    with initialize_config_dir(str(configuration_folder()), version_base="1.3"):
        config = compose("config", overrides=["run_dir=here", *SMALL, "total_images=24", "log_every=8", "validate_every=8"])
    return OmegaConf.to_container(config, resolve=True)


@pytest.fixture(scope="module")
def calm(plain: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where it has run, and nothing happened."""
    folder = tmp_path_factory.mktemp("calm")
    fit(build_module(plain), folder)
    return folder


@pytest.fixture(scope="module")
def state(calm: Path) -> dict[str, Any]:
    """What its last checkpoint holds."""
    return torch.load(calm / "checkpoints" / "last.ckpt", weights_only=True)


def lay(folder: Path, state: dict[str, Any], **images: int) -> None:
    """Whole checkpoints that say they have seen so many images."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, seen in images.items():
        torch.save({**state, "medgan_pl": {**state["medgan_pl"], "images": seen}}, folder / f"{name}.ckpt")


def tear(path: Path, how: str = "cut") -> None:
    path.write_bytes(TORN[how](path.read_bytes()))


# Which one ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", TORN)
@pytest.mark.parametrize(
    ("images", "torn", "found"),
    [
        ({"last": 30, "previous": 20, "best": 10}, "", "last"),
        ({"last": 30, "previous": 20, "best": 10}, "last", "previous"),
        ({"last": 30, "previous": 10, "best": 20}, "last", "best"),
        ({"last": 30, "previous": 20, "best": 10}, "last previous", "best"),
        ({"last": 30, "previous": 20, "best": 10}, "previous best", "last"),
        ({"best": 10}, "", "best"),
        ({"last": 30, "previous": 20, "best": 10}, "last previous best", None),
        ({}, "", None),
    ],
)
def test_the_newest_whole_checkpoint_is_found_and_torn_ones_are_told_of(state, tmp_path, caplog, images, torn, found, how) -> None:
    lay(tmp_path, state, **images)
    for name in torn.split():
        tear(tmp_path / f"{name}.ckpt", how)
    for name in ("last.ckpt.new.00112233.part", "last.ckpt.new", "previous.ckpt.00112233.part"):  # what a kill in a save leaves
        (tmp_path / name).write_bytes(b"half")
    answer = newest(tmp_path)
    assert (answer and answer.path.stem) == found
    assert answer is None or answer.state.images == images[found]
    told = [name for name in images if f"passing over a checkpoint: {tmp_path / name}.ckpt" in caplog.text]
    assert told == [name for name in torn.split() if found != "last"]


@pytest.mark.parametrize(
    ("resume", "torn", "answer"),
    [
        ("auto", "", "here/checkpoints/last.ckpt"),
        ("auto", "last", "here/checkpoints/best.ckpt"),
        ("auto", "last best", "begin another over them, since none of them is whole; move that folder away"),
        ("never", "", "here holds the checkpoints of a run, and resume=never would begin another over them"),
        ("here", "", "here/checkpoints/last.ckpt"),
        ("here/checkpoints/best.ckpt", "", "here/checkpoints/best.ckpt"),
        ("other", "", "resume=other would begin another over them"),
        ("other/checkpoints/last.ckpt", "", "would begin another over them"),
    ],
)
def test_no_run_is_begun_over_another(state, resume, torn, answer) -> None:
    lay(Path("here/checkpoints"), state, last=30, best=20)
    lay(Path("other/checkpoints"), state, last=30)
    for name in torn.split():
        tear(Path(f"here/checkpoints/{name}.ckpt"))
    if " " in answer:
        with pytest.raises(FileExistsError, match=answer):
            checkpoint_to_resume(resume, Path("here"))
        return
    found = checkpoint_to_resume(resume, Path("here"))
    assert str(found.path) == answer
    assert found.state.images == (30 if "last" in answer else 20)


@pytest.mark.parametrize(("resume", "found"), [("auto", None), ("never", None), ("other", 30), ("other/checkpoints/last.ckpt", 30)])
def test_a_new_folder_takes_what_it_is_told(state, resume, found) -> None:
    lay(Path("other/checkpoints"), state, last=30)
    Path("here/checkpoints").mkdir(parents=True)
    Path("here/checkpoints/last.ckpt.new").touch()  # a kill in the first save
    answer = checkpoint_to_resume(resume, Path("here"))
    assert (answer and answer.state.images) == found


def test_weights_without_the_progress_of_a_run_are_not_resumed(written) -> None:
    Path("weights.ckpt").write_bytes(written)
    with pytest.raises(ValueError, match=r"`resume` must be a checkpoint of a run in training; weights\.ckpt holds weights without"):
        checkpoint_to_resume("weights.ckpt", Path("here"))


def test_a_checkpoint_that_was_read_is_handed_out_once_and_not_kept(state, tmp_path) -> None:
    lay(tmp_path, state, last=30, best=20)
    files = WholeFiles()
    files.found = found = newest(tmp_path)
    assert files.load_checkpoint(str(found.path))["state_dict"].keys() == state["state_dict"].keys()
    assert (found.content, found.state.images, files.found) == ({}, 30, None)
    files.found = found  # a run that goes back to it reads the file again
    assert files.load_checkpoint(str(found.path))["medgan_pl"]["images"] == 30
    files.found = newest(tmp_path)
    assert files.load_checkpoint(tmp_path / "best.ckpt")["medgan_pl"]["images"] == 20


# What a save that is cut short leaves ------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for the end of the process."""


def kept(folder: Path) -> dict[str, Any]:
    """The values of the last and the best checkpoint."""
    return {
        where: value
        for name in ("last.ckpt", "best.ckpt")
        for where, value in leaves(torch.load(folder / "checkpoints" / name, weights_only=True), name)
    }


# 38 calls: two tables, and three rows with their saves, each the best so far; make test takes every fifth, each at another place of a save.
@pytest.mark.parametrize("call", [n if n % 5 == 1 else pytest.param(n, marks=pytest.mark.slow) for n in range(1, 39)])
def test_a_kill_between_any_two_steps_of_writing_changes_nothing(plain, calm, tmp_path, monkeypatch, call) -> None:
    """Files are synced, linked and renamed: killed before its n-th such call, the run goes on and ends as one that was not."""
    calls = 0

    def or_killed(act: Callable[..., Any]) -> Callable[..., Any]:
        def acts(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                raise Killed
            return act(*arguments)

        return acts

    with monkeypatch.context() as patch:
        for name in ("fsync", "link", "replace"):
            patch.setattr(os, name, or_killed(getattr(os, name)))
        with pytest.raises(Killed):
            fit(build_module(plain), tmp_path)
    found = newest(tmp_path / "checkpoints")
    if found is None or found.state.images < 24:
        fit(build_module(plain), tmp_path, ckpt_path=found and str(found.path))
    assert kept(tmp_path) == kept(calm)


def test_a_checkpoint_that_lacks_a_part_of_the_run_is_not_gone_on_from(plain, calm, tmp_path) -> None:
    for part, said in {"state": "the optimizer of `g`, weight 0, must have", "callbacks": "`callbacks` must hold the states"}.items():
        content = torch.load(calm / "checkpoints" / "last.ckpt", weights_only=True)
        content["optimizer_states"][0]["state"][0].clear() if part == "state" else content.pop("callbacks")
        torch.save(content, tmp_path / "changed.ckpt")
        with pytest.raises(ValueError, match=f"a run cannot go on from this checkpoint: {said}"):
            fit(build_module(plain), tmp_path, ckpt_path=str(tmp_path / "changed.ckpt"))


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """A disk that is full, as far as this process can tell: the system refuses to write past this size."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    ("full", "left", "unsaved"),
    [
        ([16], {"last": 24, "previous": 8}, False),
        ([8], {"last": 24, "previous": 16}, False),
        ([24], {"last": 16, "previous": 8}, True),
        ([16, 24], {"last": 8}, True),
        ([8, 16, 24], {}, True),
    ],
)
def test_a_disk_that_fills_up_in_a_save_leaves_the_ones_before(plain, tmp_path, monkeypatch, caplog, full, left, unsaved) -> None:
    save = Checkpoints.save

    def saved(self: Checkpoints, trainer: Any, module: Any, best: bool = False) -> None:
        if module.images in full:
            with files_of_at_most(20_000):
                save(self, trainer, module, best)
        else:
            save(self, trainer, module, best)

    monkeypatch.setattr(Checkpoints, "save", saved)
    module = build_module(plain)
    trainer = fit(module, tmp_path)
    assert module.images == 24
    folder = tmp_path / "checkpoints"
    found = {path.stem: torch.load(path, weights_only=True)["medgan_pl"]["images"] for path in folder.iterdir() if path.stem != "best"}
    assert found == left
    assert not list(folder.glob("*.part"))
    assert caplog.text.count("cannot save") == len(full)
    assert caplog.text.count("File too large; the run goes on") == len(full)  # what the disk says, and not what torch makes of it
    (callback,) = (each for each in trainer.callbacks if isinstance(each, Checkpoints))
    assert (callback.unsaved is not None) is unsaved


@pytest.mark.parametrize("place", ["last.ckpt.new", "checkpoints"])
def test_a_folder_that_cannot_be_written_to_does_not_end_the_run(plain, tmp_path, monkeypatch, caplog, place) -> None:
    """Something else lies in the place of the file, or of the whole folder."""
    step = NumbersData.sizes

    def sizes(self: NumbersData) -> dict[str, int]:
        folder = tmp_path / "checkpoints"
        if place == "checkpoints" and folder.is_dir():
            folder.rmdir()
            folder.write_text("not a folder")
        elif place != "checkpoints":
            (folder / place).mkdir(exist_ok=True)
        return step(self)

    monkeypatch.setattr(NumbersData, "sizes", sizes)
    module = build_module(plain)
    fit(module, tmp_path)
    assert module.images == 24
    assert "cannot save" in caplog.text
    assert [row["images"] for row in rows(tmp_path)] == ["8", "16", "24"]


@pytest.mark.parametrize("signum", SIGNALS)
def test_a_signal_ends_the_run_after_its_step_and_a_second_ctrl_c_at_once(plain, calm, tmp_path, monkeypatch, signum) -> None:
    """In the step after 8 images; what was set before is set again behind the run."""
    before, during = [signal.getsignal(each) for each in SIGNALS], []
    losses = turn.losses_of

    def interrupted(module: AdversarialModule, player: str, *rest: Any) -> Any:
        if module.images == 8 and player == "d":
            signal.raise_signal(signum)
            during.append(signal.getsignal(signal.SIGINT))
        return losses(module, player, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(turn, "losses_of", interrupted)
        with pytest.raises(Stopped) as stopped:
            fit(build_module(plain), tmp_path)
    assert stopped.value.signum == signum
    assert during == [signal.SIG_DFL]
    assert [signal.getsignal(each) for each in SIGNALS] == before
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert torch.load(last, weights_only=True)["medgan_pl"]["images"] == 12
    assert [row["images"] for row in rows(tmp_path)] == ["8"]
    fit(build_module(plain), tmp_path, ckpt_path=str(last))
    assert kept(tmp_path) == kept(calm)


# What refuses to go on ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 4}, "seed: 3, 4"),
        ({"optimizer_d.lr": 0.5}, "optimizer_d.lr: 0.1, 0.5"),
        ({"d_per_g": "auto", "clip_d": 1.0}, "clip_d: None, 1.0; d_per_g: 1, auto"),
        ({"data.split_seed": 1}, "data.split_seed: 0, 1"),
        ({"total_images": 8}, "total_images: 24, 8"),
        ({"data.workers": 2, "save_every": 10, "callbacks.samples.n": 4, "logger": {}, "trainer.max_time": "00:01:00:00"}, None),
    ],
)
@pytest.mark.parametrize("force", [False, True])
def test_another_configuration_is_refused_with_each_difference(state, changes, told, force) -> None:
    config = copy.deepcopy(state["medgan_pl"]["config"])
    for key, value in changes.items():
        *above, name = key.split(".")
        node = config
        for step in above:
            node = node[step]
        node[name] = value
    if told is None or force:
        return check_same_run(Path("last.ckpt"), RunState.from_plain(state["medgan_pl"]), config, force)
    with pytest.raises(ValueError, match=f"differs .checkpoint, here.: {told}; resume.force=true"):
        check_same_run(Path("last.ckpt"), RunState.from_plain(state["medgan_pl"]), config, force)


@pytest.mark.parametrize("force", [False, True])
def test_another_model_is_refused_even_by_force(state, force) -> None:
    config = copy.deepcopy(state["medgan_pl"]["config"])
    config["model"]["width"] = 8
    with pytest.raises(ValueError, match=r"must be of this model; it differs .*width: 4, 8"):
        check_same_run(Path("last.ckpt"), RunState.from_plain(state["medgan_pl"]), config, force)


@pytest.mark.parametrize(
    ("here", "told"),
    [
        ((1, "cpu", "numbers"), None),
        ((2, "cpu", "numbers"), "devices: 1, 2"),
        ((1, "cuda", "numbers"), "kind of device: cpu, cuda"),
        ((1, "cpu", "others"), "numbers, others"),
    ],
)
def test_other_devices_and_other_data_are_refused(state, here, told) -> None:
    check_same_place(RunState.from_plain(state["medgan_pl"]).progress, *here, True)
    if told is None:
        return check_same_place(RunState.from_plain(state["medgan_pl"]).progress, *here, False)
    with pytest.raises(ValueError, match=told):
        check_same_place(RunState.from_plain(state["medgan_pl"]).progress, *here, False)


def test_a_run_knows_its_data_its_end_and_its_folder(here) -> None:
    """A changed image is refused, and leaves the run as it was; by force it goes on; a run that is through says so."""
    chance = np.random.default_rng(0)
    for i in range(40):
        Path("films/sick" if i % 2 else "films/well").mkdir(parents=True, exist_ok=True)
        Image.fromarray(chance.integers(0, 255, (16, 16), np.uint8)).save(f"films/{'sick' if i % 2 else 'well'}/person{i}_a.png")
    small = [word for word in TINY if not word.startswith("data.cohort")]
    small += ["data.root=films", "logger=csv", "hydra.run.dir=here", "total_images=32", "validate_every=16", "model=mlp"]
    code, said = here("train", *small)
    assert code == 0, said
    code, said = here("train", *small)
    assert (code, "has ended, after 32 images" in said) == (0, True), said
    Path("here/checkpoints/previous.ckpt").replace("here/checkpoints/last.ckpt")
    Image.fromarray(chance.integers(0, 255, (16, 16), np.uint8)).save("films/well/person0_a.png")
    own = [path for path in Path("here").rglob("*") if path.is_file() and path.name != "train.log" and ".hydra" not in path.parts]
    before = {path: path.read_bytes() for path in own}
    for refused, why in (("resume=auto", "data set (fingerprint): "), ("resume=never", "move that folder away")):
        code, said = here("train", *small, refused)
        assert (code, why in said) == (1, True), said
        assert {path: path.read_bytes() for path in own} == before
    code, said = here("train", *small, "resume.force=true")
    assert (code, "resuming from" in said) == (0, True), said
    assert [int(row["images"]) for row in rows(Path("here"))] == [0, 16, 32]
