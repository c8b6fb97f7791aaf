"""CUT: PatchNCE by hand, which places are compared, who stands in which row."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from medgan_pl.models.games.contrastive import Contrastive, patch_nce
from medgan_pl.models.losses.adversarial import NonSaturating, Relative
from medgan_pl.models.losses.penalties import R1, NoPenalty, WassersteinPenalty
from medgan_pl.models.networks.layers import frozen
from medgan_pl.models.networks.patches import PatchTranslator, places_of
from medgan_pl.models.networks.translator import TranslatorGenerator, instance_norm

DOMAIN = torch.tensor([0, 1, 1, 0])


def game(**more) -> Contrastive:
    return Contrastive(**{"objective": NonSaturating(), "penalty": NoPenalty(), "patches": 12} | more)


def translator(spatial_dims: int = 2, **more) -> PatchTranslator:
    where = {"spatial_dims": spatial_dims, "channels": 1}
    network = TranslatorGenerator(**where, source_channels=1, width=4, blocks=2, norm=instance_norm)
    return PatchTranslator(translator=network, **where, size=8, features=16, **more)


class Judge(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3)

    def forward(self, image):
        return self.layer(image).flatten(1).mean(1)


def test_patch_nce_is_the_softmax_written_out() -> None:
    query, key = (F.normalize(torch.randn(2, 4, 3), dim=2) for _ in range(2))
    places = torch.tensor([[0, 5, 7, 2], [3, 3, 1, 4]])
    by_hand = []
    for i in range(2):
        for p in range(4):
            others = [q for q in range(4) if q == p or places[i, q] != places[i, p]]
            scores = {q: float((query[i, p] @ key[i, q] / 0.07).double().exp()) for q in others}
            by_hand.append(-torch.tensor(scores[p] / sum(scores.values())).log())
    torch.testing.assert_close(patch_nce(query, key, places, 0.07), torch.stack(by_hand).mean())
    assert patch_nce(query, query.clone(), places, 0.001) < 1e-6


def test_places() -> None:
    numbers = torch.tensor([[0.0, 0.26, 0.99999999]])  # the last is 1 in float32
    assert places_of(numbers, 4).tolist() == [[0, 1, 3]]
    assert places_of(numbers, 3).tolist() == [[0, 1, 2]]  # all there are


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_embeddings_are_of_the_places_they_name(spatial_dims) -> None:
    g = translator(spatial_dims)
    image = torch.rand(2, 1, *[8] * spatial_dims)
    found = g.patches(image, torch.rand(2, 12))
    maps = g.translator.features(image)
    assert len(found) == len(g.heads) == len(maps) == 5
    for (made, places), h, head in zip(found, maps, g.heads, strict=True):
        assert made.shape == (2, min(12, h[0, 0].numel()), 16)
        torch.testing.assert_close(made[1, 2], F.normalize(head(h[1].flatten(1)[:, places[1, 2]]), dim=0))


def test_who_is_judged_and_what_is_paid() -> None:
    playing, g = game(nce=2.0, identity=3.0), translator()
    batch = playing.draw({"image": torch.rand(4, 1, 8, 8), "label": DOMAIN})
    assert batch["patches"].shape == (4, 12)
    made = playing.play(g, batch)
    torch.testing.assert_close(made["image"], g(batch["image"][[0, 3]]))
    assert torch.equal(playing.of_reals(batch)["image"], batch["image"][[1, 2]])
    assert playing.generate(g, batch).shape == (4, 1, 8, 8)
    numbers = batch["patches"][[1, 2]]

    def contrast(source, fake):
        pairs = zip(g.patches(fake, numbers), g.patches(source, numbers), strict=True)
        return torch.stack([patch_nce(query, key, places, 0.07) for (query, places), (key, _) in pairs]).mean()

    torch.testing.assert_close(made["nce"], 2 * contrast(batch["image"][[0, 3]], made["image"]))
    torch.testing.assert_close(made["identity"], 3 * contrast(batch["image"][[1, 2]], g(batch["image"][[1, 2]])))
    with torch.no_grad():
        assert set(playing.play(g, batch)) == {"image"}
    assert set(game(identity=0.0).play(g, batch)) == {"image", "nce"}


def test_the_side_of_the_source_learns_nothing() -> None:
    g, source = translator(), torch.rand(2, 1, 8, 8, requires_grad=True)
    fake = torch.rand(2, 1, 8, 8, requires_grad=True)
    slopes = torch.autograd.grad(game().contrast(g, source, fake, torch.rand(2, 12)), (source, fake), allow_unused=True)
    assert slopes[0] is None
    assert slopes[1].abs().sum() > 0


@pytest.mark.parametrize("objective", [NonSaturating(), Relative(NonSaturating())])
@pytest.mark.parametrize("penalty", [R1(weight=1.0), WassersteinPenalty()])
def test_each_players_losses_reach_only_that_player(objective, penalty) -> None:
    playing, g, d = game(objective=objective, penalty=penalty), translator(), Judge()
    batch = playing.draw({"image": torch.rand(4, 1, 8, 8), "label": DOMAIN})
    fake = playing.play(g, batch)
    seen = {name: each.detach() for name, each in fake.items()}
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


def test_errors() -> None:
    for wrong in ({"nce": 0.0}, {"identity": -1.0}, {"patches": 1}, {"temperature": 0.0}):
        with pytest.raises(ValueError, match="`nce` and `temperature` must be above 0"):
            game(**wrong)
