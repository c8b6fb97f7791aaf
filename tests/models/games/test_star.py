"""StarGAN v2: who stands in which row, what is paid, styles by noise and by reference, the fading weight of diversity."""

import pytest
import torch
from torch import nn

from medgan_pl.core.batch import cut
from medgan_pl.core.keys import Purpose
from medgan_pl.models.games.star import Star
from medgan_pl.models.losses.adversarial import NonSaturating, Relative
from medgan_pl.models.losses.penalties import R1, NoPenalty
from medgan_pl.models.networks.layers import frozen
from medgan_pl.models.networks.star import StarDiscriminator, StarNetworks
from medgan_pl.models.schedules import Linear

WHERE = {"spatial_dims": 2, "channels": 1, "size": 16, "domains": 3, "width": 4}


def game(**more) -> Star:
    return Star(**{"domains": 3, "latent": 2, "objective": NonSaturating(), "penalty": NoPenalty()} | more)


class Shifts(nn.Module):
    """A style is one number: z's first plus ten times the domain, or the image's mean; a translation is the image moved by it."""

    def translate(self, image, style):
        return image + style.view(-1, 1, 1, 1)

    def style_of_noise(self, z, domain):
        return z[:, :1] + 10 * domain[:, None]

    def style_of_image(self, image, domain):
        return image.flatten(1).mean(1, keepdim=True)


class Scales(Shifts):
    """The image is multiplied by the style, so that padding would count."""

    def translate(self, image, style):
        return image * style.view(-1, 1, 1, 1)


def batch_of(playing: Star, count: int = 6) -> dict:
    torch.manual_seed(0)
    return playing.draw({"image": torch.rand(count, 1, 16, 16), "label": torch.arange(count) % 3})


def test_what_is_paid_by_value() -> None:
    playing, g = game(style=2.0, diversity=3.0, cycle=4.0, referred=0.0), Shifts()
    batch = batch_of(playing)
    source = batch["source"]
    style = batch["z"][:, 0] + 10 * batch["label"]
    rows = [int((batch["image"] == each).flatten(1).all(1).nonzero()) for each in source]
    assert sorted(rows) == list(range(6))
    assert torch.equal(batch["source_label"], batch["label"][rows])
    made = playing.play(g, batch)
    torch.testing.assert_close(made["image"], source + style.view(-1, 1, 1, 1))
    means = source.flatten(1).mean(1)
    torch.testing.assert_close(made["style"], 2 * means.mean())  # the fake's mean is off by its source's
    torch.testing.assert_close(made["diversity"], -3 * (batch["z"] - batch["z_other"])[:, 0].abs().mean())
    torch.testing.assert_close(made["cycle"], 4 * (style + means).abs().mean())
    with torch.no_grad():
        assert set(playing.play(g, batch)) == {"image"}
    assert "diversity" not in game(diversity=0.0).play(g, batch)


def test_a_share_of_the_styles_is_of_references() -> None:
    playing, g = game(referred=0.5), Shifts()
    batch = batch_of(playing)
    batch["referred"] = torch.tensor([0.4, 0.6] * 3)
    moved = (playing.play(g, batch)["image"] - batch["source"]).flatten(1).mean(1)
    torch.testing.assert_close(moved[::2], batch["image"].flatten(1).mean(1)[::2])
    torch.testing.assert_close(moved[1::2], (batch["z"][:, 0] + 10 * batch["label"])[1::2])


def test_generate_brings_each_image_to_another_domain_by_noise_or_reference() -> None:
    playing, g = game(), Shifts()
    batch = batch_of(playing, 300)
    assert (batch["target"] != batch["label"]).all()
    assert torch.bincount(batch["target"], minlength=3).min() > 60
    told, _ = playing.of_fakes(batch, batch["image"])
    assert torch.equal(told["label"], batch["target"])
    style = batch["z"][:, 0] + 10 * batch["target"]
    torch.testing.assert_close(playing.generate(g, batch), batch["image"] + style.view(-1, 1, 1, 1))
    reference = torch.rand_like(batch["image"])
    by_reference = playing.generate(g, {**batch, "reference": reference})
    torch.testing.assert_close(by_reference, batch["image"] + reference.mean((1, 2, 3), keepdim=True))
    asked = playing.draw({"image": batch["image"], "label": batch["label"], "target": batch["label"]})
    assert torch.equal(asked["target"], batch["label"])


