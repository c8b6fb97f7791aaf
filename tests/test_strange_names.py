"""Files and classes whose names act on a terminal: no output of inspect, train, evaluate and compare has one of them as it is."""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import TINY
from PIL import Image

from medgan_pl.core.visible import visible

CLASSES = ("=cmd|' calc'!A0", "b\x1b[2J\u202eevil")
FILE = "x\nINJECTED\x07$_^_{}.png"
TEXTS = (".csv", ".txt", ".md", ".html", ".json", ".yaml", ".log", ".xml", "")


def strange(root: Path, count: int, first: int) -> Path:
    for i in range(count):
        folder = root / CLASSES[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(first + i).integers(0, 255, (16, 16)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / FILE.format(first + i))
    (root / CLASSES[1] / "broken\x1b[31m.png").write_bytes(b"no film")
    (root / CLASSES[1] / "\x1b]0;title\x07.weird\x9b").write_bytes(b"no film")
    return root


def raw(text: str) -> Iterator[str]:
    for line in text.replace("\r\n", "\n").expandtabs().split("\n"):
        if visible(line) != line or line.startswith("INJECTED"):
            yield line


def check_outputs(said: str, folder: Path) -> None:
    assert not [*raw(said)]
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in TEXTS and "wandb-home" not in path.parts]
    assert files
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not [*raw(text)], path
        if path.suffix == ".csv":
            cells = [cell for row in csv.reader(text.splitlines()) for cell in row]
            assert not [cell for cell in cells if cell.startswith("=")], path


def used(table: Path) -> list[tuple[str, str]]:
    rows = csv.DictReader(table.read_text(encoding="utf-8").splitlines())
    return sorted((row["image"], row["label"]) for row in rows if row["use"] == "yes")


def test_no_output_has_a_raw_name(here) -> None:
    films = strange(Path("films\x1b[1m"), 20, 0)
    data = (f"data.root='{films}'", "data.size=16", "data.max_corrupt=0.5")
    code, said = here("inspect", *data)
    assert code == 0, said
    assert r"b\x1b[2J\u202eevil" in said
    check_outputs(said, Path("inspect"))
    again = here("inspect", "data.root=inspect/dataset.csv", *data[1:], "output=again")
    assert again[0] == 0, again[1]
    rows = [used(Path(folder, "dataset.csv")) for folder in ("inspect", "again")]
    assert rows[0] == rows[1]
    assert {label for _, label in rows[0]} == {f"'{CLASSES[0]}", r"b\x1b[2J\u202eevil"}
    small = [word for word in TINY if not word.startswith(("data.size", "data.cohort", "total", "validate"))]
    run = ("total_images=8", "validate_every=8", "model.classes=2", "logger=csv", "hydra.run.dir=run", "callbacks.samples=null")
    code, said = here("train", *data, *small, *run, "data.batch_size=4")
    assert code == 0, said
    check_outputs(said, Path("run"))


def test_no_report_has_a_raw_name(here) -> None:
    fake, real = strange(Path("fake\x1b[1m"), 24, 0), strange(Path("real"), 48, 100)
    quick = (
        "draws=20",
        "data.max_corrupt=0.5",
        "pairs=3",
        "extractor=[random]",
        "extractor.random.width=4",
        "groups=[fidelity]",
        "device=cpu",
        "wandb=disabled",
    )
    for n, output in enumerate(("=first", "sec\x1b[1m")):
        code, said = here("evaluate", f"fake='{fake}'", f"real={real}", "data.size=16", f"output='{output}'", f"seed={n}", *quick)
        assert code == 0, said
        check_outputs(said, Path(output))
    code, said = here("compare", "=first", "sec\x1b[1m", "score=fd_random", "output=compared")
    assert code == 0, said
    check_outputs(said, Path("compared"))


@pytest.mark.parametrize("column", ["a\x1b[2J", "=1+1"])
def test_an_error_about_a_table_has_no_raw_name(here, column: str) -> None:
    strange(Path("films"), 2, 0)
    Path("table.csv").write_text(f"image,{column}\nfilms/x.png,1\n")
    code, said = here("train", "data.root=table.csv", "model.covariates=[age]", "hydra.run.dir=run")
    assert code == 1
    assert visible(column) in said
    assert not [*raw(said)]
