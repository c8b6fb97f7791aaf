"""The module: whose turn, who learns, what is counted, averaged, saved; by value."""

import copy
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from games_of_numbers import Numbers, NumbersData
from torch import Tensor, nn

import medgan_pl
from medgan_pl.core.files import read_table
from medgan_pl.export.weights import export
from medgan_pl.models.build import build_module
from medgan_pl.models.guards import Diverged
from medgan_pl.models.module import AdversarialModule
from medgan_pl.models.networks.layers import frozen
from medgan_pl.train.checkpoints import Checkpoints, WholeFiles
from medgan_pl.train.tables import MetricsTable

TINY = ("seed=3", "data.size=16", "model.width=4", "model.latent=8", "metrics.random.extractor.width=4", "logger=csv")


def weights(network: nn.Module) -> list[Tensor]:
    return [value.detach().clone() for value in network.state_dict().values()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def fit(module: AdversarialModule, folder: Path, data: NumbersData | None = None, **options: Any) -> pl.Trainer:
    checkpoint = options.pop("ckpt_path", None)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=-1,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        plugins=[WholeFiles()],
        logger=[MetricsTable(folder / "metrics.csv")],
        callbacks=[Checkpoints(folder / "checkpoints", "val/fd_random")],
        **options,
    )
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    trainer.fit(module, datamodule=data or NumbersData(), ckpt_path=checkpoint, weights_only=True)
    return trainer


@pytest.mark.parametrize(("players", "moved"), [("[d]", "d"), ("[g]", "g")])
def test_a_stage_moves_its_player_alone(settings, tmp_path, players, moved) -> None:
    module = build_module(settings(*TINY, "total_images=16", f"stages.both.players={players}"))
    players = {"g": module.networks["g"], "d": module.networks["d"]}
    before = {name: [weight.detach().clone() for weight in player.parameters()] for name, player in players.items()}
    fit(module, tmp_path)
    assert {name: not equal(before[name], list(player.parameters())) for name, player in players.items()} == {
        "g": moved == "g",
        "d": moved == "d",
    }


def test_stages_take_turns_by_images(settings, tmp_path, caplog) -> None:
    caplog.set_level("INFO")
    module = build_module(
        settings(*TINY, "total_images=24", "log_every=4", "stages=three", "stages.d_only.images=8", "stages.g_only.images=8")
    )
    fit(module, tmp_path)
    table = read_table(tmp_path / "metrics.csv")
    assert table["train/d/loss"][0] == [4, 8, 20, 24]
    assert table["train/g/loss"][0] == [12, 16, 20, 24]
    said = [record.getMessage().split("images  ")[1] for record in caplog.records if "stage" in record.getMessage()]
    assert said == ["stage d_only: d", "stage g_only: g", "stage both: d and g"]


def test_d_plays_more_often_than_g(settings, tmp_path) -> None:
    module = build_module(settings(*TINY, "total_images=24", "log_every=4", "d_per_g=3"))
    fit(module, tmp_path)
    table = read_table(tmp_path / "metrics.csv")
    assert table["train/d/loss"][0] == [4, 8, 12, 16, 20, 24]
    assert table["train/g/loss"][0] == [12, 24]
    assert (module.images, module.turns["d"]) == (24, 6)


def test_d_plays_until_it_tells_a_fresh_batch_well_enough(settings, tmp_path, monkeypatch) -> None:
    module = build_module(settings(*TINY, "total_images=48", "log_every=4", "d_per_g=auto", "d_auto.accuracy=0.75", "d_auto.max_turns=4"))
    seen = iter([0.5, 0.69, 0.75, 0.9, 0.1, 0.1, 0.1, 0.1, 1.0, 0.2, 0.2, 0.8])  # of D in each of the 12 batches
    monkeypatch.setattr("medgan_pl.models.games.base.accuracy", lambda real, fake: torch.tensor(next(seen)))
    fit(module, tmp_path)
    table = read_table(tmp_path / "metrics.csv")
    assert table["train/d/loss"][0] == [4.0 * i for i in range(1, 13)]
    assert table["train/g/loss"][0] == [12, 16, 32, 36, 48]  # reached, reached, `most`, reached, reached
    assert table["train/d/accuracy"][1][:4] == pytest.approx([0.5, 0.69, 0.75, 0.9])


