import pytest
import torch

from medgan_pl.models.build import build_module
from medgan_pl.models.games.noise import Normal, Uniform
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import Hinge
from medgan_pl.models.losses.penalties import NoPenalty

CPU = torch.device("cpu")
TINY = ("data.size=16", "model.width=4", "metrics.random.extractor.width=4")


def test_uniform_fills_minus_one_to_one_and_no_more() -> None:
    torch.manual_seed(0)
    z = Uniform()(1000, 20, CPU)
    assert z.shape == (1000, 20)
    assert z.abs().max() <= 1
    assert z.min() < -0.999
    assert z.max() > 0.999
    assert z.mean().abs() < 0.02
    assert z.var().item() == pytest.approx(1 / 3, abs=0.01)
    quarters = torch.histc(z, 4, -1, 1) / z.numel()
    torch.testing.assert_close(quarters, torch.full((4,), 0.25), atol=0.01, rtol=0)


def test_normal_has_variance_one() -> None:
    torch.manual_seed(0)
    z = Normal()(1000, 20, CPU)
    assert z.mean().abs() < 0.03
    assert z.var().item() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("latent", [1, 7, 300])
@pytest.mark.parametrize(("noise", "kind"), [("uniform", Uniform), ("normal", Normal)])
def test_g_starts_from_the_noise_that_was_chosen_of_any_length(settings, noise, kind, latent) -> None:
    module = build_module(settings(f"noise={noise}", f"model.latent={latent}", *TINY))
    assert isinstance(module.game.noise, kind)
    batch = module.game.draw({"image": torch.zeros(4, 1, 16, 16)})
    assert batch["z"].shape == (4, latent)
    assert module.generate(batch).shape == (4, 1, 16, 16)


def test_a_batch_that_brings_its_noise_keeps_it() -> None:
    z = torch.full((2, 3), 9.0)
    game = Synthesis(latent=3, noise=Uniform(), objective=Hinge(), penalty=NoPenalty())
    assert game.draw({"image": torch.zeros(2, 1, 8, 8), "z": z})["z"] is z
