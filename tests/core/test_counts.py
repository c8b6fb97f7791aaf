"""One check of settings that count something."""

import pytest

from medgan_pl.core.counts import whole_number


@pytest.mark.parametrize(("value", "minimum"), [(1, 1), (0, 0), (7, 2), (10**12, 1)])
def test_a_whole_number_comes_back(value: int, minimum: int) -> None:
    assert whole_number("n", value, minimum) is value


@pytest.mark.parametrize("value", [0, -1, True, False, 1.0, 1.5, "1", None, float("nan"), [1]])
def test_anything_else_is_refused_with_its_key_and_value(value: object) -> None:
    with pytest.raises(ValueError, match="must be") as told:
        whole_number("data.n", value, 1)
    assert str(told.value) == f"`data.n` must be a whole number of at least 1, got {value!r}"


def test_a_hint_ends_the_message() -> None:
    with pytest.raises(ValueError, match=r"`d_per_g` must be a whole number of at least 1, got 0; or auto$"):
        whole_number("d_per_g", 0, 1, "or auto")
