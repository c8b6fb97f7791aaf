import pytest

from medgan_pl.evaluate.report.text import pretty


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "{}"),
        ({"a": {}, "b": [], "c": None, "d": True, "e": 1e-4, "f": ""}, "a: {}\nb: []\nc: null\nd: true\ne: 0.0001\nf: "),
        ({"a": {"b": {"c": [1, 2]}}}, "a:\n  b:\n    c: [1, 2]"),
        ({"a": [{"b": 1, "c": 2}, {"d": 3}]}, "a:\n  - b: 1\n    c: 2\n  - d: 3"),
        ({"a": [[1, 2], [3]]}, "a:\n  - [1, 2]\n  - [3]"),
    ],
)
def test_containers_as_indented_lines(value: object, said: str) -> None:
    assert pretty(value) == said
