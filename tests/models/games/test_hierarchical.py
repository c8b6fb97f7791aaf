import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.core.batch import cut
from medgan_pl.models.games.hierarchical import Hierarchical
from medgan_pl.models.losses.adversarial import Hinge, NonSaturating, Relative
from medgan_pl.models.losses.penalties import R1, NoPenalty, WassersteinPenalty
from medgan_pl.models.networks.hagan import HierarchicalDiscriminator, HierarchicalGenerator, slab_of
from medgan_pl.models.networks.layers import frozen

SHAPE = {"spatial_dims": 3, "channels": 1, "size": 16, "width": 4, "slabs": 2}


class Means(nn.Module):
    """A D whose logit is the mean of what it sees, that of slabs ten times."""

    def forward(self, image, condition=None, place=None):
        return image.flatten(1).mean(1) * (1 if place is None else 10)


def game(**more) -> Hierarchical:
    return Hierarchical(**{"latent": 4, "slabs": 2, "objective": Hinge(), "penalty": NoPenalty()} | more)


def test_the_views_are_a_slab_and_the_whole_averaged() -> None:
    playing = game()
    image = torch.rand(3, 1, 16, 16, 8)
    batch = playing.draw({"image": image})
    views = playing.views(batch)
    torch.testing.assert_close(views["low"], F.avg_pool3d(image, 4))
    for i, place in enumerate(batch["place"][:, 0].tolist()):
        first = 4 * int(place * 3)  # 4 cells, 2 a slab
        torch.testing.assert_close(views["slab"][i], image[i, :, first : first + 8])


def test_both_views_are_paid_for_by_the_objective() -> None:
    playing, d = game(), Means()
    batch = playing.draw({"image": torch.rand(3, 1, 16, 16, 16) / 20})
    real = playing.views(batch)
    fake = {name: -view / 2 for name, view in real.items()}
    losses = playing.discriminator_losses(d, batch, fake)
    slab, low = real["slab"].mean() * 10, real["low"].mean()
    torch.testing.assert_close(losses.terms["adversarial_slab"], (1 - slab) + (1 - slab / 2))
    torch.testing.assert_close(losses.terms["adversarial_low"], (1 - low) + (1 - low / 2))
    torch.testing.assert_close(losses.logged["real"], (slab + low) / 2)
    assert losses.logged["accuracy"] == 1
    paid = playing.generator_losses(d, batch, fake).terms
    torch.testing.assert_close(paid["adversarial_slab"], slab / 2)
    torch.testing.assert_close(paid["adversarial_low"], low / 2)


@pytest.mark.parametrize("penalty", [R1(weight=2.0), WassersteinPenalty()])
def test_the_penalty_is_of_both_views(penalty) -> None:
    playing, d = game(penalty=penalty), Means()
    batch = playing.draw({"image": torch.rand(3, 1, 16, 16, 16)})
    fake = {name: -view for name, view in playing.views(batch).items()}
    norms = 10 / (8 * 16 * 16) ** 0.5, 1 / (4**3) ** 0.5  # of the gradient of a mean
    expected = sum(norm**2 if isinstance(penalty, R1) else 10 * (norm - 1) ** 2 for norm in norms)
    torch.testing.assert_close(playing.discriminator_penalties(d, batch, fake, 0)["penalty"], torch.tensor(expected))


@pytest.mark.parametrize("objective", [NonSaturating(), Relative(NonSaturating())])
def test_each_players_losses_reach_only_that_player(objective) -> None:
    playing = game(objective=objective, penalty=R1(weight=1.0))
    g, d = HierarchicalGenerator(**SHAPE, latent=4), HierarchicalDiscriminator(**SHAPE)
    batch = playing.draw({"image": torch.rand(2, 1, 16, 16, 16)})
    fake = playing.play(g, batch)
    seen = {name: view.detach() for name, view in fake.items()}
    losses = playing.discriminator_losses(d, batch, seen)
    losses.terms.update(playing.discriminator_penalties(d, batch, seen, 0))
    losses.total.backward()
    assert all(weight.grad is None for weight in g.parameters())
    assert all(weight.grad is not None for weight in d.parameters())
    d.zero_grad()
    with frozen(d):
        playing.generator_losses(d, batch, fake).total.backward()
    assert all(weight.grad is not None for weight in g.parameters())
    assert all(weight.grad is None for weight in d.parameters())


def test_the_critic_of_a_whole_image_asks_of_every_slab_and_of_the_low_view() -> None:
    playing, d = game(slabs=3), HierarchicalDiscriminator(**SHAPE | {"size": (20, 16, 16), "slabs": 3})
    image = torch.rand(2, 1, 20, 16, 16)  # 5 cells, 1 a slab
    logits = playing.critic(d, {"image": image})(image)
    slabs = [d(image[:, :, 4 * i : 4 * i + 4], None, torch.full((2, 1), (i + 0.5) / 5)) for i in range(5)]
    torch.testing.assert_close(logits, torch.stack([torch.stack(slabs).mean(0), d(F.avg_pool3d(image, 4))], 1))
    covered = game(slabs=2).critic(Means(), {"image": image})(image)  # slabs of 2 cells from cells 0, 2 and 3
    torch.testing.assert_close(covered[:, 0], torch.stack([image[:, :, i : i + 8].mean((1, 2, 3, 4)) for i in (0, 8, 12)]).mean(0) * 10)


def test_parts_of_a_batch_play_in_the_same_places() -> None:
    playing, g = game(), HierarchicalGenerator(**SHAPE, latent=4).eval()
    batch = playing.draw({"image": torch.rand(4, 1, 16, 16, 16)})
    parts = cut(batch, 2)
    for name, view in playing.play(g, batch).items():
        torch.testing.assert_close(torch.cat([playing.play(g, part)[name] for part in parts]), view)
    torch.testing.assert_close(slab_of(playing.generate(g, batch), batch["place"], 2), playing.play(g, batch)["slab"])


class Remembers(nn.Module):
    """A regulariser with a memory."""

    numbers = 0

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, critic, real, fake, real_logits, fake_logits, numbers):
        self.seen.copy_(real_logits.mean())
        return self.seen.clone()


def test_a_regulariser_remembers_each_view_apart() -> None:
    playing = game(regularizers={"lecam": Remembers()})
    batch = playing.draw({"image": torch.rand(3, 1, 16, 16, 16)})
    views = playing.views(batch)
    terms = playing.discriminator_losses(Means(), batch, views).terms
    torch.testing.assert_close(terms["lecam_slab"], views["slab"].mean() * 10)
    torch.testing.assert_close(terms["lecam_low"], views["low"].mean())
    assert {name for name, _ in playing.named_buffers()} == {"regularizers.lecam_slab.seen", "regularizers.lecam_low.seen"}
