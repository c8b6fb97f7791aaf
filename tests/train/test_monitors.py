"""The monitors: what they show, by value; when they warn, and when not; that they change nothing."""

import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from games_of_numbers import NumbersData
from hydra.utils import instantiate
from torch import Tensor, nn

from medgan_pl.core.batch import Batch
from medgan_pl.core.files import read_table
from medgan_pl.models.build import build_module
from medgan_pl.models.module import AdversarialModule
from medgan_pl.train.monitors import Monitors, collapsed, dead, logits_of, overfitted, overfitting, weight_norm
from medgan_pl.train.tables import MetricsTable

TINY = ("seed=3", "data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "total_images=24", "log_every=4")


class Cohort(NumbersData):
    """Its held-out images are none of the training images."""

    def peek(self, split: str, n: int) -> Batch:
        batch = super().peek(split, n)
        return batch if split == "train" else {**batch, "image": batch["image"].flip(-1)}


class ByHeart(nn.Module):
    """A D that knows the training images, and takes all else for fakes."""

    def __init__(self, learnt: Tensor) -> None:
        super().__init__()
        self.learnt, self.doubt = learnt.flatten(1), nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return torch.cdist(image.flatten(1), self.learnt).min(1).values.lt(0.1).float() * 4 - 2 + self.doubt * image.flatten(1).mean(1)


class Dead(nn.Module):
    """A D whose last weights are zero: one logit for everything."""

    def __init__(self) -> None:
        super().__init__()
        self.doubt = nn.Parameter(torch.zeros(()))

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return self.doubt * 0 * image.flatten(1).mean(1) + 3.0


class OneImage(nn.Module):
    """A G that does not hear its noise."""

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Parameter(torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)))

    def forward(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        return self.image.tanh().expand(len(z), -1, -1, -1)


class Map(nn.Module):
    """A D that gives a map of logits."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, image: Tensor, label: Tensor | None = None) -> Tensor:
        return self.weight * nn.functional.avg_pool2d(image, 8)


def played_by(plain: dict[str, Any], **networks: nn.Module) -> AdversarialModule:
    """The module of a configuration, with these networks for its players."""
    parts = {key: instantiate(value, _convert_="all") if isinstance(value, dict) else value for key, value in plain["module"].items()}
    parts.pop("_target_")
    for name, network in networks.items():
        parts["players"][name].network = network
    return AdversarialModule(**parts)


def fit(module: AdversarialModule, folder: Path, *callbacks: pl.Callback, **options: Any) -> pl.Trainer:
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=[MetricsTable(folder / "metrics.csv")],
        callbacks=list(callbacks),
    )
    trainer.fit(module, datamodule=Cohort(), **options)
    return trainer


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "medgan_pl.train.monitors"]


KEYS = ("val/g/weight_norm", "val/d/weight_norm", "val/d/accuracy_train", "val/d/accuracy_held_out")


def test_a_healthy_run_shows_numbers_and_warns_of_nothing(settings, tmp_path, caplog) -> None:
    module = build_module(settings(*TINY, "validate_every=8"))
    fit(module, tmp_path, Monitors(n=16))
    table = read_table(tmp_path / "metrics.csv")
    for key in KEYS:
        assert table[key][0] == [8, 16, 24]
    assert all(0 <= value <= 1 for key in KEYS[2:] for value in table[key][1])
    by_hand = torch.cat([weight.detach().flatten() for weight in module.networks["d"].parameters()]).norm()
    assert table["val/d/weight_norm"][1][-1] == pytest.approx(float(by_hand), rel=1e-5)
    assert warnings(caplog) == []


def test_looking_changes_nothing(settings, tmp_path) -> None:
    """Neither batch norm's statistics nor spectral norm's vectors, which move with each image seen in training mode."""
    extra = ("model.classes=2", "model.discriminator.spectral_norm=true")
    states, tables = [], []
    for name, callbacks in {"without": [], "with": [Monitors(n=16)]}.items():
        module = build_module(settings(*TINY, "total_images=16", "validate_every=8", *extra))
        fit(module, tmp_path / name, *callbacks)
        assert module.networks["d"].training
        states.append(module.state_dict())
        tables.append(read_table(tmp_path / name / "metrics.csv"))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert all(tables[1][key] == values for key, values in tables[0].items() if key != "images_per_second")


def test_logits_are_ds_own_in_evaluation_mode(settings, tmp_path) -> None:
    """Held out and training apart, an image at a time the same as in batches, the label reaching D."""
    module = build_module(settings(*TINY, "total_images=4", "model.classes=2"))
    data = Cohort(batch_size=3)
    trainer = fit(module, tmp_path)
    trainer.datamodule = data
    module.eval()
    train, held_out, fake = logits_of(module, data.peek("train", 10), data.peek("val", 7))
    assert (len(train), len(held_out), len(fake)) == (10, 7, 10)
    with torch.no_grad():
        for i, logit in enumerate(held_out):
            one = {key: value[i : i + 1] for key, value in data.peek("val", 7).items()}
            own, other = torch.eye(2)[one["label"]], torch.eye(2)[1 - one["label"]]
            assert float(module.networks["d"](one["image"], own)) == pytest.approx(float(logit), rel=1e-4)
            assert float(module.networks["d"](one["image"], other)) != pytest.approx(float(logit), rel=1e-4)


def test_a_map_of_logits_counts_by_its_mean(settings, tmp_path) -> None:
    module = played_by(settings(*TINY, "total_images=4"), d=Map())
    data = Cohort()
    fit(module, tmp_path).datamodule = data
    module.networks["d"].weight.data.fill_(1)
    train, *_ = logits_of(module, data.peek("train", 5), data.peek("val", 5))
    torch.testing.assert_close(train, data.peek("train", 5)["image"].flatten(1).mean(1))


def test_overfitting_by_value() -> None:
    spread = torch.tensor([-0.1, 0.1] * 8)
    assert overfitting(4 + spread, 4 + spread, spread) == pytest.approx(0, abs=1e-6)
    assert overfitting(4 + spread, 1 + spread, spread) == pytest.approx(0.75)
    assert overfitting(4 + spread, spread, spread) == pytest.approx(1)
    assert overfitting(spread, 1 + spread, 4 + spread) is None  # fakes above reals
    assert overfitting(torch.randn(16), torch.randn(16), torch.randn(16) * 100 - 1) is None  # a gap that may be chance
    assert overfitting(spread * 0, spread * 0, spread * 0) is None


def test_a_weight_norm_by_value() -> None:
    network = nn.Linear(2, 1)
    nn.init.constant_(network.weight, 2)
    nn.init.constant_(network.bias, 1)
    assert weight_norm(network) == pytest.approx(3)


def test_a_d_that_learns_by_heart(settings, tmp_path, caplog) -> None:
    plain = settings(*TINY, "validate_every=8", "optimizer_d.lr=1e-9", "penalty=none")
    module = played_by(plain, d=ByHeart(NumbersData().peek("train", 64)["image"]))
    fit(module, tmp_path, Monitors(n=16))
    table = read_table(tmp_path / "metrics.csv")
    assert table["val/d/accuracy_train"][1] == [1, 1, 1]
    assert table["val/d/accuracy_held_out"][1] == pytest.approx([0.5] * 3, abs=0.2)
    assert table["val/d/overfitting"][1] == pytest.approx([1] * 3, abs=1e-3)
    (said,) = warnings(caplog)
    assert said.startswith("       16 images  over-fitting of D: held-out reals are 1.00 of the way")


def test_a_dead_d(settings, tmp_path, caplog) -> None:
    module = played_by(settings(*TINY, "validate_every=8", "penalty=none"), d=Dead())
    fit(module, tmp_path, Monitors(n=16))
    table = read_table(tmp_path / "metrics.csv")
    assert table["val/d/accuracy_train"][1] == table["val/d/accuracy_held_out"][1] == [0.5] * 3
    assert "val/d/overfitting" not in table
    (said,) = warnings(caplog)
    assert said.startswith("       16 images  a dead D: it orders 0.50 of the pairs")


def test_a_g_that_repeats_itself(settings, tmp_path, caplog) -> None:
    module = played_by(settings(*TINY, "validate_every=8"), g=OneImage())
    fit(module, tmp_path, Monitors(n=16))
    assert read_table(tmp_path / "metrics.csv")["val/ms_ssim_fake"][1] == pytest.approx([1] * 3)
    (said,) = warnings(caplog)
    assert said.startswith("       16 images  collapse: fakes are more similar than reals (MS-SSIM between pairs 1.00 against 0.0")


def test_a_run_that_goes_on_warns_alike(caplog) -> None:
    """Once when it begins, once when it ends, nothing in between, and nothing anew after a resume."""
    monitors, said = Monitors(), []
    for images, message in enumerate(["bad", "", "bad", "bad", "bad", "", "", "bad", "bad"]):
        again = Monitors()
        again.load_state_dict(monitors.state_dict())
        monitors = again
        monitors.warn("collapse", message, images)
        said.append(len(warnings(caplog)))
    assert said == [0, 0, 0, 1, 1, 2, 2, 2, 3]
    assert [line.split("images  ")[1] for line in warnings(caplog)] == ["bad", "collapse is over", "bad"]


HEALTHY = {
    "val/ms_ssim_fake": 0.6,
    "val/ms_ssim_real": 0.5,
    "val/d/accuracy_train": 0.9,
    "val/d/accuracy_held_out": 0.8,
    "val/d/overfitting": 0.3,
    "train/d/gradient_norm": 0.5,
}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (collapsed({**HEALTHY, "val/ms_ssim_fake": 0.76}), "0.76 against 0.50"),
        (dead({**HEALTHY, "val/d/accuracy_held_out": 0.48, "train/d/gradient_norm": 1e-6}, 1.0), "gradient norm is 1e-06"),
        (dead(HEALTHY, 0.0), "spread by 0"),
        (overfitted({**HEALTHY, "val/d/overfitting": 0.7}), "0.70 of the way"),
    ],
)
def test_a_warning_says_what_it_saw_and_what_can_be_typed(settings, message, shown) -> None:
    assert shown in message
    advice = re.findall(r"[a-z_.@]+=[\w.-]+[\w]", message)
    assert advice
    settings(*advice)


@pytest.mark.parametrize(
    "message",
    [
        collapsed({**HEALTHY, "val/ms_ssim_fake": 0.74}),
        collapsed({**HEALTHY, "val/ms_ssim_fake": float("nan"), "val/ms_ssim_real": float("nan")}),  # one held-out image
        collapsed({}),  # a run without the diversity
        dead(HEALTHY, 1.0),
        dead({**HEALTHY, "val/d/accuracy_held_out": 0.5}, 1.0),  # a D that G has caught up with, and that learns
        dead({**HEALTHY, "train/d/gradient_norm": 0.0}, 1.0),
        dead({"val/d/accuracy_held_out": 0.5}, 1.0),  # a stage in which D does not play
        overfitted({**HEALTHY, "val/d/overfitting": 0.59}),
        overfitted({}),
    ],
)
def test_no_warning(message) -> None:
    assert message == ""


def test_monitors_need_images() -> None:
    with pytest.raises(ValueError, match="n` must be a whole number of at least 2, got 1"):
        Monitors(n=1)
