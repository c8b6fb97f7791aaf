"""The game in which D names the condition, by value: what each player pays for a class and for covariates, known or not."""

import math

import pytest
import torch
from torch import Tensor, nn

from medgan_pl.models.games.auxiliary import AuxiliaryClassifier
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import NonSaturating, Relative
from medgan_pl.models.losses.penalties import R1, NoPenalty
from medgan_pl.models.networks.layers import AuxiliaryHead, ProjectionHead


class Says(nn.Module):
    """A D whose answer is what the image holds: 1 + classes + covariates pixels."""

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        assert condition is None, "D must not be told"
        return image.flatten(1)


class Doubles:
    """An augmentation that can be seen in what D says."""

    numbers = 1

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        return 2 * images


def game(**settings) -> AuxiliaryClassifier:
    return AuxiliaryClassifier(**{"objective": NonSaturating(), "penalty": NoPenalty(), "latent": 2, "classes": 3} | settings)


def images(rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows)[:, None, None]  # (B, 1, 1, 1 + classes + covariates)


REAL = [[0.5, 1.0, 0.0, -1.0, 0.3], [-0.2, 0.0, 2.0, 0.5, -0.7], [1.5, 0.2, 0.1, 0.0, 1.1]]
FAKE = [[0.1, 0.3, -0.3, 0.0, 0.2], [-1.0, 0.0, 0.0, 1.0, 0.4], [0.7, 1.0, 1.0, 1.0, -0.5]]
LABEL = [2, -1, 0]
AGE = [0.4, math.nan, -1.0]


def batch() -> dict[str, Tensor]:
    return {"image": images(REAL), "label": torch.tensor(LABEL), "covariates": torch.tensor(AGE)[:, None]}


def crossed(rows: list[list[float]]) -> float:
    """Mean over the batch of -log p(class), 0 where it is unknown."""
    odds = [[math.exp(logit) for logit in row[1:4]] for row in rows]
    return sum(-math.log(each[label] / sum(each)) for each, label in zip(odds, LABEL, strict=True) if label >= 0) / len(rows)


def missed(rows: list[list[float]]) -> float:
    return sum((row[4] - age) ** 2 for row, age in zip(rows, AGE, strict=True) if not math.isnan(age)) / len(rows)


def softplus(x: float) -> float:
    return math.log(1 + math.exp(x))


@pytest.mark.parametrize("fake_weight", [0.0, 0.7])
def test_what_each_player_pays(fake_weight) -> None:
    played = game(covariates=["age"], weight=2.0, fake_weight=fake_weight)
    d = played.discriminator_losses(Says(), batch(), images(FAKE))
    named = 2 * (crossed(REAL) + missed(REAL) + fake_weight * (crossed(FAKE) + missed(FAKE)))
    assert d.terms["naming"].item() == pytest.approx(named, rel=1e-5)
    judged = sum(softplus(-row[0]) for row in REAL) / 3 + sum(softplus(row[0]) for row in FAKE) / 3
    assert d.terms["adversarial"].item() == pytest.approx(judged, rel=1e-5)
    g = played.generator_losses(Says(), batch(), images(FAKE))
    assert g.terms["naming"].item() == pytest.approx(2 * (crossed(FAKE) + missed(FAKE)), rel=1e-5)
    assert g.terms["adversarial"].item() == pytest.approx(sum(softplus(-row[0]) for row in FAKE) / 3, rel=1e-5)
    assert set(d.terms) == set(g.terms) == {"adversarial", "naming"}


@pytest.mark.parametrize(("classes", "covariates"), [(3, []), (0, ["age"])])
def test_one_kind_of_condition_alone(classes, covariates) -> None:
    played = game(classes=classes, covariates=covariates)
    rows = [row[:4] if classes else [row[0], row[4]] for row in FAKE]
    wanted = crossed(FAKE) if classes else missed(FAKE)
    paid = played.generator_losses(Says(), batch(), images(rows))
    assert paid.terms["naming"].item() == pytest.approx(wanted, rel=1e-5)


