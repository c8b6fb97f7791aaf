"""What only a GPU can show; skipped without one."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from games_of_numbers import NumbersData

from medgan_pl.core.files import read_table
from medgan_pl.models.build import build_module
from medgan_pl.models.module import AdversarialModule
from medgan_pl.train.checkpoints import Checkpoints
from medgan_pl.train.tables import MetricsTable
from medgan_pl.train.trainer import build_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]

TINY = ("seed=3", "data.size=16", "model.width=8", "model.latent=8", "metrics.random.extractor.width=4", "logger=csv", "trainer=gpu")


def fit(settings, folder: Path, *overrides: str, resume: str | None = None) -> AdversarialModule:
    from omegaconf import OmegaConf

    plain = settings(*TINY, *overrides)
    module = build_module(plain)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    callbacks: list[pl.Callback] = [Checkpoints(folder / "checkpoints", "val/fd_random", every=plain["save_every"])]
    trainer = build_trainer(OmegaConf.create(plain), callbacks, [MetricsTable(folder / "metrics.csv")])
    trainer.fit(module, datamodule=NumbersData(), ckpt_path=resume, weights_only=True)
    return module


def losses(folder: Path) -> torch.Tensor:
    return torch.tensor(read_table(folder / "metrics.csv")["train/d/loss"][1])


@pytest.mark.parametrize(
    ("option", "tolerance"),
    [
        ("trainer.precision=bf16-mixed", 0.05),
        ("trainer.precision=16-mixed", 0.05),
        ("compile=true", 0.01),
        ("channels_last=false", 0.01),
        ("tf32=false", 0.01),
    ],
)
def test_an_option_changes_the_first_steps_by_rounding(settings, tmp_path, option, tolerance) -> None:
    length = ("total_images=800", "log_every=40", "optimizer_d.lr=0.01")  # 200 steps
    for place, extra in (("plain", ()), ("option", (option,))):
        fit(settings, tmp_path / place, *length, *extra)
    torch.testing.assert_close(losses(tmp_path / "plain"), losses(tmp_path / "option"), rtol=tolerance, atol=tolerance)


def test_a_run_goes_on_within_an_interval(settings, tmp_path) -> None:
    steady = ("schedule@schedule_g=constant", "schedule@schedule_d=constant", "log_every=40", "save_every=12", "trainer.deterministic=true")
    through = fit(settings, tmp_path / "a", "total_images=96", *steady)
    fit(settings, tmp_path / "b", "total_images=36", *steady)
    last = str(tmp_path / "b" / "checkpoints" / "previous.ckpt")
    on = fit(settings, tmp_path / "b", "total_images=96", *steady, resume=last)
    for name, value in through.state_dict().items():
        assert torch.equal(value, on.state_dict()[name]), name


def test_a_scaler_for_each_player(settings, tmp_path, monkeypatch) -> None:
    build = AdversarialModule.on_train_start

    def too_large(self: AdversarialModule) -> None:
        self.guards["g"].full_scale = 2.0**40
        build(self)

    monkeypatch.setattr(AdversarialModule, "on_train_start", too_large)
    module = fit(settings, tmp_path, "total_images=200", "trainer.precision=16-mixed")
    assert module.guards["g"].skipped > module.guards["d"].skipped
    assert module.guards["g"].scale < 2.0**40
    assert all(value.isfinite().all() for value in module.state_dict().values())