def test_the_average_counts_the_images_since_g_last_played(settings, tmp_path, monkeypatch) -> None:
    module = build_module(settings(*TINY, "total_images=24", "d_per_g=3"))
    new = []
    monkeypatch.setattr(module.ema, "update", lambda network, *, images, new_images: new.append((images, new_images)))
    fit(module, tmp_path)
    assert new == [(12, 12), (24, 12)]


def test_losses_reach_only_their_player(settings) -> None:
    module = build_module(settings(*TINY))
    batch = module.game.draw({"image": torch.rand(4, 1, 16, 16)})
    fake = module.game.generate(module.networks["g"], batch)
    module.game.discriminator_losses(module.networks["d"], batch, fake.detach()).total.backward()
    assert all(weight.grad is None for weight in module.networks["g"].parameters())
    module.networks["d"].zero_grad(set_to_none=True)
    with frozen(module.networks["d"]):
        module.game.generator_losses(module.networks["d"], batch, fake).total.backward()
    assert all(weight.grad is None for weight in module.networks["d"].parameters())
    assert all(weight.grad is not None for weight in module.networks["g"].parameters())
    assert all(weight.requires_grad for weight in module.networks["d"].parameters())


def test_g_is_judged_by_the_d_just_updated(settings, tmp_path, monkeypatch) -> None:
    module = build_module(settings(*TINY, "total_images=4"))
    before, judges = weights(module.networks["d"]), []
    real = module.game.generator_losses
    monkeypatch.setattr(module.game, "generator_losses", lambda d, *rest: (judges.append(weights(d)), real(d, *rest))[1])
    fit(module, tmp_path)
    assert len(judges) == 1
    assert not equal(before, judges[0])


FROM_THE_START = ("regularizers.lecam.warmup=1", "regularizers.consistency.fake_weight=1")


@pytest.mark.parametrize(
    "extra",
    [
        (),
        ("objective=relative", "penalty=r1r2", "penalty.every=1", "clip_g=1e-3"),
        ("penalty=r1", "penalty.every=2", "d_per_g=2"),
        ("penalty=wgan_gp", "penalty.every=2", "d_per_g=2"),
        ("augment=fixed", "augment.strength.p=0.7", "penalty=r1r2", "penalty.every=2", "regularizer=[lecam,consistency]", *FROM_THE_START),
    ],
    ids=["plain", "relative", "lazy R1", "lazy WGAN-GP", "augmented"],
)
def test_parts_add_up_to_the_whole_batch(settings, tmp_path, extra) -> None:
    plain = (*TINY, "total_images=12", "model=dcgan", "model.width=4", "model.discriminator.batch_norm=false", "clip_d=1", *extra)
    plain += ("optimizer@optimizer_g=sgd", "optimizer_g.lr=0.1")  # Adam would blow rounding up to its step size
    modules = [build_module(settings(*plain, f"accumulate={parts}")) for parts in (1, 3)]
    for i, module in enumerate(modules):
        for layer in module.networks["g"].modules():  # batch norm sees the part, not the batch
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        module.networks["g"].train = lambda mode=True, g=module.networks["g"]: g
        fit(module, tmp_path / str(i), NumbersData(batch_size=6))
    for whole, parts in zip(modules[0].parameters(), modules[1].parameters(), strict=True):
        torch.testing.assert_close(whole, parts, rtol=1e-4, atol=1e-5)


def test_more_parts_than_images(settings, tmp_path) -> None:
    with pytest.raises(ValueError, match="8 parts of a batch of 4"):
        fit(build_module(settings(*TINY, "accumulate=8")), tmp_path)


