"""HTML by small functions: what is not markup already is text, and text is always escaped."""

from collections.abc import Sequence
from html import escape

VOID = frozenset({"meta", "img", "br", "hr"})


class Markup(str):
    """Text that is HTML already."""


def joined(*children: str) -> Markup:
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children))


def element(name: str, /, *children: str, **attributes: str | int | float | None) -> Markup:
    """`<name …>children</name>`. An attribute `class_` becomes class, `data_label` data-label; one that is None is left out."""
    named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items() if value is not None}
    opening = f"<{name}" + "".join(f' {key}="{escape(str(value))}"' for key, value in named.items()) + ">"
    return Markup(opening if name in VOID else f"{opening}{joined(*children)}</{name}>")


def section(anchor: str, title: str, *children: str) -> Markup:
    return element("section", element("h2", title, id=f"{anchor}-title"), *children, id=anchor, aria_labelledby=f"{anchor}-title")


def table(caption: str, columns: Sequence[str], *bodies: str, class_: str = "plain") -> Markup:
    """A table that scrolls in its own frame. `bodies`: tbody elements; a column named "" heads the rows and is not read out."""
    head = element("tr", *(element("th", name, scope="col") if name else element("td") for name in columns))
    whole = element("table", element("caption", caption), element("thead", head), *bodies, class_=class_)
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def row(header: str, *cells: str) -> Markup:
    return element("tr", element("th", header, scope="row"), *(element("td", cell) for cell in cells))


def definitions(pairs: Sequence[tuple[str, str]]) -> Markup:
    """Names and what they stand for."""
    return element("dl", *(element("div", element("dt", name), element("dd", value)) for name, value in pairs), class_="facts")


def details(summary: str, *children: str, open_: bool = False) -> Markup:
    return element("details", element("summary", summary), *children, open="" if open_ else None)


def paragraph(*children: str, class_: str | None = None) -> Markup:
    return element("p", *children, class_=class_)
