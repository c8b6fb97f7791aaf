"""Names that act on a terminal, break a line or compute are shown with escapes, and every one of them reads back."""

import ast
import csv
import json
import logging
from pathlib import Path

import pytest

import medgan_pl
from medgan_pl.core.console import VisibleFormatter, one_message, say
from medgan_pl.core.visible import as_json, cell, message, path_cell, restored, uncelled, visible, within
from medgan_pl.data.files.csv_table import read_csv
from medgan_pl.data.files.layouts import list_files
from medgan_pl.data.files.listing import Wanted
from medgan_pl.evaluate.report.templating import HTML, MARKDOWN

EVIL = "a\x1b[2J\x9b31m\nerror: b\r\t\u202egnp\u2028\u200b\x7f\udcff"
SHOWN = r"a\x1b[2J\x9b31m\nerror: b\r\t\u202egnp\u2028\u200b\x7f\udcff"
PLAIN = "Größe 胸部 Κανονικό нормa عادي नमस्ते a\u3000b\xa0c 1/2 µ – “x” 🙂 \\n"


def test_letters_stay_and_all_else_becomes_an_escape_that_reads_back() -> None:
    assert visible(EVIL) == SHOWN
    assert restored(SHOWN) == EVIL
    assert visible(SHOWN) == SHOWN
    assert visible(PLAIN) == PLAIN
    assert within({EVIL: [EVIL, (1, None)]}) == {SHOWN: [SHOWN, (1, None)]}
    assert json.loads(as_json({"name": EVIL})) == {"name": EVIL}
    assert as_json({"name": EVIL}).isascii()
    assert PLAIN.replace("\\", "\\\\") in as_json([PLAIN])


@pytest.mark.parametrize("text", ["=1+1", "+x", "-x", "@x", "=cmd|' /C calc'!A0", " =1", "'=1", "plain", "-1.5", "1e5"])
def test_a_cell_of_a_table_is_no_formula_and_reads_back(text: str) -> None:
    shown = cell(text)
    assert shown == text or shown == f"'{text}"
    assert not shown.lstrip().startswith(("=", "+", "@"))
    assert uncelled(shown) == text or text.startswith("'")
    assert cell("\t=1") == r"\t=1"


def test_a_path_in_a_table_reads_back(tmp_path: Path) -> None:
    folder = tmp_path / "ends in blanks  "
    folder.mkdir()
    for i, name in enumerate([EVIL[:12], r"plain\n", "blank "]):
        (folder / f"{i}{name}.png").touch()
    files = sorted(folder.iterdir())
    table = tmp_path / "dataset.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["image", "label"], *([path_cell(str(path)), cell("=1")] for path in (*files, folder))])
    assert "\x1b" not in table.read_text()
    wanted = Wanted(lambda path: path.suffix == ".png", "PNG")
    with pytest.raises(ValueError, match="list each image once; 3 are listed again"):  # the folder, and so its end, was found as well
        read_csv(table, wanted)
    table.write_text("\n".join(table.read_text().splitlines()[:-1]))
    listed = read_csv(table, wanted)
    assert [item.paths[0] for item in listed.items] == files
    assert {item.label for item in listed.items} == {"=1"}
    assert all(item.name.isprintable() for item in listed.items)


def test_two_files_with_one_name_when_shown_are_refused(tmp_path: Path) -> None:
    for name in ("a\x1b.png", r"a\x1b.png"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"several called a\\x1b.png; rename all but one"):
        list_files(tmp_path, Wanted(lambda path: path.suffix == ".png", "PNG"))


def test_screen_and_log_show_no_raw_character(capsys, tmp_path: Path) -> None:
    say(EVIL, f"kept:\n  {EVIL}")
    say(EVIL, error=True)
    with pytest.raises(SystemExit), one_message(tmp_path / "train.log"):
        raise ValueError(EVIL)
    record = logging.LogRecord("medgan_pl", logging.INFO, "", 0, "reading %s", (EVIL,), None)
    try:
        raise ValueError(EVIL)
    except ValueError as error:
        failed = logging.LogRecord("medgan_pl", logging.INFO, "", 0, EVIL, (), (ValueError, error, error.__traceback__))
    logged = [VisibleFormatter("%(levelname)s %(message)s").format(each) for each in (record, failed)]
    said = [*capsys.readouterr(), (tmp_path / "train.log").read_text(), *logged]
    for text in said:
        assert SHOWN[:13] in text
        assert all(visible(line) == line for line in text.split("\n"))
    assert f"  {SHOWN}\n" in said[0]
    assert logged[0] == f"INFO reading {SHOWN}"
    assert message("a\n  b\nc") == "a\n  b\\nc"


def test_page_and_card_show_no_raw_character() -> None:
    for environment in (HTML, MARKDOWN):
        page = environment.from_string("{{ name }} {{ {'a': [name]} | pretty }} {{ [name] | recorded }}").render(name=EVIL)
        assert all(visible(line) == line for line in page.split("\n"))
        assert page.count("202egnp") == 3


def test_no_print_passes_by_say() -> None:
    package = Path(medgan_pl.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())) if path.name != "console.py" else ():
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print":
                assert not any(isinstance(part, ast.JoinedStr) for part in node.args), (
                    f"{path}:{node.lineno} prints names with print, not say"
                )
