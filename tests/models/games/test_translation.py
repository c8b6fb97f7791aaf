import pytest
import torch
from torch import Tensor, nn

from medgan_pl.models.games.translation import Segmentation, Translation
from medgan_pl.models.losses.adversarial import LeastSquares
from medgan_pl.models.losses.image import L1, FeatureMatching
from medgan_pl.models.losses.penalties import NoPenalty
from medgan_pl.models.networks.layers import frozen
from medgan_pl.models.networks.patchgan import PatchDiscriminator
from medgan_pl.models.networks.unet import UNetGenerator


class Halved(nn.Module):
    """An augmentation: half of every grey value."""

    numbers = 1

    def forward(self, images, numbers):
        return images / 2


class Mean(nn.Module):
    """A D whose logit is the mean of each channel, weighted 1, 10, 100, …; it remembers what it was shown."""

    def forward(self, images, condition=None):
        self.shown = images
        return (images.flatten(2).mean(2) * 10 ** torch.arange(images.shape[1])).sum(1)


def game(kind=Translation, **more) -> Translation:
    return kind(**{"extras": {"l1": L1(weight=3.0)}, "objective": LeastSquares(), "penalty": NoPenalty()} | more)


def batch(sides=(8, 8), small=(8, 8)) -> dict[str, Tensor]:
    return {"image": torch.rand(4, 1, *sides) * 2 - 1, "source": torch.rand(4, 2, *small) * 2 - 1}


@pytest.mark.parametrize(("sides", "small"), [((8, 8), (8, 8)), ((8, 12), (4, 6)), ((8, 8, 8), (4, 4, 4))])
def test_d_sees_the_source_beside_the_image_and_both_augmented_alike(sides, small) -> None:
    given, d = batch(sides, small), Mean()
    playing = game(augment=Halved())
    playing.critic(d, given)(given["image"])
    assert d.shown.shape == (4, 3, *sides)
    torch.testing.assert_close(d.shown[:, :1], given["image"])
    whole = d.shown
    factor = sides[0] // small[0]
    torch.testing.assert_close(whole[:, 1:][(..., *[slice(None, None, factor)] * len(sides))], given["source"])
    playing.judge(d, playing.draw(given))(given["image"])
    torch.testing.assert_close(d.shown, whole / 2)
    game(conditional=False).critic(d, given)(given["image"])
    assert d.shown.shape == (4, 1, *sides)


def test_g_pays_the_adversary_and_the_extras_or_the_extras_alone() -> None:
    given, d = batch(), Mean()
    fake = torch.rand(4, 1, 8, 8)
    error = 3 * (fake - given["image"]).abs().mean()
    paid = game().generator_losses(d, given, fake)
    assert set(paid.terms) == {"adversarial", "l1"}
    torch.testing.assert_close(paid.terms["l1"], error)
    both = game(extras={"l1": L1(weight=3.0), "match": FeatureMatching(weight=1.0)})
    alone = both.content_losses(given, fake)  # D's maps teach nothing where D does not play
    assert set(alone.terms) == {"l1"}
    assert both.has_content
    assert not game(extras={"match": FeatureMatching(weight=1.0)}).has_content
    torch.testing.assert_close(alone.total, error)


class Farthest(nn.Module):
    """A term of a user's own, which knows nothing of padding."""

    of_critic = False

    def forward(self, fake, real, features=None):
        return (fake - real).abs().max()


def test_padding_takes_no_part_in_any_extra() -> None:
    given, fake = batch(), torch.full((4, 1, 8, 8), 0.25)
    inside = torch.zeros(4, 1, 8, 8)
    inside[..., :5] = 1
    given["image"][..., :5], given["image"][..., 5:] = 0.5, -1
    playing = game(extras={"l1": L1(weight=3.0), "own": Farthest()})
    for paid in (
        playing.content_losses(given | {"inside": inside}, fake),
        playing.generator_losses(Mean(), given | {"inside": inside}, fake),
    ):
        assert (paid.terms["l1"].item(), paid.terms["own"].item()) == (0.75, 0.25)
    without = playing.content_losses(given, fake).terms
    assert (without["l1"].item(), without["own"].item()) == (3 * (5 * 0.25 + 3 * 1.25) / 8, 1.25)


def test_a_segmentation_is_held_against_its_masks_and_judged_beside_its_image() -> None:
    given = {"image": torch.rand(4, 1, 8, 8), "mask": (torch.rand(4, 2, 8, 8) > 0.5).float()}
    playing, d = game(Segmentation), Mean()
    torch.testing.assert_close(playing.real(given), given["mask"] * 2 - 1)
    playing.critic(d, given)(playing.real(given))
    torch.testing.assert_close(d.shown, torch.cat([given["mask"] * 2 - 1, given["image"]], 1))
    with pytest.raises(ValueError, match=r"set data\.beside\.mask"):
        playing.real({"image": given["image"]})


def test_each_players_losses_reach_that_player_alone() -> None:
    shared = {"spatial_dims": 2, "channels": 1, "source_channels": 2, "width": 4}
    g, d = UNetGenerator(**shared, levels=2), PatchDiscriminator(**shared, layers=1)
    playing = game(extras={"l1": L1(weight=3.0), "match": FeatureMatching(weight=1.0)})
    given = playing.draw(batch((16, 16), (16, 16)))
    fake = playing.play(g, given)
    playing.discriminator_losses(d, given, fake.detach()).total.backward()
    assert all(weight.grad is None for weight in g.parameters())
    assert all(weight.grad is not None for weight in d.parameters())
    d.zero_grad()
    with frozen(d):
        playing.generator_losses(d, given, fake).total.backward()
    assert all(weight.grad is not None for weight in g.parameters())
    assert all(weight.grad is None for weight in d.parameters())


def test_what_is_known_stays_where_it_is_to_be_kept() -> None:
    given = batch()
    given["source"][:, 1] = torch.where(torch.rand(4, 8, 8) > 0.5, 1.0, -1.0)
    made = game(keep_known=True).generate(lambda source: torch.full((4, 1, 8, 8), 0.25), given)
    hole = given["source"][:, 1:] > 0
    assert (made[hole] == 0.25).all()
    torch.testing.assert_close(made[~hole], given["source"][:, :1][~hole], rtol=0, atol=0)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="`extras` must hold a term"):
        game(extras={})
    with pytest.raises(ValueError, match=r"set data\.degrade or data\.beside\.source"):
        game().generate(nn.Identity(), {"image": torch.zeros(1, 1, 8, 8)})
    with pytest.raises(ValueError, match="needs a D with features"):
        game(extras={"match": FeatureMatching(weight=1.0)}).generator_losses(Mean(), batch(), torch.zeros(4, 1, 8, 8))
