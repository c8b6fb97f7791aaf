"""What every game hands to its objective, penalty, augmentation and regularizers: each argument by value."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan_pl.core.keys import Purpose
from medgan_pl.models.games.base import Game, Losses
from medgan_pl.models.losses.adversarial import Hinge, Relative
from medgan_pl.models.losses.penalties import NoPenalty, WassersteinPenalty

REAL = torch.tensor([0.5, -0.25, 1.0]).view(3, 1, 1, 1)
FAKE = torch.tensor([-0.75, 0.125, 0.5]).view(3, 1, 1, 1)


class Plain(Game):
    def generate(self, g: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return g(batch["image"])


class Times:
    """An augmentation that multiplies each image by its own number."""

    numbers = 1

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        return images * numbers.view(-1, 1, 1, 1)

    def adapt(self, accuracy: Any, images: int, new_images: int, total_images: int) -> None:
        self.adapted = float(accuracy()), images, new_images, total_images


class Keeps(nn.Module):
    """A regularizer, or a penalty, that keeps what it was given."""

    numbers, mixed = 2, True

    def due(self, step: int) -> bool:
        return step % 3 == 0

    def forward(self, *given: Any) -> Tensor:
        self.given = given
        return torch.tensor(7.0)

    def adapt(self, reduce: Any) -> None:
        self.reduced = reduce(torch.tensor(1.0))


def d(images: Tensor) -> Tensor:
    return 10 * images.flatten(1).sum(1)


def batch(**more: Tensor) -> dict[str, Tensor]:
    return {"image": REAL, "augment": torch.tensor([[1.0], [2.0], [0.5]]), "t": torch.tensor([0.1, 0.2, 0.3]), **more}


AUGMENTED = torch.tensor([1.0, 2.0, 0.5])


def test_what_d_pays_and_logs() -> None:
    term = Keeps()
    game = Plain(objective=Hinge(), penalty=NoPenalty(), augment=Times(), regularizers={"kept": term})
    numbers = torch.rand(3, 2)
    found = game.losses("d", {"d": d, "g": None}, batch(regularize_kept=numbers), FAKE)
    real, fake = 10 * REAL.flatten() * AUGMENTED, 10 * FAKE.flatten() * AUGMENTED  # 5, -5, 5 and -7.5, 2.5, 2.5
    assert found.terms["adversarial"].item() == pytest.approx((0 + 6 + 0) / 3 + (0 + 3.5 + 3.5) / 3)
    assert found.terms["kept"].item() == 7
    assert found.total.item() == pytest.approx(7 + 6 / 3 + 7 / 3)
    assert {name: value.item() for name, value in found.logged.items()} == pytest.approx(
        {"real": 5 / 3, "fake": -2.5 / 3, "accuracy": 7 / 9}  # of nine pairs 3 + 1 + 3 are in order
    )
    critic, *images, real_logits, fake_logits, given = term.given
    assert [torch.equal(*pair) for pair in zip(images, (REAL, FAKE), strict=True)] == [True, True], "before the augmentation"
    torch.testing.assert_close(torch.stack([real_logits, fake_logits]), torch.stack([real, fake]))
    torch.testing.assert_close(critic(FAKE), fake)
    assert given is numbers


def test_what_g_pays() -> None:
    game = Plain(objective=Hinge(), penalty=NoPenalty(), augment=Times())
    assert game.losses("g", {"d": d, "g": None}, batch(), FAKE).total.item() == pytest.approx(-(-7.5 + 2.5 + 2.5) / 3)
    paired = Plain(objective=Relative(Hinge()), penalty=NoPenalty(), augment=Times())
    assert paired.losses("g", {"d": d, "g": None}, batch(), FAKE).total.item() == pytest.approx((5 - 5 + 5) / 3 - (-7.5 + 2.5 + 2.5) / 3)
    with pytest.raises(TypeError, match="has no loss for G without the discriminator"):
        game.losses("g", {"d": d}, batch(), FAKE, adversarial=False)
    with pytest.raises(ValueError, match="no losses for a player `e`; its players are d, g"):
        game.losses("e", {"d": d}, batch(), FAKE)


def test_what_the_penalty_is_given_and_when() -> None:
    penalty = Keeps()
    game = Plain(objective=Hinge(), penalty=penalty, augment=Times())
    networks = {"d": d, "g": None}
    assert [sorted(game.penalties("d", networks, batch(), FAKE, turn)) for turn in range(4)] == [["penalty"], [], [], ["penalty"]]
    critic, real, fake, t = penalty.given
    assert torch.equal(real, REAL)
    assert torch.equal(fake, FAKE)
    assert t.tolist() == pytest.approx([0.1, 0.2, 0.3])
    torch.testing.assert_close(critic(FAKE), 10 * FAKE.flatten() * AUGMENTED)
    assert game.penalties("g", networks, batch(), FAKE, 0) == {}


def test_what_adapts_and_to_what() -> None:
    augment, term = Times(), Keeps()
    game = Plain(objective=Hinge(), penalty=NoPenalty(), augment=augment, regularizers={"kept": term})
    game.adapt(torch.tensor(0.6), lambda value: value / 2, 30, 5, 100)
    assert augment.adapted == (pytest.approx(0.3), 30, 5, 100), "the accuracy over ranks"
    assert term.reduced == 0.5


def test_only_what_is_read_is_drawn() -> None:
    assert set(Plain(objective=Hinge(), penalty=NoPenalty()).draw({"image": REAL})) == {"image"}
    drawn = Plain(objective=Hinge(), penalty=WassersteinPenalty(), augment=Times(), regularizers={"kept": Keeps()}).draw({"image": REAL})
    assert {key: value.shape for key, value in drawn.items()} == {
        "image": (3, 1, 1, 1), "t": (3,), "augment": (3, 1), "regularize_kept": (3, 2),
    }  # fmt: skip


def test_what_is_drawn_for_a_place_is_its_own() -> None:
    """The i-th image of a validation has the same numbers in any batch, and others under another seed, place or purpose."""
    game = Plain(objective=Hinge(), penalty=WassersteinPenalty())

    def numbers(seed: int, places: list[int], purpose: Purpose) -> list[float]:
        return game.draw_each({"image": REAL[: len(places)]}, seed, places, purpose)["t"].tolist()

    together = numbers(1, [4, 5, 6], Purpose.VALIDATION)
    assert numbers(1, [6, 4], Purpose.VALIDATION) == [together[2], together[0]]
    assert numbers(1, [5], Purpose.VALIDATION) == [together[1]]
    others = [numbers(2, [4], Purpose.VALIDATION), numbers(1, [4], Purpose.STEP)]
    assert len({*together, *(other[0] for other in others)}) == 5


def test_the_total_is_the_sum_in_float32() -> None:
    total = Losses({"a": torch.tensor(1.5, dtype=torch.bfloat16), "b": torch.tensor(2.001)}, {"c": torch.tensor(9.0)}).total
    assert (total.item(), total.dtype) == (pytest.approx(3.501), torch.float32)
