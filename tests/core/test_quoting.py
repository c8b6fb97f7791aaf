"""The hint about quotes for a value that Hydra cannot read."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from medgan_pl.core.command import unquoted


@pytest.mark.parametrize("name", ["ct (1)", "a=b", "a,b", "x#1", "a[1]", "Röntgen", "a{b}", "it's", "~x", "a&b", "a;b", "it's (1)"])
@pytest.mark.parametrize("quote", ["", "'"])
def test_the_hint_is_what_helps(name, quote):
    if quote and "'" not in name:
        assert unquoted([f"data.root='/x/{name}'"], several=False) == []
        return
    (hint,) = unquoted([f"data.root={quote}/x/{name}{quote}", "data.size=16"], several=False)
    advice = hint[hint.index('"') + 1 : hint.rindex('"')]
    override = OverridesParser.create().parse_override(advice)
    assert (override.get_key_element(), override.value()) == ("data.root", f"/x/{name}")


@pytest.mark.parametrize("argument", ["data.root=/x/my data", "seed=1,2", "data.size=[16,16]", "~logger", "-m", "+new={a: 1}", "a=/x,/y"])
def test_there_is_none_for_others(argument):
    assert unquoted([argument], several=argument == "a=/x,/y") == []
