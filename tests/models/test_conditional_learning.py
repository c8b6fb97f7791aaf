"""What a label and a covariate change in an image, changes in what a trained model draws: in the right direction and about as much."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import command
from torch import Tensor

import medgan_pl
from medgan_pl.data.intensity import Percentiles
from medgan_pl.data.modalities import XRay
from medgan_pl.data.phantom import CLASSES, Patient, draw_patient
from medgan_pl.data.phantom.anatomy import measure
from medgan_pl.data.prepare.layouts import Film
from medgan_pl.data.prepare.pipelines import Pipeline
from medgan_pl.models.draw import fixed_batch
from medgan_pl.models.games.synthesis import Synthesis
from medgan_pl.models.losses.adversarial import NonSaturating
from medgan_pl.models.losses.penalties import R1
from medgan_pl.models.networks.layers import frozen
from medgan_pl.models.networks.mlp import MLPDiscriminator, MLPGenerator

# By value: bright halves -------------------------------------------------------------------------------------------------------------


def halves(n: int, age: Tensor, label: Tensor) -> Tensor:
    """Grey squares whose left half, or for class 1 whose right one, is 0.5 brighter and 0.3 more for each unit of `age` (n,)."""
    bright = torch.stack([torch.arange(8) < 4, torch.arange(8) >= 4])[label].float()
    level = 0.5 + 0.3 * age + 0.1 * torch.randn(n)
    return (0.1 * torch.randn(n, 1, 8, 8) - 0.5 + (bright * level[:, None])[:, None, None]).clamp(-1, 1)


@pytest.mark.slow  # test_classical.py has the quick one
def test_a_pair_learns_what_its_label_and_its_covariate_do() -> None:
    torch.manual_seed(0)
    where = {"spatial_dims": 2, "channels": 1, "size": 8, "width": 64, "classes": 2, "covariates": ["age"]}
    g, d = MLPGenerator(**where, latent=8), MLPDiscriminator(**where)
    game = Synthesis(latent=8, classes=2, covariates=["age"], objective=NonSaturating(), penalty=R1(weight=0.1, every=4))
    steps_g, steps_d = (torch.optim.Adam(network.parameters(), 2e-3, betas=(0.5, 0.99)) for network in (g, d))
    for turn in range(250):
        age, label = torch.randn(64), torch.randint(2, (64,))
        covariates = torch.where(torch.rand(64) < 0.1, torch.nan, age)[:, None]  # of some images it is not known
        batch = game.draw({"image": halves(64, age, label), "label": label, "covariates": covariates})
        fake = game.play(g, batch)
        paid = game.discriminator_losses(d, batch, fake.detach())
        paid.terms.update(game.discriminator_penalties(d, batch, fake.detach(), turn))
        paid.total.backward()
        steps_d.step()
        with frozen(d):
            game.generator_losses(d, batch, fake).total.backward()
        steps_g.step()
        g.zero_grad()
        d.zero_grad()
    label, z = torch.arange(400) % 2, torch.randn(400, 8)

    def drawn(age: float) -> Tensor:
        """Mean grey (n, 2) of the half that is to be bright, and of the other, on the same noise."""
        with torch.no_grad():
            image = game.generate(g, {"label": label, "covariates": torch.full((400, 1), age), "z": z})
        sides = image.unflatten(3, (2, 4)).mean((1, 2, 4))
        return torch.where(label[:, None] == 0, sides, sides.flip(1))

    young, old, unknown = drawn(-1.0), drawn(1.0), drawn(torch.nan)
    change = (old - young).mean(0)
    assert change[0] == pytest.approx(0.6, abs=0.2)
    assert change[1] == pytest.approx(0.0, abs=0.2)
    assert (unknown[:, 0] - unknown[:, 1]).mean() == pytest.approx(0.5, abs=0.25)


# On films: the truth of the cohort ---------------------------------------------------------------------------------------------------

SIDE = 32
PIPELINE = Pipeline(Film(size=(SIDE, SIDE), crop=True), Percentiles(), XRay())


@cache
def film(patient: Patient) -> Tensor:
    """(32, 32) in [-1, 1], as the data module makes it."""
    return PIPELINE(XRay().simulate(patient, (SIDE, SIDE))).images[0, 0]


def heart_shadow(images: Tensor) -> Tensor:
    """(N, 32, 32) -> (N,): how many pixels wide the bright middle is between the lungs, of heart and great vessels, at their height."""
    return torch.sigmoid((images[:, 8:24, 9:23] - 0.2) / 0.15).sum(2).mean(1)


def one_sided(images: Tensor) -> Tensor:
    """(N, 32, 32) -> (N,): how much the lungs differ in grey, pixel by mirrored pixel, above the diaphragm: one of them is opaque."""
    return (images - images.flip(2))[:, 7:20, 5:11].abs().mean((1, 2))


def patients(count: int, **changes: Any) -> list[Patient]:
    """Patients of whom no training set of cohort seed 0 has one; with `changes` the same people otherwise."""
    return [replace(draw_patient(1, i), **changes) for i in range(count)]


def stacked(people: list[Patient]) -> Tensor:
    return torch.stack([film(patient) for patient in people])


@pytest.mark.slow
def test_the_measures_see_the_truth_on_films() -> None:
    """Heart shadow: age, and the heart's share of the chest; opacity: consolidation."""
    healthy = patients(80, disease="normal")
    images = stacked(healthy)
    shadow = heart_shadow(images)
    anatomies = [measure(patient) for patient in healthy]
    ratio = np.array([anatomy.heart_width / anatomy.half_width for anatomy in anatomies])
    assert np.corrcoef(shadow, ratio)[0, 1] > 0.6
    assert np.corrcoef(shadow, [patient.age_years for patient in healthy])[0, 1] > 0.3
    old, young = (heart_shadow(stacked(patients(24, disease="normal", age_years=age))) for age in (80.0, 30.0))
    assert (old > young).float().mean() > 0.9
    opaque = one_sided(stacked(patients(40, disease="consolidation")))
    assert (opaque[:, None] > one_sided(images)).float().mean() > 0.85