def test_what_is_drawn_for_a_held_out_image_is_its_own() -> None:
    playing, g = game(), Shifts()
    batch = {"image": torch.rand(4, 1, 16, 16), "label": torch.tensor([0, 0, 2, 1])}
    whole = playing.draw_each(batch, 0, range(4), Purpose.VALIDATION)
    part = playing.draw_each({key: value[2:] for key, value in batch.items()}, 0, range(2, 4), Purpose.VALIDATION)
    assert torch.equal(playing.generate(g, whole)[2:], playing.generate(g, part))


def test_diversity_fades_and_a_resumed_run_knows_how_far() -> None:
    playing, g = game(schedule_diversity=Linear(decay_from=0.0, final=0.0)), Shifts()
    batch = batch_of(playing)
    first = playing.play(g, batch)["diversity"]
    playing.adapt(torch.tensor(0.5), lambda value: value, 25, 5, 100)
    torch.testing.assert_close(playing.play(g, batch)["diversity"], first * 0.75)
    resumed = game()
    resumed.load_state_dict(playing.state_dict())
    torch.testing.assert_close(resumed.strength, torch.tensor(0.75))


@pytest.mark.parametrize("objective", [NonSaturating(), Relative(NonSaturating())])
def test_each_players_losses_reach_only_that_player(objective) -> None:
    playing = game(objective=objective, penalty=R1(weight=1.0))
    g, d = StarNetworks(**WHERE, latent=2, style=4, hidden=8), StarDiscriminator(**WHERE)
    whole = batch_of(playing, 12)
    whole["referred"] = torch.tensor([0.1, 0.9] * 6)
    for batch in cut(whole, 2):  # both parts add up
        fake = playing.play(g, batch)
        seen = {name: each.detach() for name, each in fake.items()}
        losses = playing.discriminator_losses(d, batch, seen)
        losses.terms.update(playing.discriminator_penalties(d, batch, seen, 0))
        losses.total.backward()
        assert all(weight.grad is None for weight in g.parameters())
    assert all(weight.grad is not None for weight in d.parameters())
    d.zero_grad()
    with frozen(d):
        for batch in cut(whole, 2):
            playing.generator_losses(d, batch, playing.play(g, batch)).total.backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in g.parameters())
    assert all(weight.grad is None for weight in d.parameters())


def test_errors() -> None:
    with pytest.raises(ValueError, match="`domains` must be a whole number of at least 2"):
        game(domains=1)
    for wrong in ({"style": 0.0}, {"cycle": 0.0}, {"diversity": -1.0}, {"referred": 1.5}):
        with pytest.raises(ValueError, match="`referred` in"):
            game(**wrong)


def test_parts_of_a_batch_add_up_to_the_whole() -> None:
    playing = game()
    g, d = StarNetworks(**WHERE, latent=2, style=4, hidden=8), StarDiscriminator(**WHERE)
    whole, found = batch_of(playing, 12), []
    for count in (1, 2):
        for batch in cut(whole, count):
            fake = playing.play(g, batch)
            (playing.generator_losses(d, batch, fake).total / count).backward()
        found.append([weight.grad for weight in g.parameters()])
        g.zero_grad()
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-5)


def test_padding_takes_part_in_no_loss_by_value() -> None:
    """Rows differ in their padding, so that it must be that of the source."""
    playing, g = game(style=2.0, diversity=3.0, cycle=4.0, referred=0.0), Scales()
    torch.manual_seed(0)
    inside = torch.ones(6, 1, 16, 16)
    for row in range(6):
        inside[row, :, : row + 2] = 0
    image = torch.where(inside > 0, torch.rand(6, 1, 16, 16), -1.0)
    batch = playing.draw({"image": image, "label": torch.arange(6) % 3, "inside": inside})
    made, source = playing.play(g, batch), batch["source"]
    of = [int((image == each).flatten(1).all(1).nonzero()) for each in source]
    assert of != list(range(6))
    style, other = batch["z"][:, 0] + 10 * batch["label"], batch["z_other"][:, 0] + 10 * batch["label"]
    means = [source[i][inside[row] > 0].mean() for i, row in enumerate(of)]
    apart = torch.stack([(style[i] - other[i]).abs() * means[i] for i in range(6)]).mean()
    torch.testing.assert_close(made["diversity"], -3 * apart)
    back = source.flatten(1).mean(1)  # the style of the source
    torch.testing.assert_close(made["cycle"], 4 * torch.stack([(style[i] * back[i] - 1).abs() * means[i] for i in range(6)]).mean())