def test_clipping_bounds_the_step(settings, tmp_path) -> None:
    module = build_module(settings(*TINY, "total_images=4", "clip_d=0.01", "optimizer_d.momentum=0", "optimizer_d.lr=1"))

    def flat() -> Tensor:
        return torch.cat([weight.detach().reshape(-1) for weight in module.networks["d"].parameters()])

    before = flat()
    fit(module, tmp_path)
    assert float((flat() - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_learning_rates_follow_their_schedules(settings, tmp_path) -> None:
    module = build_module(settings(*TINY, "total_images=16", "log_every=4", "schedule@schedule_g=constant", "schedule_d.decay_from=0"))
    fit(module, tmp_path)
    table = read_table(tmp_path / "metrics.csv")
    assert table["train/d/lr"][1] == pytest.approx([0.1, 0.0775, 0.055, 0.0325])  # to a tenth at the end
    assert table["train/g/lr"][1] == pytest.approx([5e-4] * 4)


def test_the_sum_of_the_terms_is_the_loss(settings, tmp_path) -> None:
    module = build_module(settings(*TINY, "total_images=32", "log_every=16", "penalty=r1", "penalty.every=2", "accumulate=2"))
    fit(module, tmp_path)
    table = read_table(tmp_path / "metrics.csv")
    summed = [a + b for a, b in zip(table["train/d/adversarial"][1], table["train/d/penalty"][1], strict=True)]
    assert table["train/d/loss"][1] == pytest.approx(summed, rel=1e-5)


ADAPTIVE = ("augment=ada", "augment.strength.target=0.51", "augment.strength.full_images=100", "augment.strength.every=3")


@pytest.mark.parametrize("extra", [(), (*ADAPTIVE, "regularizer=[lecam,consistency]", "regularizers.lecam.warmup=3", "d_per_g=auto")])
def test_resumed_equals_uninterrupted(settings, tmp_path, extra) -> None:
    # The other schedules depend on total_images. 32 images are 8 turns of D: the adaptive p is saved two turns after it last changed.
    steady = ("schedule@schedule_g=constant", "schedule@schedule_d=constant", *extra)
    through = build_module(settings(*TINY, "total_images=64", "log_every=12", "validate_every=32", *steady))
    fit(through, tmp_path / "a")
    first = build_module(settings(*TINY, "total_images=32", "log_every=12", "validate_every=32", *steady))
    fit(first, tmp_path / "b")
    second = build_module(settings(*TINY, "total_images=64", "log_every=12", "validate_every=32", *steady))
    fit(second, tmp_path / "b", ckpt_path=str(tmp_path / "b" / "checkpoints" / "last.ckpt"))
    assert second.images == 64
    assert equal(weights(through), weights(second))
    kept = {name: value for name, value in second.state_dict().items() if name.startswith("game.")}
    assert len(kept) == (4 if extra else 0)  # p and what was told of it, LeCam's means and its turns
    assert all(value.abs().sum() > 0 for name, value in kept.items() if "told" not in name)
    tables = [read_table(tmp_path / run / "metrics.csv") for run in "ab"]
    for key in ("train/d/loss", "val/fd_random"):
        assert tables[0][key] == tables[1][key]


def test_the_augmentation_follows_how_well_d_does(settings, tmp_path, monkeypatch) -> None:
    """It rises while D tells all, to its clamp, and falls while D tells nothing; every third turn of four images, a hundredth for each."""
    module = build_module(settings(*TINY, "total_images=192", "log_every=12", *ADAPTIVE, "augment.strength.max_p=0.3"))
    right = iter([1.0] * 24 + [0.5] * 24)
    monkeypatch.setattr("medgan_pl.models.games.base.accuracy", lambda real, fake: torch.tensor(next(right)))
    fit(module, tmp_path)
    shown = read_table(tmp_path / "metrics.csv")["train/augment/p"][1]
    up, down = [0.12, 0.24, 0.3, 0.3, 0.3, 0.3, 0.3, 0.3], [0.18, 0.06, 0, 0, 0, 0, 0, 0]
    assert shown == pytest.approx(up + down, abs=1e-6)


@pytest.mark.slow
def test_it_rises_where_d_knows_its_images_by_heart(settings, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Numbers, "image", lambda self, i: torch.randn(self.shape, generator=torch.Generator().manual_seed(i % 4)).tanh())
    module = build_module(settings(*TINY, "total_images=600", "log_every=60", "augment=ada", "augment.strength.full_images=600"))
    fit(module, tmp_path)
    p = read_table(tmp_path / "metrics.csv")["train/augment/p"][1]
    assert p[-1] > max(p[0], 0.3)


def test_what_is_learnt_of_d_goes_with_the_checkpoint_and_not_with_shared_weights(settings, tmp_path) -> None:
    module = build_module(settings(*TINY, "total_images=32", *ADAPTIVE, "augment.strength.start=0.4", "regularizer=lecam"))
    fit(module, tmp_path)
    checkpoint = tmp_path / "checkpoints" / "last.ckpt"
    export(checkpoint, tmp_path / "x.safetensors")
    loaded, shared = medgan_pl.load(checkpoint), medgan_pl.load(tmp_path / "x.safetensors")
    assert loaded.game.augment.logged() == module.game.augment.logged() != {"p": 0.4}
    assert torch.equal(loaded.game.regularizers["lecam"].anchors, module.game.regularizers["lecam"].anchors)
    assert shared.game.augment is None
    assert equal(weights(loaded.ema.network), weights(shared.ema.network))


def test_losses_that_stay_not_finite_end_in_diverged_and_keep_the_last_good_checkpoint(settings, tmp_path, monkeypatch) -> None:
    module = build_module(settings(*TINY, "total_images=400", "log_every=4", "validate_every=32", "guard.patience=3"))
    real = module.game.discriminator_losses

    def poisoned(*arguments):
        losses = real(*arguments)
        if module.images >= 40:
            losses.terms["adversarial"] = losses.terms["adversarial"] * torch.nan
        return losses

    monkeypatch.setattr(module.game, "discriminator_losses", poisoned)
    with pytest.raises(Diverged, match=r"3 steps in a row .* skipped: train/d/loss nan, train/d/adversarial nan"):
        fit(module, tmp_path)
    state = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["medgan_pl"]["images"] == 32
    assert all(value.isfinite().all() for value in state["state_dict"].values() if value.is_floating_point())


def test_validation_uses_the_average_and_the_same_noise(settings, tmp_path) -> None:
    module = build_module(settings(*TINY, "total_images=4"))
    trainer = fit(module, tmp_path)
    first = trainer.callback_metrics["val/fd_random"].clone()
    torch.manual_seed(99)
    trainer.validate(module, datamodule=NumbersData(), verbose=False)
    assert torch.equal(first, trainer.callback_metrics["val/fd_random"])
    with torch.no_grad():
        for weight in module.ema.network.parameters():
            weight.mul_(0)
    trainer.validate(module, datamodule=NumbersData(), verbose=False)
    assert not torch.equal(first, trainer.callback_metrics["val/fd_random"])


def test_noise_differs_by_step_and_by_seed(settings) -> None:
    from medgan_pl.core.keys import Purpose, key_randomness

    def draw(*key: int) -> Tensor:
        key_randomness(*key, Purpose.STEP)
        return torch.randn(8)

    assert torch.equal(draw(0, 0, 32), draw(0, 0, 32))
    others = [draw(1, 0, 32), draw(0, 1, 32), draw(0, 0, 64)]
    assert not any(torch.equal(draw(0, 0, 32), other) for other in others)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.both.players=[x]", r"`stages\.both\.players` must be some of \['d', 'g'\], got \['x'\]"),
        ("+stages.both.adversarial=false", r"without the discriminator must have players \[g\], got \['d', 'g'\]"),
        ("stages=content", "needs a loss between each fake and its own real"),
        (
            "+module.players.e=${module.players.d}",
            r"must be the players of the game, for Synthesis d, g; got \['d', 'e', 'g'\]",
        ),
        ("~module.players.d", r"got \['g'\]"),
    ],
)
def test_players_and_stages_are_those_of_the_game(settings, override, message) -> None:
    with pytest.raises(Exception, match=message):
        build_module(settings(*TINY, override))


@pytest.mark.parametrize("key", ["total_images", "log_every", "validate_every", "d_per_g", "accumulate"])
def test_counts_must_be_counts(settings, key) -> None:
    with pytest.raises(Exception, match=f"`{key}` must be a whole number of at least 1, got 0"):
        build_module(settings(*TINY, f"{key}=0"))


def test_two_seeds_two_networks_same_seed_same(settings) -> None:
    modules = [build_module(settings(*TINY, f"seed={seed}")) for seed in (1, 1, 2)]
    assert equal(weights(modules[0]), weights(modules[1]))
    assert not equal(weights(modules[0]), weights(copy.deepcopy(modules[2])))
