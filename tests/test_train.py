"""The command line as a user meets it: real processes, the run folder, resuming, sweeps, sampling, and one message for each mistake."""

import csv
import importlib
import logging
import math
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import medgan_pl
from medgan_pl.callbacks import read_table
from medgan_pl.train import continued

TINY = (
    "data.size=16",
    "data.cohort.patients=60",
    "data.batch_size=8",
    "model.width=4",
    "model.latent=8",
    "metrics.random.extractor.width=4",
    "total_images=64",
    "log_every=16",
    "validate_every=32",
    "callbacks.samples.n=9",
    "trainer=cpu",
)


def command(module: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", f"medgan_pl.{module}", *arguments], capture_output=True, text=True, timeout=240, stdin=subprocess.DEVNULL
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def picture(path: Path) -> Image.Image:
    """An image read whole, its file closed."""
    with Image.open(path) as file:
        return file.copy()


def wandb_records(data: bytes) -> Iterator[bytes]:
    """The records of an offline run file: a LevelDB log (blocks of 32 KiB; checksum, length, type before each piece) behind 7 bytes."""
    assert data[:4] == b":W&B"
    place, record = 7, b""
    while place + 7 <= len(data):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", data[place : place + 7])
        record += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One run with all defaults but its size, shared by the tests that only read it."""
    with pytest.MonkeyPatch.context() as patch:
        place = tmp_path_factory.mktemp("user")
        patch.chdir(place)
        patch.setenv("MEDGAN_CACHE", str(place / "cache"))
        patch.setenv("WANDB_MODE", "offline")
        command("train", "model=resnet_gan", "data=chest_xray", *TINY)
    (run,) = (place / "outputs").glob("*/*")
    return run


class TestRunFolder:
    def test_it_holds_what_the_contract_says(self, finished: Path) -> None:
        for name in ("config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv", "curves.png", "train.log"):
            assert (finished / name).stat().st_size > 0, name
        grids = sorted(path.name for path in (finished / "samples").iterdir())
        assert grids == ["00000000.png", "00000032.png", "00000064.png"]
        assert picture(finished / "samples" / grids[0]).size == (52, 52)  # 3 x 3 images of 16 pixels with a line between
        assert not list(finished.rglob("*.part"))

    def test_config_is_resolved_and_says_phantom(self, finished: Path) -> None:
        config = OmegaConf.load(finished / "config.yaml")
        assert "${" not in (finished / "config.yaml").read_text()
        assert config.phantom is True
        assert (config.total_images, config.data.size, config.optimizer_d._target_) == (64, 16, "torch.optim.SGD")

    def test_metrics_have_a_row_each_interval(self, finished: Path) -> None:
        table = read_table(finished / "metrics.csv")
        assert [int(row["images"]) for row in rows(finished)] == [0, 16, 32, 48, 64]
        for key in ("d/loss", "g/loss", "d/real", "d/fake", "g/lr", "d/lr"):
            assert table[f"train/{key}"][0] == [16, 32, 48, 64], key
        assert table["images_per_second"][0] == [16, 32, 48, 64]
        assert table["epoch"][1][-1] == pytest.approx(64 / 48)  # 48 of the 60 patients are for training
        for key in ("val/fd_random", "val/kid_random"):
            assert table[key][0] == [0, 32, 64]
            assert all(map(math.isfinite, table[key][1]))

    def test_best_is_the_lowest_and_last_the_last(self, finished: Path) -> None:
        images, values = read_table(finished / "metrics.csv")["val/fd_random"]
        best, last = (torch.load(finished / "checkpoints" / name, weights_only=True)["medgan_pl"] for name in ("best.ckpt", "last.ckpt"))
        assert last["images"] == 64
        trained = dict(zip(images[1:], values[1:], strict=True))
        assert best["images"] == min(trained, key=trained.get)

    def test_the_log_tells_the_data(self, finished: Path) -> None:
        text = (finished / "train.log").read_text()
        assert "phantom" in text or "cohort" in text
        assert "weights" in text

    def test_wandb_holds_losses_metrics_samples_and_config(self, finished: Path) -> None:
        from wandb.proto import wandb_internal_pb2

        (path,) = (finished / "wandb").glob("offline-run-*/*.wandb")
        history: dict[str, list[str]] = {}
        config: dict[str, str] = {}
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            for item in record.history.item:
                history.setdefault(item.key or "/".join(item.nested_key), []).append(item.value_json)
            for item in [*record.run.config.update, *record.config.update]:
                config[item.key or "/".join(item.nested_key)] = item.value_json
        table = read_table(finished / "metrics.csv")
        for key in ("train/d/loss", "train/g/loss", "val/fd_random", "val/kid_random", "images_per_second"):
            assert [float(value) for value in history[key]] == pytest.approx(table[key][1], rel=1e-4), key
        assert history["samples/captions"] == ['["0 images"]', '["32 images"]', '["64 images"]']
        assert "ResNetGenerator" in "".join(value for key, value in config.items() if key.startswith("model"))
        assert list((path.parent / "files" / "media").rglob("*.png"))


class TestSample:
    def test_pngs_and_one_grid(self, finished: Path, tmp_path: Path) -> None:
        checkpoint = finished / "checkpoints" / "best.ckpt"
        command("sample", f"checkpoint={checkpoint}", "n=5", f"output={tmp_path / 'a'}", "device=cpu")
        said = command("sample", f"checkpoint={checkpoint}", "n=3", "batch_size=2", f"output={tmp_path / 'b'}", "device=cpu")
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert names == [f"{i:06d}.png" for i in range(5)] + ["grid.png"]
        assert picture(tmp_path / "a" / "000000.png").mode == "L"
        assert not (tmp_path / "outputs").exists()
        assert "3 images and grid.png are in" in said.stdout
        for i in range(3):  # image i of a seed is the same whatever n and batch_size are
            a, b = (np.asarray(picture(tmp_path / x / f"{i:06d}.png")).astype(int) for x in "ab")
            assert abs(a - b).max() <= 1
        assert (tmp_path / "a" / "000000.png").read_bytes() != (tmp_path / "a" / "000001.png").read_bytes()

    def test_load_gives_the_averaged_generator(self, finished: Path) -> None:
        module = medgan_pl.load(finished / "checkpoints" / "last.ckpt")
        assert (module.images, module.training) == (64, False)
        image = module.generate(module.game.draw({"label": torch.zeros(2, dtype=torch.long)}))
        assert image.shape == (2, 1, 16, 16)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("checkpoint=nowhere.ckpt",), "`checkpoint` must be a checkpoint file"),
            ((), "`checkpoint` must be given"),
            (("checkpoint=broken.ckpt",), "must be a whole checkpoint written by medgan_pl.train"),
            (("checkpoint=other.ckpt",), "must be a whole checkpoint written by medgan_pl.train"),
            (("checkpoint={best}", "n=0"), "`n` must be a whole number of at least 1"),
            (("checkpoint={best}", "label=normal"), "`label` needs a conditional model"),
        ],
    )
    def test_mistakes(self, finished: Path, arguments, message, here) -> None:
        best = finished / "checkpoints" / "best.ckpt"
        Path("broken.ckpt").write_bytes(best.read_bytes()[:5000])
        torch.save({"state_dict": {}}, "other.ckpt")
        code, said = here("sample", *(argument.format(best=best) for argument in arguments))
        assert code == 1
        assert message in said
        assert "Traceback" not in said

    @pytest.mark.parametrize(
        "node",
        [
            {"_target_": "shutil.rmtree", "path": "x"},
            {"_target_": "medgan_pl.callbacks.os.getcwd"},
            {"_target_": "torch.optim.optimizer.torch.load", "f": "x", "weights_only": False},
            {"_target_": "medgan_pl.train.train"},
            {"_target_": "torch.optim.lr_scheduler.math.floor"},
            "${oc.create:{_target_:os.getcwd}}",
            ({"_target_": "os.getcwd"},),
        ],
    )
    def test_a_checkpoint_that_names_foreign_code_is_refused(self, finished: Path, tmp_path: Path, node) -> None:
        state = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
        state["medgan_pl"]["config"]["module"]["average"] = node
        torch.save(state, tmp_path / "evil.ckpt")
        with pytest.raises(ValueError, match=r"`_target_` must be the full name|must be resolved|must be plain containers"):
            medgan_pl.load(tmp_path / "evil.ckpt")


def test_a_run_goes_on_in_its_folder_with_its_settings(here) -> None:
    command("train", *TINY, "logger=csv", "hydra.run.dir=here")
    before = rows(Path("here"))
    done = command("train", "resume=here", "total_images=96")
    assert "going on from" in done.stdout
    after = rows(Path("here"))
    assert after[: len(before)] == before
    assert [int(row["images"]) for row in after] == [0, 16, 32, 48, 64, 80, 96]
    state = torch.load("here/checkpoints/last.ckpt", weights_only=True)["medgan_pl"]
    assert state["images"] == 96
    assert state["config"]["model"]["width"] == 4
    for change, message in (("total_images=96", "has shown 96 images already"), ("data.split_seed=5", "data.split_seed: 0, 5")):
        code, said = here("train", "resume=here", change)
        assert code == 1
        assert message in said


def test_the_command_line_that_goes_on_is_itself_one_that_goes_on(finished: Path) -> None:
    once = continued([f"resume={finished}", "total_images=96"])
    assert continued(once) == once
    assert "data.size=16" in once
    assert once[-1] == f"hydra.run.dir='{finished}'"


def test_ctrl_c_saves_after_the_step_and_says_how_to_go_on() -> None:
    settings = [*TINY, "logger=csv", "total_images=1000000", "log_every=8", "hydra.run.dir=here"]
    run = subprocess.Popen(
        [sys.executable, "-m", "medgan_pl.train", *settings], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    until = time.monotonic() + 120
    while not (Path("here/metrics.csv").exists() and len(rows(Path("here"))) > 3) and time.monotonic() < until:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    said, _ = run.communicate(timeout=60)
    assert run.returncode == 130, said
    assert "to go on: python -m medgan_pl.train resume=" in said
    state = torch.load("here/checkpoints/last.ckpt", weights_only=True)["medgan_pl"]
    assert state["images"] == int(rows(Path("here"))[-1]["images"])


def test_multirun_writes_a_folder_each() -> None:
    command("train", "-m", "model=dcgan,mlp", "seed=1", *TINY, "logger=csv", "total_images=16")
    runs = sorted(Path("multirun").glob("*/*/[0-9]"))
    assert [run.name for run in runs] == ["0", "1"]
    targets = [OmegaConf.load(run / "config.yaml").model.generator._target_ for run in runs]
    assert [target.split(".")[-1] for target in targets] == ["DCGANGenerator", "MLPGenerator"]
    assert all((run / "checkpoints" / "last.ckpt").is_file() and (run / "train.log").is_file() for run in runs)
    assert not list(Path("multirun").rglob("*.wandb"))


def test_labels_condition_the_model_and_its_samples(tmp_path: Path) -> None:
    command("train", *TINY, "model.classes=4", "logger=csv", "hydra.run.dir=here")
    for label in ("nodule", "0"):
        command("sample", "checkpoint=here/checkpoints/last.ckpt", "n=2", f"label={label}", f"output=class_{label}", "device=cpu")
    assert Path("class_nodule/000000.png").read_bytes() != Path("class_0/000000.png").read_bytes()
    done = command("sample", "checkpoint=here/checkpoints/last.ckpt", "label=flu", code=1)
    assert "`label` must be one of normal, " in done.stderr


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., tuple[int, str]]]:
    """Runs an entry point in this process, which spares the seconds of its imports: (exit code, what it said)."""

    def call(name: str, *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        code = 0
        try:
            importlib.import_module(f"medgan_pl.{name}").main()
        except SystemExit as end:
            code = int(end.code or 0)
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.close()
        return code, "".join(capfd.readouterr())

    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield call
    root.handlers, root.level = handlers, level


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("model=resnet_gam",), "resnet_gan"),
        (("modle=resnet_gan",), "modle"),
        (("data.siez=64",), "siez"),
        (("data.size=100",), "`size` must be a multiple of 16 for 4 halvings, got 100; use 96 or 112"),
        (("data.root=/nowhere",), "/nowhere"),
        (("data.root=empty",), "empty"),
        (("model.classes=3",), "use model.classes=4"),
        (("image.spatial_dims=3",), "`image.spatial_dims` must be that of the data"),
        (("total_images=0",), "`total_images` must be a whole number of at least 1, got 0"),
        (("seed=x",), "`seed` must be a whole number of at least 0, got x"),
        (("data.size=abc",), "data.size must be a number or [H, W]"),
        (("penalty=r1", "penalty.weight=-1"), "`weight` must be above 0, got -1"),
        (("optimizer_d.lr=-1",), "learning rate"),
        (("trainer.precision=17",), "Precision 17 is invalid"),
        (("monitor=val/fid",), "`monitor` must be one of the validation metrics"),
        (("resume=nowhere",), "`resume` must be a run folder"),
    ],
)
def test_mistakes_are_told_in_one_message(arguments: tuple[str, ...], message: str, here) -> None:
    Path("empty").mkdir()
    code, said = here("train", *TINY, "logger=csv", *arguments)
    assert code == 1
    assert message in said
    assert "Traceback" not in said


def test_a_checkpoint_of_another_model_is_refused(finished: Path) -> None:
    done = command("train", f"resume={finished}/checkpoints/last.ckpt", "model=dcgan", "hydra.run.dir=here", code=1)
    assert "Traceback" not in done.stderr
    assert "must be of this model" in done.stderr
    assert "networks.resnet.ResNetGenerator" in done.stderr
    assert "networks.dcgan.DCGANGenerator" in done.stderr


def test_the_manual_comes_without_the_heavy_imports() -> None:
    code = (
        "import sys; sys.argv = ['train', '--help']\n"
        "from medgan_pl.train import main\n"
        "main()\n"
        "heavy = {'torch', 'hydra', 'monai', 'pytorch_lightning', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for word in ("resnet_gan", "chest_xray", "non_saturating", "wgan_gp", "sgd", "total_images", "-m model=dcgan,resnet_gan"):
        assert word in done.stdout
