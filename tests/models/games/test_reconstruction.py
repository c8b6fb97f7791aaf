import pytest
import torch
from torch import Tensor, nn

from medgan_pl.core.keys import Purpose, key_randomness
from medgan_pl.models.augment import Augment
from medgan_pl.models.games.reconstruction import Reconstruction
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import Hinge
from medgan_pl.models.losses.penalties import R1, NoPenalty
from medgan_pl.models.networks.fastgan import FastDiscriminator, FastGenerator
from medgan_pl.models.networks.layers import frozen
from medgan_pl.models.strength import Fixed

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


def test_padding_is_not_to_be_decoded() -> None:
    playing, d = game(weight=3.0), FastDiscriminator(**SHAPE)
    real, inside = torch.rand(4, 1, 16, 16), torch.ones(4, 1, 16, 16)
    inside[:, :, :, :6] = 0
    batch = playing.draw({"image": real, "inside": inside})
    paid = playing.discriminator_losses(d, batch, -real).terms
    _, views = d(real, None, batch["place"])
    _, seen = d(real, None, batch["place"], inside)
    for name, (made, target) in views.items():
        known = seen[name][2]
        assert 0 < known.mean() < 1
        off = [(made[i] - target[i]).abs()[known[i] > 0] for i in range(4)]
        torch.testing.assert_close(paid[name], 3 * torch.stack([each.mean() if len(each) else each.sum() for each in off]).mean())
    columns = seen["whole"][2][0, 0].bool()
    pixels = 16 // columns.shape[1]
    assert columns.all(0).tolist() == [first >= 6 for first in range(0, 16, pixels)]


def test_padding_is_moved_as_the_image_is() -> None:
    augment = Augment(spatial_dims=2, strength=Fixed(p=1.0), shift=0.3, brightness=0.2)
    playing = game(augment=augment)
    inside = torch.ones(3, 1, 16, 16)
    inside[:, :, :5] = 0
    batch = playing.draw({"image": 2 * inside - 1, "inside": inside})
    given = []

    def watched(image, condition=None, place=None, **known):
        logits = image.flatten(1).mean(1)
        if place is None:
            return logits
        given.append((image, *known.values()))
        return logits, {}

    playing.discriminator_losses(watched, batch, torch.zeros(3, 1, 16, 16))
    image, moved = given[0]
    assert torch.equal(moved, (image >= 0).float())
    assert not torch.equal(moved, inside)
