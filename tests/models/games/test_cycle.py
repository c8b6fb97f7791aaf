"""CycleGAN: who stands in which row, what is paid, and the pool of past fakes."""

import copy

import pytest
import torch
from torch import nn

from medgan_pl.core.batch import cut
from medgan_pl.models.games.cycle import Cycle, Pool, gradient_correlation
from medgan_pl.models.games.unpaired import partners
from medgan_pl.models.losses.adversarial import LeastSquares, Relative
from medgan_pl.models.losses.penalties import R1R2, NoPenalty
from medgan_pl.models.networks.layers import frozen
from medgan_pl.models.networks.pair import Pair

DOMAIN = torch.tensor([0, 1, 1, 0])


def game(**more) -> Cycle:
    settings = {"spatial_dims": 2, "channels": 1, "size": 8, "objective": LeastSquares(), "penalty": NoPenalty()}
    return Cycle(**settings | more)


class Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, image):
        return self.factor * image


class Bend(Scale):
    def forward(self, image):
        return self.factor * image**2


class Mean(Scale):
    """A D whose logit is `factor` times the mean of the image."""

    def forward(self, image):
        return self.factor * image.flatten(1).mean(1)


def batch_of(shape=(1, 8, 8)) -> dict:
    return {"image": torch.rand(len(DOMAIN), *shape) + 0.1, "label": DOMAIN}


def test_each_row_has_a_partner_of_the_other_domain() -> None:
    assert partners(DOMAIN).tolist() == [1, 0, 3, 2]
    assert partners(torch.tensor([0, 0, 1, 1])).tolist() == [2, 3, 0, 1]
    with pytest.raises(ValueError, match="as many images of domain 0 as of domain 1"):
        partners(torch.tensor([0, 0, 0, 1]))


def test_a_pair_takes_each_row_by_its_own_network() -> None:
    image = torch.rand(4, 2, 8, 4, 4)
    made = Pair(to_a=Scale(2.0), to_b=Scale(3.0))(image, DOMAIN)
    torch.testing.assert_close(made, image * torch.tensor([2.0, 3, 3, 2]).view(-1, 1, 1, 1, 1))
    assert Pair(to_a=Mean(1.0), to_b=Mean(1.0))(image[1:2], DOMAIN[1:2]).shape == (1,)


def test_what_is_paid_by_value() -> None:
    playing, g, d = game(pool=0), Pair(to_a=Scale(0.5), to_b=Scale(3.0)), Pair(to_a=Mean(1.0), to_b=Mean(10.0))
    batch = playing.draw(batch_of())
    image, sides = batch["image"], (batch["image"][DOMAIN == 0], batch["image"][DOMAIN == 1])
    made = playing.play(g, batch)
    torch.testing.assert_close(made["image"], image[[1, 0, 3, 2]] * torch.tensor([0.5, 3, 3, 0.5]).view(-1, 1, 1, 1))
    torch.testing.assert_close(playing.generate(g, batch), image * torch.tensor([3, 0.5, 0.5, 3]).view(-1, 1, 1, 1))
    torch.testing.assert_close(made["cycle"], 10 * 0.5 * image.mean())  # both ways make 1.5 of 1
    torch.testing.assert_close(made["identity"], 5 * (0.5 * sides[0].mean() + 2 * sides[1].mean()) / 2)
    fakes = 0.5 * sides[1].flatten(1).mean(1), 10 * 3 * sides[0].flatten(1).mean(1)
    losses = playing.generator_losses(d, batch, made)
    torch.testing.assert_close(losses.terms["adversarial"], torch.cat([(logits - 1) ** 2 for logits in fakes]).mean() / 2)
    assert set(losses.terms) == {"adversarial", "cycle", "identity"}
    reals = torch.cat([sides[0].flatten(1).mean(1), 10 * sides[1].flatten(1).mean(1)])
    paid = playing.discriminator_losses(d, batch, made).terms["adversarial"]
    torch.testing.assert_close(paid, ((reals - 1).square().mean() + torch.cat(fakes).square().mean()) / 2)
    # What `generate` makes, D judges by the domain it was brought to.
    told, made = playing.of_fakes(batch, playing.generate(g, batch))
    judged = playing.critic(d, told)(made)
    torch.testing.assert_close(judged.sort().values, torch.cat(fakes).sort().values)


def test_identities_come_back_as_they_were() -> None:
    playing, g = game(gradient=2.0), Pair(to_a=nn.Identity(), to_b=nn.Identity())
    made = playing.play(g, playing.draw(batch_of()))
    assert made["cycle"] == made["identity"] == 0
    torch.testing.assert_close(made["gradient"], torch.zeros(()))


def test_gradients_correlate_whatever_the_contrast() -> None:
    image = torch.randn(3, 2, 6, 8, 10)
    torch.testing.assert_close(gradient_correlation(image, 5 - 3 * image), -torch.ones(3))
    other = torch.randn(3, 2, 6, 8, 10)
    by_hand = []
    for axis in range(2, 5):
        slopes = torch.stack([image.diff(dim=axis).flatten(1), other.diff(dim=axis).flatten(1)], 1)
        by_hand.append([float(torch.corrcoef(both)[0, 1]) for both in slopes])
    torch.testing.assert_close(gradient_correlation(image, other), torch.tensor(by_hand).mean(0))


