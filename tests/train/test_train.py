"""The command line as a user meets it: real processes, the run folder, resuming, sweeps, sampling, and one message for each mistake."""

import math
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from command_line import TINY, Process, picture, rows, wandb_records
from omegaconf import OmegaConf
from shared import composed

from medgan_pl.core.console import one_message
from medgan_pl.core.files import read_table
from medgan_pl.train.resume import continued
from medgan_pl.train.run import train

pytestmark = pytest.mark.usefixtures("cohort_kept")


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
        assert read_table(finished / "speed.csv")["images_per_second"][0] == [16, 32, 48, 64]
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
        table = read_table(finished / "metrics.csv") | read_table(finished / "speed.csv")
        for key in ("train/d/loss", "train/g/loss", "val/fd_random", "val/kid_random", "images_per_second"):
            assert [float(value) for value in history[key]] == pytest.approx(table[key][1], rel=1e-4), key
        assert history["samples/captions"] == ['["0 images"]', '["32 images"]', '["64 images"]']
        assert "ResNetGenerator" in "".join(value for key, value in config.items() if key.startswith("model"))
        assert list((path.parent / "files" / "media").rglob("*.png"))


def test_a_run_goes_on_in_its_folder_with_its_settings(here) -> None:
    code, said = here("train", *TINY, "logger=csv", "hydra.run.dir=here")
    assert code == 0, said
    before = rows(Path("here"))
    code, said = here("train", "resume=here", "total_images=96")
    assert code == 1
    assert "total_images: 64, 96; resume.force=true goes on knowingly" in said
    code, said = here("train", "resume=here", "total_images=96", "resume.force=true")
    assert (code, "resuming from" in said) == (0, True), said
    after = rows(Path("here"))
    assert after[: len(before)] == before
    assert [int(row["images"]) for row in after] == [0, 16, 32, 48, 64, 80, 96]
    state = torch.load("here/checkpoints/last.ckpt", weights_only=True)["medgan_pl"]
    assert state["images"] == 96
    assert state["config"]["model"]["width"] == 4
    code, said = here("train", "resume=here", "data.split_seed=5")
    assert code == 1
    assert "data.split_seed: 0, 5" in said
    code, said = here("train", "resume=here")  # what was refused has left no trace, and what was forced stays
    assert code == 0
    assert "has ended, after 96 images" in said


def test_the_command_line_that_goes_on_is_itself_one_that_goes_on(finished: Path) -> None:
    once = continued([f"resume={finished}", "total_images=96"])
    assert continued(once) == once
    assert "data.size=16" in once
    assert once[-2:] == [f"hydra.run.dir='{finished}'", f"resume.path='{finished}'"]


def test_ctrl_c_saves_after_the_step_and_says_how_to_go_on() -> None:
    settings = [*TINY, "logger=csv", "total_images=1000000", "log_every=8", "hydra.run.dir=here"]
    run = Process("train", *settings, out=Path("said"))
    until = time.monotonic() + 120
    while not (Path("here/metrics.csv").exists() and len(rows(Path("here"))) > 3) and time.monotonic() < until:
        time.sleep(0.1)
    run.send_signal(signal.SIGINT)
    code, said = run.wait(60), Path("said").read_text()
    assert code == 130, said
    assert "to resume: python -m medgan_pl.train resume=" in said
    state = torch.load("here/checkpoints/last.ckpt", weights_only=True)["medgan_pl"]
    assert state["images"] == int(rows(Path("here"))[-1]["images"])
    assert Path(f"here/samples/{state['images']:08d}.png").exists() == (state["images"] % 32 == 0)  # a stop is no validation


