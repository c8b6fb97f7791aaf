"""A measure that is added as docs/extending.md says, by one entry in the catalogue, reaches validation, `evaluate` and the report."""

import pytest
import torch

from medgan_pl.data.sets import ImageSet
from medgan_pl.evaluate.fidelity import Ladder, Sets, judge_space
from medgan_pl.metrics.catalogue import CATALOGUE, Entry, clipped, measures
from medgan_pl.metrics.distances import Frechet, Kernel
from medgan_pl.metrics.estimate import Estimate, Resampling
from medgan_pl.metrics.extractors.features import RandomFeatures
from medgan_pl.metrics.feature_store import FeatureStore
from medgan_pl.metrics.judgement import validate_row
from medgan_pl.metrics.neighbours import DensityCoverage, PrecisionRecall
from medgan_pl.metrics.space import FeatureSpace


class MeanGap:
    """The distance between the mean features."""

    keys = ("gap",)

    def __call__(self, fake: torch.Tensor, real: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"gap": (fake.mean(0) - real.mean(0)).norm()}

    def estimates(self, fake: torch.Tensor, real: torch.Tensor, resampling: Resampling) -> dict[str, Estimate]:
        return {"gap": resampling.of_sets(lambda a, b: (a.mean(0) - b.mean(0)).norm(), fake, real)}


@pytest.fixture
def _added(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = Entry("Mean gap", "fidelity", "lower", "The distance between the means.", 0, measure=MeanGap, validated=True)
    monkeypatch.setitem(CATALOGUE, "gap", entry)


def images(seed: int) -> torch.Tensor:
    return torch.rand(24, 1, 16, 16, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_the_measures_are_those_of_the_catalogue_each_once() -> None:
    found = [type(each) for each in measures()]
    assert {Frechet, Kernel, PrecisionRecall, DensityCoverage} <= {*found}
    assert len(found) == len({*found})
    assert {type(each) for each in measures(validated=True)} == {entry.measure for entry in CATALOGUE.values() if entry.validated}


def test_intervals_end_at_the_range_of_the_metric() -> None:
    wide = Estimate(0.5, -0.25, 1.25)
    assert clipped("fd", wide) == Estimate(0.5, 0, 1.25)
    assert clipped("precision", wide) == Estimate(0.5, 0, 1)
    assert clipped("kid", wide) == wide
    inner = Estimate(0.5, 0.25, 0.75)
    assert clipped("precision", inner) == inner


@pytest.mark.usefixtures("_added")
def test_one_entry_shows_a_measure_in_validation_evaluation_and_report(tmp_path) -> None:
    space = FeatureSpace(RandomFeatures(width=4), {"fd": Frechet()})
    space.update(images(0), images(1))
    assert set(space.compute()) >= {"fd_random", "gap_random"}
    sides = [ImageSet(images(seed).__getitem__, 24) for seed in range(3)]
    results = judge_space(Sets(*sides), Ladder(), RandomFeatures(width=4), FeatureStore(tmp_path), 20)
    gap = next(result for result in results if result.key == "gap")
    assert gap.estimate.value == pytest.approx(float(space.compute()["gap_random"]), rel=1e-4)
    assert gap.name == "gap_random"
    for result in results:  # the report knows it
        validate_row(result.plain())