@pytest.mark.parametrize("objective", [LeastSquares(), Relative(LeastSquares())])
def test_each_players_losses_reach_only_that_player(objective) -> None:
    playing = game(objective=objective, penalty=R1R2(weight=1.0), gradient=1.0)
    g, d = Pair(to_a=nn.Conv2d(1, 1, 3, padding=1), to_b=nn.Conv2d(1, 1, 3, padding=1)), Pair(to_a=Mean(1.0), to_b=Mean(2.0))
    batch = playing.draw(batch_of())
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


def test_a_batch_in_parts_is_the_whole() -> None:
    playing, g, d = game(), Pair(to_a=Scale(0.5), to_b=Scale(3.0)), Pair(to_a=Mean(1.0), to_b=Mean(10.0))
    whole = {key: torch.cat([value, value.flip(0)]) for key, value in batch_of().items()}
    whole["pool"] = torch.tensor([2, 3, -1, 2, 3, 2, 0, -4])
    found = []
    for count in (1, 2):
        playing.pool.images.fill_(0.3)
        playing.pool.full.fill_(True)
        parts = [(part, playing.play(g, part)) for part in cut(whole, count)]
        paid = [
            (playing.discriminator_losses(d, *part).total, playing.generator_losses(d, *part).total, part[1]["image"]) for part in parts
        ]
        playing.adapt(torch.tensor(0.5), lambda value: value, 8, 8, 100)
        found.append([torch.stack(each).mean(0) for each in zip(*[pay[:2] for pay in paid], strict=True)])
        found[-1].append(playing.pool.images.sum((2, 3, 4)).sort().values)
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


def test_the_pool_by_value() -> None:
    pool = Pool(3, (1, 1, 1))
    domain, place = torch.tensor([0, 1, 0, 1]), torch.tensor([0, 0, -1, 2])

    def turn(first: float) -> list:
        fake = torch.arange(4).view(4, 1, 1, 1) + first
        shown = pool.shown(fake, domain, place)
        assert torch.equal(pool.shown(fake, domain, place).nan_to_num(), shown.nan_to_num())  # to look is not to change
        pool.note(fake, domain, place)
        pool.take_in()
        return shown.flatten().tolist()

    assert turn(0) == [0, 1, 2, 3]  # empty places
    assert pool.full.tolist() == [[True, False, False], [True, False, True]]
    assert turn(10) == [0, 1, 12, 3]
    assert turn(float("nan"))[:2] == [10, 11]
    assert turn(20)[0] == 10  # nothing of the turn before was kept
    drawn = pool.draw(3000, torch.device("cpu"))
    counts = torch.bincount(drawn + 3, minlength=6)
    assert (counts - 500).abs().max() < 100


def test_a_resumed_pool_is_the_same() -> None:
    g, d = Pair(to_a=Scale(0.5), to_b=Scale(3.0)), Pair(to_a=Mean(1.0), to_b=Mean(10.0))

    def turns(playing: Cycle, steps: range) -> list:
        shown = []
        for step in steps:
            torch.manual_seed(step)
            batch = playing.draw(batch_of())
            with torch.no_grad():
                fake = playing.play(g, batch)
            assert set(fake) == {"image"}  # G does not learn
            shown.append(playing.discriminator_losses(d, batch, fake).total)
            playing.adapt(torch.tensor(0.5), lambda value: value, 8, 8, 100)
        return shown

    one, two = game(pool=2), game(pool=2)
    turns(one, range(8))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    assert one.pool.full.all()
    assert turns(one, range(8, 12)) == turns(two, range(8, 12))
    assert torch.equal(one.pool.images, two.pool.images)


def test_errors() -> None:
    for wrong in ({"cycle": 0.0}, {"identity": -1.0}, {"pool": -1}):
        with pytest.raises(ValueError, match="`cycle` must be above 0"):
            game(**wrong)
    with pytest.raises(ValueError, match="'label'"):
        game().play(Pair(to_a=Scale(1.0), to_b=Scale(1.0)), {"image": torch.rand(2, 1, 8, 8)})


def on_canvas(image, value):
    """The image in a canvas of `value`, 3 pixels above and 2 on the left."""
    return nn.functional.pad(image, (2, 0, 3, 0), value=value)


def test_padding_takes_part_in_no_loss_by_value() -> None:
    playing, g = game(pool=0, gradient=2.0), Pair(to_a=Bend(0.5), to_b=Bend(3.0))
    bare = playing.draw(batch_of())
    canvas = bare | {"image": on_canvas(bare["image"], -1.0), "inside": on_canvas(torch.ones_like(bare["image"]), 0.0)}
    made, alike = playing.play(g, bare), playing.play(g, canvas)
    assert set(alike) == {"image", "cycle", "identity", "gradient"}
    for name in ("cycle", "identity", "gradient"):
        torch.testing.assert_close(alike[name], made[name], msg=name)
    image = bare["image"]
    likeness = torch.stack([gradient_correlation(x[None], (x**2)[None]) for x in image]).mean()
    torch.testing.assert_close(alike["gradient"], 2 * (1 - likeness))
    factor = torch.tensor([3.0, 0.5, 0.5, 3.0]).view(-1, 1, 1, 1)  # to the other domain
    back = factor**2 * 1.5 / factor * image**4
    torch.testing.assert_close(alike["cycle"], 10 * (back - image).abs().mean())
    a, b = image[:1], torch.rand(1, 1, 8, 8)
    found = gradient_correlation(on_canvas(a, -1.0), on_canvas(b, 5.0), on_canvas(torch.ones_like(a), 0.0))
    torch.testing.assert_close(found, gradient_correlation(a, b))
