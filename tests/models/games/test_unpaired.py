"""What games between domains compare in validation, and whose padding takes no part in a loss."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from medgan_pl.models.games.cycle import Cycle
from medgan_pl.models.games.star import Star
from medgan_pl.models.games.unpaired import distance
from medgan_pl.models.losses.adversarial import NonSaturating
from medgan_pl.models.losses.penalties import NoPenalty

PARTS = {"objective": NonSaturating(), "penalty": NoPenalty()}


def star(**more) -> Star:
    return Star(**{"domains": 3, "latent": 2, **PARTS} | more)


def numbered(count: int) -> Tensor:
    return torch.arange(count, dtype=torch.float32).view(count, 1, 1, 1)


def test_fakes_moved_to_the_last_domain_meet_reals_of_it() -> None:
    batch = {
        "image": numbered(7),
        "label": torch.tensor([0, 2, 1, 2, 0, 1, 2]),
        "target": torch.tensor([2, 2, 2, 0, 1, 2, 1]),  # the second is of the last domain already
    }
    fakes, reals = star().compared(batch, numbered(7) + 100)
    assert fakes.flatten().tolist() == [100, 102, 105]
    assert reals.flatten().tolist() == [1, 3, 6]
    fewer = {key: value[:4] for key, value in batch.items()}
    fakes, reals = star().compared(fewer, numbered(4) + 100)
    assert (fakes.flatten().tolist(), reals.flatten().tolist()) == ([100, 102], [1, 3])
    fakes, reals = star().compared({key: value[:3] for key, value in batch.items()}, numbered(3) + 100)
    assert (fakes.flatten().tolist(), reals.flatten().tolist()) == ([100], [1]), "as many of each"


def test_d_judges_moved_fakes_alone_by_their_new_domain() -> None:
    batch = {"image": numbered(4), "label": torch.tensor([0, 1, 2, 0]), "target": torch.tensor([1, 1, 0, 2]), "z": numbered(4).flatten()}
    told, fakes = star().of_fakes(batch, numbered(4) + 10)
    assert fakes.flatten().tolist() == [10, 12, 13]
    assert told["label"].tolist() == [1, 0, 2]
    assert told["z"].tolist() == [0, 2, 3]


def test_a_distance_is_of_absolute_errors_inside_each_image() -> None:
    a, b = torch.tensor([[1.0, 5.0], [2.0, 9.0]]).view(2, 1, 1, 2), torch.tensor([[4.0, 5.0], [0.0, -9.0]]).view(2, 1, 1, 2)
    inside = torch.tensor([[1.0, 1.0], [1.0, 0.0]]).view(2, 1, 1, 2)
    assert distance(a, b, None).item() == pytest.approx((3 + 0 + 2 + 18) / 4)
    assert distance(a, b, inside).item() == pytest.approx(((3 + 0) / 2 + 2) / 2)
    assert distance(a, b, torch.zeros(2, 1, 1, 2)).item() == 0


INSIDE = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], dtype=torch.float32).view(4, 1, 1, 4)


def mean_within(errors: Tensor, inside: Tensor) -> float:
    each = [float(error[0][part[0] > 0].mean()) for error, part in zip(errors, inside, strict=True)]
    return sum(each) / len(each)


class Fogged(nn.Module):
    """Adds to each pixel a number of its place, so that what counts of an image decides what it costs."""

    fog = torch.tensor([1.0, 2.0, 4.0, 8.0])

    def forward(self, image: Tensor, domain: Tensor) -> Tensor:
        return image + self.fog


def test_the_padding_of_a_source_takes_no_part_in_its_cycle() -> None:
    playing = Cycle(spatial_dims=2, channels=1, size=4, pool=0, cycle=3.0, identity=2.0, **PARTS)
    image, domain = torch.rand(4, 1, 1, 4), torch.tensor([0, 0, 1, 1])
    made = playing.play(Fogged(), {"image": image, "label": domain, "inside": INSIDE})
    fog = Fogged.fog.expand(4, 1, 1, 4)
    assert made["cycle"].item() == pytest.approx(3 * mean_within(2 * fog, INSIDE[[2, 3, 0, 1]]), rel=1e-5)
    assert made["identity"].item() == pytest.approx(6 * mean_within(fog, INSIDE), rel=1e-5)
    uneven = {"image": image, "label": torch.tensor([0, 1, 1, 0]), "inside": INSIDE}
    shown = playing.play(lambda images, to: images * (1 + to.view(-1, 1, 1, 1)), uneven)
    back = image[[1, 0, 3, 2]]  # 0 -> 1 and back is times 2, both ways
    assert shown["cycle"].item() == pytest.approx(3 * mean_within(back.abs(), INSIDE[[1, 0, 3, 2]]), rel=1e-5)


def test_the_padding_of_a_drawn_source_takes_no_part_in_star() -> None:
    playing = star(cycle=3.0, diversity=2.0, referred=0.0)
    torch.manual_seed(0)
    image, domain = torch.rand(4, 1, 1, 4), torch.tensor([0, 1, 2, 0])
    batch = playing.draw({"image": image, "label": domain, "inside": INSIDE})
    rows = [int((image == each).flatten(1).all(1).nonzero()) for each in batch["source"]]
    assert rows != [0, 1, 2, 3]
    assert torch.equal(batch["source_inside"], INSIDE[rows])
    g = SimpleNamespace(
        style_of_noise=lambda z, to: z[:, :1],
        style_of_image=lambda images, to: 100.0 * to[:, None].float(),
        translate=lambda images, style: images + style.view(-1, 1, 1, 1) * Fogged.fog,
    )
    made = playing.play(g, batch)
    styles = batch["z"][:, :1], batch["z_other"][:, :1]
    moved = [style.view(-1, 1, 1, 1) * Fogged.fog for style in styles]
    assert made["diversity"].item() == pytest.approx(-2 * mean_within((moved[0] - moved[1]).abs(), INSIDE[rows]), rel=1e-4)
    own = 100.0 * domain[rows].view(-1, 1, 1, 1) * Fogged.fog  # back in the style of the source's own domain
    assert made["cycle"].item() == pytest.approx(3 * mean_within((moved[0] + own).abs(), INSIDE[rows]), rel=1e-4)
    assert made["style"].item() == pytest.approx((100.0 * domain[:, None] - styles[0]).abs().mean().item(), rel=1e-4)
