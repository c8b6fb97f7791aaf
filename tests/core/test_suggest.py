"""Hints for keys that are typed at the wrong place."""

import pytest

from medgan_pl.core.console import configuration_folder, suggest


def test_a_key_that_the_chosen_option_lacks_is_told_which_have_it() -> None:
    (hint,) = suggest(["penalty=none", "penalty.weight=3"], configuration_folder())
    assert hint.startswith("penalty=none has no `weight`; weight is a setting of penalty=")
    assert "r1" in hint
    assert suggest(["penalty=r1", "penalty.weight=3", "+penalty.weight=3"], configuration_folder()) == []


@pytest.mark.parametrize(
    ("argument", "meant"),
    [
        ("spatial_dims=3", ["`image.spatial_dims`"]),
        ("root=/x", ["`data.root`"]),
        ("data.volume=all", ["`data.modality.volume`"]),
        ("data=ct", []),
        ("data.spatial_dims=3", []),
        ("data.modality.volume=all", []),
        ("model.width=4", []),
        ("+data.volume=all", []),
        ("beside@data.beside.source=mri", []),
    ],
)
def test_a_key_at_the_wrong_place_is_told_its_own(argument: str, meant: list[str]) -> None:
    key = argument.partition("=")[0]
    expected = [f"there is no `{key}` in the configuration; did you mean {place}?" for place in meant]
    assert suggest(["image.spatial_dims=2", argument], configuration_folder()) == expected
