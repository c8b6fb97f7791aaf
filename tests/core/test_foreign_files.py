"""Tables and configurations of run folders, which may be a stranger's."""

from pathlib import Path

import pytest

from medgan_pl.core.command import read_foreign_config
from medgan_pl.core.files import read_table


def test_a_table_is_read_column_by_column_without_its_gaps(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("images,loss,val/fd\n64,1.5,\n128,,nan\n")
    columns = read_table(tmp_path / "metrics.csv")
    assert list(columns) == ["images", "loss", "val/fd"]
    assert columns["images"] == ([64, 128], [64, 128])
    assert columns["loss"] == ([64], [1.5])


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("images,loss\n64,1\nx,2\n", 3),
        ("images,loss\n64,1,5\n", 2),
        ("images,loss\n64\n", 2),
        ("loss\nhigh\n", 1),
        ("images,loss\n64,=cmd()\n", 2),
        ("images,loss\n\xff\xfe\n", 2),
        (f"images,loss\n64,{'1' * 200_000}\n", 1),
    ],
)
def test_a_table_that_holds_no_numbers_is_refused_by_its_line(tmp_path: Path, content: str, line: int) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"metrics.csv must be a table of numbers with the column images; line {line} is not: "):
        read_table(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("a: &a [x, x]\ndata: {a: *a}\n", "it has aliases"),
        ("data: 1\n", "it has no settings of `data`"),
        ("- data\n", "it has no settings"),
        ("data: [\n", "while parsing"),
        ("data: !!python/object/apply:os.system [ls]\n", "could not determine a constructor"),
        ("data: {a: " + "[" * 40 + "]" * 40 + "}\n", "at most 32 levels"),
        ("data: {a: x}\n#" + "x" * 2**20, "more than 1048576"),
    ],
)
def test_a_config_that_is_no_runs_is_refused(tmp_path: Path, content: str, why: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=rf"config.yaml must be the config.yaml of a run, and it is not: .*{why}"):
        read_foreign_config(path)