@pytest.mark.slow
def test_the_recipe_draws_wider_hearts_for_the_old_and_denser_lungs_for_the_ill(tmp_path: Path) -> None:
    """The same noise at 30 and at 80 years, and as normal and consolidated, against the same simulated people at both."""
    command("train", "experiment=conditional", "logger=csv", "trainer=cpu", "hydra.run.dir=run", seconds=3600)
    module = medgan_pl.load("run/checkpoints/last.ckpt")

    def drawn(disease: str, **asked: Any) -> Tensor:
        facts, n = module.covariates, 400
        values = torch.from_numpy(facts.standardize(facts.for_images(9, range(n), facts.asked(asked))))
        return module.generate(fixed_batch(module, torch.full((n,), CLASSES.index(disease)), 9, 0, values))[:, 0]

    def share(made: Tensor, true: Tensor) -> float:
        """The mean change made (N,), of the true one; it must be more than none, by its interval."""
        assert made.mean() > 1.96 * made.std() / len(made) ** 0.5
        return float(made.mean() / true.mean())

    old, young = (stacked(patients(60, disease="normal", age_years=age)) for age in (80.0, 30.0))
    made = heart_shadow(drawn("normal", age=80)) - heart_shadow(drawn("normal", age=30))
    assert 0.4 < share(made, heart_shadow(old) - heart_shadow(young)) < 2
    ill, well = (stacked(patients(60, disease=disease)) for disease in ("consolidation", "normal"))
    made = one_sided(drawn("consolidation")) - one_sided(drawn("normal"))
    assert 0.3 < share(made, one_sided(ill) - one_sided(well)) < 2