def test_a_batch_of_which_nothing_is_known_costs_nothing_and_can_be_differentiated() -> None:
    played = game(covariates=["age"])
    unknown = batch() | {"label": torch.full((3,), -1), "covariates": torch.full((3, 1), math.nan)}
    fake = images(FAKE).requires_grad_()
    paid = played.generator_losses(Says(), unknown, fake).terms["naming"]
    paid.backward()
    assert paid == 0
    assert (fake.grad == 0).all()


def test_parts_of_a_batch_add_up() -> None:
    played, whole, fake = game(covariates=["age"]), batch(), images(FAKE)
    parts = [{key: value[rows] for key, value in whole.items()} for rows in (slice(0, 2), slice(2, 3))]
    paid = [played.generator_losses(Says(), part, fake[rows]).total for part, rows in zip(parts, (slice(0, 2), slice(2, 3)), strict=True)]
    torch.testing.assert_close(paid[0] * 2 / 3 + paid[1] / 3, played.generator_losses(Says(), whole, fake).total)


def test_a_relative_objective_reads_the_logit_alone() -> None:
    paid = game(objective=Relative(NonSaturating()), covariates=["age"]).generator_losses(Says(), batch(), images(FAKE))
    beaten = [real[0] - fake[0] for real, fake in zip(REAL, FAKE, strict=True)]
    assert paid.terms["adversarial"].item() == pytest.approx(sum(map(softplus, beaten)) / 3, rel=1e-5)


def test_players_meet_the_augmentation_and_judges_do_not() -> None:
    played = game(covariates=["age"], augment=Doubles())
    drawn = played.draw(batch())
    told = played.generator_losses(Says(), drawn, images(FAKE)).terms
    assert told["adversarial"].item() == pytest.approx(sum(softplus(-2 * row[0]) for row in FAKE) / 3, rel=1e-5)
    assert told["naming"].item() == pytest.approx(
        crossed([[2 * x for x in row] for row in FAKE]) + missed([[2 * x for x in row] for row in FAKE]), rel=1e-5
    )
    torch.testing.assert_close(played.critic(Says(), drawn)(images(FAKE)), torch.tensor(FAKE)[:, 0])


def test_a_penalty_is_of_the_logit_alone() -> None:
    paid = game(covariates=["age"], penalty=R1(weight=2.0)).discriminator_penalties(Says(), batch(), images(FAKE), 0)
    assert paid["penalty"].item() == pytest.approx(1.0)  # the logit's gradient is 1 in one pixel


@pytest.mark.parametrize("settings", [{"weight": 0.0}, {"fake_weight": -0.1}])
def test_bad_weights(settings) -> None:
    with pytest.raises(ValueError, match="`weight` must be above 0 and `fake_weight` at least 0"):
        game(**settings)


class Judge(nn.Module):
    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, image: Tensor, condition: Tensor | None = None) -> Tensor:
        return self.head(image.flatten(1), condition)


def test_a_d_that_names_nothing_is_refused() -> None:
    real = images([row[:4] for row in REAL])
    assert game().critic(Judge(AuxiliaryHead(4, 3)), batch())(real).shape == (3,)
    with pytest.raises(ValueError, match=r"returns 4 numbers an image, .* got \(\); use model=acgan"):
        game().critic(Judge(ProjectionHead(4, 0)), batch())(real)
    with pytest.raises(ValueError, match="needs the condition, got none; game=auxiliary gives none and needs model=acgan"):
        game().critic(Judge(ProjectionHead(4, 3)), batch())(real)
    with pytest.raises(ValueError, match="must not receive it; model=acgan needs game=auxiliary"):
        Synthesis.critic(game(), Judge(AuxiliaryHead(4, 3)), batch())(real)
    with pytest.raises(ValueError, match="needs a condition to predict"):
        AuxiliaryHead(4, 0)
