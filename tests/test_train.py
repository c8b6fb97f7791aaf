"""The command line as a user meets it: real processes, the run folder, resuming, sweeps, sampling, and one message for each mistake."""

import csv
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

import medgan_pl
from medgan_pl.callbacks import read_table

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
        assert Image.open(finished / "samples" / grids[0]).size == (52, 52)  # 3 x 3 images of 16 pixels with a line between
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
        if min(trained.values()) < values[0]:
            assert best["images"] == min(trained, key=trained.get)

    def test_the_log_tells_the_data(self, finished: Path) -> None:
        text = (finished / "train.log").read_text()
        assert "phantom" in text or "cohort" in text
        assert "weights" in text

    def test_wandb_holds_losses_metrics_samples_and_config(self, finished: Path) -> None:
        from wandb.proto import wandb_internal_pb2
        from wandb.sdk.internal.datastore import DataStore

        (path,) = (finished / "wandb").glob("offline-run-*/*.wandb")
        store = DataStore()
        store.open_for_scan(str(path))
        history: dict[str, list[str]] = {}
        config: dict[str, str] = {}
        while (data := store.scan_data()) is not None:
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            for item in record.history.item:
                history.setdefault(item.key or "/".join(item.nested_key), []).append(item.value_json)
            for item in [*record.run.config.update, *record.config.update]:
                config[item.key or "/".join(item.nested_key)] = item.value_json
        table = read_table(finished / "metrics.csv")
        for key in ("train/d/loss", "train/g/loss", "val/fd_random", "val/kid_random", "images_per_second"):
            assert [float(value) for value in history[key]] == pytest.approx(table[key][1], rel=1e-4), key
        assert len(history["samples"]) == 3
        assert "images/file" in history["samples"][0]
        assert "resnet" in config["model"].lower() if "model" in config else any("resnet" in value.lower() for value in config.values())


class TestSample:
    def test_pngs_and_one_grid(self, finished: Path, tmp_path: Path) -> None:
        checkpoint = finished / "checkpoints" / "best.ckpt"
        command("sample", f"checkpoint={checkpoint}", "n=5", f"output={tmp_path / 'a'}", "device=cpu")
        command("sample", f"checkpoint={checkpoint}", "n=3", "batch_size=2", f"output={tmp_path / 'b'}", "device=cpu")
        names = sorted(path.name for path in (tmp_path / "a").iterdir())
        assert names == [f"{i:06d}.png" for i in range(5)] + ["grid.png"]
        image = Image.open(tmp_path / "a" / "000000.png")
        assert image.mode == "L"
        assert not (tmp_path / "outputs").exists()
        for i in range(3):  # image i of a seed is the same whatever n and batch_size are
            a, b = (torch.frombuffer(bytearray(Image.open(tmp_path / x / f"{i:06d}.png").tobytes()), dtype=torch.uint8) for x in "ab")
            assert (a.int() - b.int()).abs().max() <= 1
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
            (("checkpoint={best}", "n=0"), "`n` must be at least 1"),
            (("checkpoint={best}", "label=normal"), "`label` needs a conditional model"),
        ],
    )
    def test_mistakes(self, finished: Path, arguments, message) -> None:
        best = finished / "checkpoints" / "best.ckpt"
        Path("broken.ckpt").write_bytes(best.read_bytes()[:5000])
        torch.save({"state_dict": {}}, "other.ckpt")
        done = command("sample", *(argument.format(best=best) for argument in arguments), code=1)
        assert message in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_checkpoint_that_names_foreign_code_is_refused(self, finished: Path, tmp_path: Path) -> None:
        state = torch.load(finished / "checkpoints" / "best.ckpt", weights_only=True)
        state["medgan_pl"]["config"]["module"]["average"] = {"_target_": "shutil.rmtree", "path": str(tmp_path)}
        torch.save(state, tmp_path / "evil.ckpt")
        with pytest.raises(ValueError, match=r"got shutil\.rmtree"):
            medgan_pl.load(tmp_path / "evil.ckpt")


def test_a_run_goes_on_in_its_folder_with_its_settings() -> None:
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


def test_multirun_writes_a_folder_each() -> None:
    command("train", "-m", "model=dcgan,mlp", "seed=1", *TINY[:-1], "trainer=cpu", "logger=csv", "total_images=16")
    runs = sorted(Path("multirun").glob("*/*/[0-9]"))
    assert [run.name for run in runs] == ["0", "1"]
    targets = [OmegaConf.load(run / "config.yaml").model.generator._target_ for run in runs]
    assert [target.split(".")[-1] for target in targets] == ["DCGANGenerator", "MLPGenerator"]
    assert all((run / "checkpoints" / "last.ckpt").is_file() and (run / "train.log").is_file() for run in runs)


def test_labels_condition_the_model_and_its_samples(tmp_path: Path) -> None:
    command("train", *TINY, "model.classes=4", "logger=csv", "hydra.run.dir=here")
    for label in ("nodule", "0"):
        command("sample", "checkpoint=here/checkpoints/last.ckpt", "n=2", f"label={label}", f"output={label}", "device=cpu")
    assert Path("nodule/000000.png").read_bytes() != Path("0/000000.png").read_bytes()
    done = command("sample", "checkpoint=here/checkpoints/last.ckpt", "label=flu", code=1)
    assert "`label` must be one of normal, " in done.stderr


@pytest.mark.parametrize("logger_mode", ["disabled"])
def test_wandb_can_be_left_out(logger_mode: str) -> None:
    command("train", *TINY, "total_images=8", f"logger.mode={logger_mode}", "hydra.run.dir=here")
    assert not list(Path("here").rglob("*.wandb"))


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
        (("total_images=0",), "`total_images` must be at least 1"),
        (("monitor=val/fid",), "`monitor` must be one of the validation metrics"),
        (("resume=nowhere",), "`resume` must be a run folder"),
    ],
)
def test_mistakes_are_told_in_one_message(arguments: tuple[str, ...], message: str) -> None:
    Path("empty").mkdir()
    done = command("train", *TINY, "logger=csv", *arguments, code=1)
    said = done.stdout + done.stderr
    assert message in said
    assert "Traceback" not in said


def test_a_checkpoint_of_another_model_is_refused(finished: Path) -> None:
    done = command("train", f"resume={finished}", "model=dcgan", "hydra.run.dir=here", code=1)
    assert "Traceback" not in done.stderr
    assert "resnet" in done.stderr.lower() or "does not fit" in done.stderr


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
