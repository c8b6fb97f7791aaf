import pytest

from medgan_pl.evaluate.report.digits import number, number_like, spelled


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "0"), (0.12345, "0.123"), (142.3, "142"), (1234.5, "1,234"), (78000, "78,000"), (-0.0007, "−0.000700"), (0.05, "0.0500"),
        (3e-9, "3.0 × 10^−9"), (-1.26, "−1.26"), (99.96, "100.0"),
    ],
)  # fmt: skip
def test_three_digits(value: float, said: str) -> None:
    assert number(value) == said


def test_what_rounds_to_nothing_has_no_sign() -> None:
    assert number(-0.0004, 2) == "0.00"


@pytest.mark.parametrize(
    ("value", "low", "high", "said"),
    [
        (0.2431, 0.2221, 0.2662, ("0.243", "0.222 to 0.266")),  # half 0.023: two digits
        (34.18, 32.24, 36.31, ("34.2", "32.2 to 36.3")),
        (0.934, 0.893, 0.979, ("0.93", "0.89 to 0.98")),  # half 0.045: one digit
        (-0.0007, -0.0018, 0.0005, ("−0.0007", "−0.0018 to 0.0005")),
        (142.3, 100.0, 190.0, ("142", "100 to 190")),
        (1.0, 1.0, 1.0, ("1.00", "1.00 to 1.00")),
        (0.0, 0.0, 0.0, ("0.00", "0.00 to 0.00")),
        (0.9871234, 0.9871232, 0.9871236, ("0.9871", "0.9871 to 0.9871")),  # no more than four digits of the value
        (0.0, -1e-12, 1e-12, ("0.000000", "0.000000 to 0.000000")),
    ],
)
def test_digits_follow_the_interval(value: float, low: float, high: float, said: tuple[str, str]) -> None:
    assert spelled({"value": value, "low": low, "high": high}) == said


def test_a_neighbor_has_no_more_decimals_than_the_value() -> None:
    estimate = {"value": 0.812, "low": 0.79, "high": 0.836}
    assert [number_like(value, estimate) for value in (0.05, 0.0, 142.3, 2.41, 1e-9)] == ["0.050", "0", "142", "2.41", "0.000"]
    assert number_like(0.05, None) == "0.0500"
