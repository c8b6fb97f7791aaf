"""Names of files, classes and columns in what people read: nothing in them moves a cursor, breaks a line, turns text round or computes.

Names are made visible where they become names (`data.files.records.Item`). Screen, logs, tables and reports do it again, because messages
hold paths as well. Paths that are opened stay what they are.
"""

import json
import re
import unicodedata
from typing import Any

FORMULA = ("=", "+", "-", "@")  # how a formula of a spreadsheet begins
INDENTED = re.compile(r"\n([ \t]+)")  # the line breaks of our own messages and of most libraries'
ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|u([0-9a-f]{4})|U(00(?:0[0-9a-f]|10)[0-9a-f]{4})|([nrt]))")
LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def visible(text: str) -> str:
    r"""Return the text on one line, with an escape for each character that has no shape of its own: \x1b, \n, \u202e.

    These are control characters, line breaks, the marks that change the direction of text, bytes that are no UTF-8 (\udcff), and
    characters without a meaning. Letters, signs and spaces of all scripts stay. A text that is visible stays as it is.
    """
    if text.isprintable():
        return text
    kept = (letter.isprintable() or unicodedata.category(letter) == "Zs" for letter in text)
    return "".join(letter if keep else letter.encode("unicode_escape").decode("ascii") for letter, keep in zip(text, kept, strict=True))


def message(text: str) -> str:
    """Return a message for a screen or a log: a line of it that is indented stays a line, any other line break becomes visible."""
    first, *rest = INDENTED.split(text.rstrip("\n"))
    return visible(first) + "".join(f"\n{blanks.expandtabs(4)}{visible(line)}" for blanks, line in zip(*[iter(rest)] * 2, strict=True))


def block(text: str) -> str:
    """Return a text whose line breaks are its writer's own, such as a traceback, with all else made visible."""
    return "\n".join(visible(line.expandtabs(4)) for line in text.split("\n"))


def within(node: Any) -> Any:
    """Return plain containers with every text in them, names of keys included, made visible."""
    if isinstance(node, dict):
        return {within(key): within(value) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return type(node)(within(value) for value in node)
    return visible(node) if isinstance(node, str) else node


def cell(text: str) -> str:
    """Return the text as a cell of a CSV, which no spreadsheet reads as a formula; a number stays a number."""
    text = visible(text)
    try:
        float(text)
    except ValueError:
        return f"'{text}" if text.lstrip().startswith(FORMULA) else text
    return text


def uncelled(text: str) -> str:
    """Return the text whose `cell` this is."""
    return text[1:] if text.startswith("'") and text[1:].lstrip().startswith(FORMULA) else text


def path_cell(path: str) -> str:
    """Return a path as a cell of a CSV that `restored` turns back; blanks at its ends are escaped, since readers drop them."""
    inner = path.strip(" ")
    start = path.index(inner)
    ends = path[:start], path[start + len(inner) :]
    return visible(inner.join(end.replace(" ", r"\x20") for end in ends))


def as_json(content: Any) -> str:
    """Return strict JSON, indented and without NaN, in which characters that have no shape are escapes of JSON: the texts stay the same."""
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    return re.sub(r"[^\n -~]", lambda found: found[0] if visible(found[0]) == found[0] else json.dumps(found[0])[1:-1], text)


def restored(text: str) -> str:
    """Return the text with the characters that `visible` wrote as escapes."""

    def letter(found: re.Match[str]) -> str:
        code = found[1] or found[2] or found[3]
        return chr(int(code, 16)) if code else LETTERS[found[4]]

    return ESCAPE.sub(letter, text)
