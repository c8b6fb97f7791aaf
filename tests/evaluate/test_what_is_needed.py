"""What an evaluation needs and says: no extractors for pairs alone, and no doubt about patients who were held out."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from configured import configured
from crowd import films

from medgan_pl.evaluate.targets import open_target
from medgan_pl.metrics.extractors.radiomics import RadiomicsFeatures
from medgan_pl.models.fits import membership_unknown_because, training_unknown_because


def test_pairs_alone_need_no_extractor() -> None:
    films("made", 1, 4)
    films("reals", 2, 4)
    for name in ("made", "reals"):
        for path in Path(name).rglob("*.png"):
            path.rename(path.with_name(path.name[3:]))  # the same names on both sides
    words = ("fake=made", "real=reals", "paired=true", "data.size=16")
    target = open_target(configured("evaluate", *words, "groups=[paired]"), [], "cpu", print)
    assert (target.extractors, len(target.sets.truth)) == ([], 4)
    assert len(open_target(configured("evaluate", *words), [], "cpu", print).extractors) == 2


def test_of_patches_the_held_out_patients_are_known_and_the_training_patches_are_not() -> None:
    whole, patches = (SimpleNamespace(patches=count, fingerprint="a1") for count in (0, 4))
    assert training_unknown_because("a1", whole) == training_unknown_because("a1", patches) == ""
    assert membership_unknown_because("a1", whole) == ""
    assert "patches are cut at random" in membership_unknown_because("a1", patches)
    for data in (whole, patches):
        assert "trained on b2" in training_unknown_because("b2", data)
        assert membership_unknown_because("b2", data) == training_unknown_because("b2", data)


def test_one_real_image_has_no_z_score() -> None:
    extractor = RadiomicsFeatures(spatial_dims=2, channels=1)
    with pytest.raises(ValueError, match=r"needs 2 real images or more for its z-scores, .*got 1; add real images, or .* extractor=random"):
        extractor.fit(torch.from_numpy(np.zeros((1, 1, 16, 16), np.float32)), None)