def test_multirun_writes_a_folder_each(here) -> None:
    code, said = here("train", "-m", "model=dcgan,mlp", "seed=1", *TINY, "logger=csv", "total_images=16", "validate_every=16")
    assert code == 0, said
    runs = sorted(Path("multirun").glob("*/*/[0-9]"))
    assert [run.name for run in runs] == ["0", "1"]
    targets = [OmegaConf.load(run / "config.yaml").model.generator._target_ for run in runs]
    assert [target.split(".")[-1] for target in targets] == ["DCGANGenerator", "MLPGenerator"]
    assert all((run / "checkpoints" / "last.ckpt").is_file() and (run / "train.log").is_file() for run in runs)
    assert not list(Path("multirun").rglob("*.wandb"))


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        (("data=ct", "image.spatial_dims=2", "data.slices.axis=coronal"), "[16,16]"),
        (("data=mri", "image.spatial_dims=3", "intensity@data.intensity=z_score"), "[16,16,16]"),
        (("data=ct", "image.spatial_dims=3", "data.patches=2"), "[16,16,16]"),
    ],
    ids=["slices", "volumes", "patches"],
)
def test_slices_volumes_and_patches_train(settings: tuple[str, ...], size: str, here) -> None:
    small = [value for value in TINY if not value.startswith(("data.size", "data.cohort"))]
    small += [f"data.size={size}", "data.cohort.patients=20", "data.cohort.shape=[16,24,24]", "total_images=16", "validate_every=16"]
    code, said = here("train", "model=dcgan", *small, *settings, "logger=csv", "hydra.run.dir=here")
    assert code == 0, said
    state = torch.load("here/checkpoints/last.ckpt", weights_only=True)["medgan_pl"]
    assert state["images"] == 16
    assert state["inverse"]["modality"] == ("MR" if "data=mri" in settings else "CT")
    assert len(state["inverse"]["spacing_mm"]) == size.count(",") + 1


@pytest.mark.parametrize(
    ("argument", "messages"),
    [
        ("model=resnet_gam", ("resnet_gan", "dcgan")),
        ("modle=resnet_gan", ("there is no `modle` in the configuration; did you mean `module` or `mode` or `model`?",)),
        ("data.siez=64", ("there is no `siez` in the configuration; did you mean `size`",)),
        ("resume=nowhere", ("`resume` must be auto, never, a checkpoint, or a run folder",)),
        ("data.size=100", ("`size` must be a multiple of 16 for 4 halvings, got 100; use 96 or 112",)),
    ],
)
def test_mistakes_on_the_command_line_are_told_in_one_message(argument: str, messages: tuple[str, ...], here) -> None:
    code, said = here("train", *TINY, "logger=csv", argument)
    assert code == 1
    assert all(message in said for message in messages), said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("data.root=/nowhere", "data.cohort.patients=2000"), "/nowhere"),
        (("data.root=empty", "data.cohort.patients=2000"), "empty"),
        (("model.classes=3",), "use model.classes=4"),
        (("image.spatial_dims=3",), "`image.spatial_dims` must be 2 for films and slices in pictures, got 3"),
        (("total_images=0",), "`total_images` must be a whole number of at least 1, got 0"),
        (("seed=x",), "`seed` must be a whole number of at least 0, got 'x'"),
        (("data.size=abc",), "`data.size` must be a whole number or a list, got 'abc'"),
        (("data.root=empty",), "`data.cohort.patients` changes nothing here, got 60: data.root names files"),
        (("penalty=r1", "penalty.weight=-1"), "`weight` must be above 0, got -1"),
        (("optimizer_d.lr=-1",), "learning rate"),
        (
            ("metrics=[random,inception]", "metrics.inception.extractor.weights=none.pth"),
            "or give its path: metrics.inception.extractor.weights=PATH",
        ),
        (("trainer.precision=17",), "`trainer.precision` must be one of "),
        (("monitor=val/fid",), "`monitor` must be one of the validation metrics"),
    ],
)
@pytest.mark.usefixtures("here")  # it puts the handlers of the log back
def test_mistakes_in_values_are_told_in_one_message(arguments: tuple[str, ...], message: str, capfd) -> None:
    Path("empty").mkdir()
    with pytest.raises(SystemExit, match="1"), one_message(None):
        train(composed(*TINY, "logger=csv", *arguments))
    said = "".join(capfd.readouterr())
    assert message in said
    assert "Traceback" not in said


def test_a_checkpoint_of_another_model_is_refused(finished: Path, here) -> None:
    code, said = here("train", f"resume={finished}/checkpoints/last.ckpt", "model=dcgan", "hydra.run.dir=here")
    assert (code, "Traceback" in said) == (1, False), said
    assert "must be of this model" in said
    assert "networks.resnet.ResNetGenerator" in said
    assert "networks.dcgan.DCGANGenerator" in said


def test_the_manual_comes_without_the_heavy_imports() -> None:
    code = (
        "import sys; sys.argv = ['train', '--help']\n"
        "from medgan_pl.train.__main__ import main\n"
        "main()\n"
        "heavy = {'torch', 'hydra', 'monai', 'pytorch_lightning', 'wandb'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for word in ("resnet_gan", "chest_xray", "non_saturating", "wgan_gp", "sgd", "total_images", "-m model=dcgan,resnet_gan"):
        assert word in done.stdout
