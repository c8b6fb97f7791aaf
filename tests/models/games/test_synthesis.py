"""What the networks are told of a patient, by value."""

import torch

from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import NonSaturating
from medgan_pl.models.losses.penalties import NoPenalty


def game(**told) -> Synthesis:
    return Synthesis(latent=4, objective=NonSaturating(), penalty=NoPenalty(), **told)


def test_a_condition_is_the_class_then_values_then_what_is_unknown() -> None:
    batch = {"label": torch.tensor([1, -1]), "covariates": torch.tensor([[0.5, -2.0], [torch.nan, 3.0]])}
    both = [[0, 1, 0.5, -2, 0, 0], [0, 0, 0, 3, 1, 0]]
    assert game(classes=2, covariates=["age", "sex"]).condition(batch).tolist() == both
    assert game(classes=2).condition(batch).tolist() == [row[:2] for row in both]
    assert game(covariates=["age", "sex"]).condition(batch).tolist() == [row[2:] for row in both]
    assert game().condition(batch) is None


def test_the_first_class_is_known() -> None:
    assert game(classes=2).condition({"label": torch.tensor([0, -1, 1])}).tolist() == [[1, 0], [0, 0], [0, 1]]
