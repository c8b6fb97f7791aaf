import pytest
import torch
from torch import Tensor, nn

from medgan_pl.core.keys import Purpose, key_randomness
from medgan_pl.models.games.reconstruction import Reconstruction
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import Hinge
from medgan_pl.models.losses.penalties import R1, NoPenalty
from medgan_pl.models.networks.fastgan import FastDiscriminator, FastGenerator
from medgan_pl.models.networks.layers import frozen

SHAPE = {"spatial_dims": 2, "channels": 1, "size": 16, "width": 4}


class Told(nn.Module):
    """A D whose logits are the mean of the image and whose decoders always say 0; it remembers what it was shown with a place."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, image, condition=None, place=None):
        logits = image.flatten(1).mean(1, keepdim=True)
        if place is None:
            return logits
        self.shown.append(image)
        part = image[:, :, :4]
        return logits, {"whole": (torch.zeros_like(image), image), "part": (torch.zeros_like(part), part)}


class Darker(nn.Module):
    """An augmentation: half of every grey value."""

    numbers = 1

    def forward(self, images, numbers):
        return images / 2


def game(**more) -> Reconstruction:
    return Reconstruction(**{"latent": 4, "objective": Hinge(), "penalty": NoPenalty()} | more)


def test_d_pays_the_objective_and_the_error_of_each_view_of_the_reals_alone() -> None:
    playing, d = game(weight=3.0), Told()
    real, fake = torch.rand(4, 1, 8, 8), -torch.rand(4, 1, 8, 8)
    losses = playing.discriminator_losses(d, playing.draw({"image": real}), fake)
    means = real.flatten(1).mean(1), fake.flatten(1).mean(1)
    torch.testing.assert_close(losses.terms["adversarial"], (1 - means[0]).mean() + (1 + means[1]).mean())
    torch.testing.assert_close(losses.terms["whole"], 3 * real.abs().mean())
    torch.testing.assert_close(losses.terms["part"], 3 * real[:, :, :4].abs().mean())
    assert set(losses.terms) == {"adversarial", "whole", "part"}
    assert len(d.shown) == 1
    torch.testing.assert_close(d.shown[0], real)
    g_pays = playing.generator_losses(d, playing.draw({"image": real}), fake)
    assert set(g_pays.terms) == {"adversarial"}
    assert len(d.shown) == 1


def test_what_is_to_be_decoded_is_the_real_as_augmented() -> None:
    playing, d = game(augment=Darker()), Told()
    real = torch.rand(4, 1, 8, 8)
    losses = playing.discriminator_losses(d, playing.draw({"image": real}), -real)
    torch.testing.assert_close(losses.terms["whole"], real.abs().mean() / 2)


def test_each_players_losses_reach_only_that_player() -> None:
    playing = game(penalty=R1(weight=1.0))
    g, d = FastGenerator(**SHAPE, latent=4), FastDiscriminator(**SHAPE)
    batch = playing.draw({"image": torch.rand(4, 1, 16, 16)})
    fake = playing.play(g, batch)
    losses = playing.discriminator_losses(d, batch, fake.detach())
    losses.terms.update(playing.discriminator_penalties(d, batch, fake.detach(), 0))
    losses.total.backward()
    assert all(weight.grad is None for weight in g.parameters())
    assert all(weight.grad is not None for weight in d.parameters())
    d.zero_grad()
    with frozen(d):
        playing.generator_losses(d, batch, fake).total.backward()
    assert all(weight.grad is not None for weight in g.parameters())
    assert all(weight.grad is None for weight in d.parameters())


def test_the_critic_gives_logits_alone() -> None:
    playing, d = game(), FastDiscriminator(**SHAPE)
    image = torch.rand(2, 1, 16, 16)
    for batch in ({"image": image}, playing.draw({"image": image})):
        assert playing.critic(d, batch)(image).shape == (2, 16)


def test_the_place_is_drawn_beside_the_same_noise() -> None:
    plain = Synthesis(latent=4, objective=Hinge(), penalty=NoPenalty())
    drawn = []
    for each in (plain, game(), game()):
        key_randomness(0, 0, 5, Purpose.STEP)
        drawn.append(each.draw({"image": torch.rand(3, 1, 8, 8, 8, generator=torch.Generator())}))
    torch.testing.assert_close(drawn[0]["z"], drawn[1]["z"], atol=0, rtol=0)
    torch.testing.assert_close(drawn[1]["place"], drawn[2]["place"], atol=0, rtol=0)
    assert drawn[1]["place"].shape == (3, 3)
    assert "place" not in game().draw({"label": torch.zeros(2, dtype=torch.long)})  # images asked for, none seen


def test_a_weight_that_is_none() -> None:
    with pytest.raises(ValueError, match="`weight` must be above 0, got 0"):
        game(weight=0.0)
