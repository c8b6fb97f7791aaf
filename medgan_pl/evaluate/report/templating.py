"""The templates of page and model card. Every value is escaped for the language of its template, HTML or Markdown."""

from html import escape
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Undefined
from markupsafe import Markup

from medgan_pl.core.visible import block, visible
from medgan_pl.evaluate.report import digits, judgement, text
from medgan_pl.metrics.catalogue import GROUPS

SPECIAL = "\\`*[]|~"  # of Markdown; a hash or a dash counts at the start of a line only, where no text from data stands


def markdown(value: Any) -> Markup:
    """Return a value as one line of Markdown that can neither mark up text nor break a table."""
    if isinstance(value, Markup):  # the result of a macro
        return value
    one_line = visible(" ".join(escape(str(value), quote=False).split()))
    return Markup("".join(f"\\{sign}" if sign in SPECIAL else sign for sign in one_line))


def shown(value: Any) -> Any:
    """Return a value of the page with all but its line breaks made visible; `pretty` writes text of several lines."""
    return value if isinstance(value, Markup | Undefined) else block(str(value))


def render(template: str, **context: Any) -> str:
    """Return the text of a template in templates/. A name that neither `context` nor the data have is an error."""
    return (MARKDOWN if template.endswith(".md.j2") else HTML).get_template(template).render(**context)


def _environment(**options: Any) -> Environment:
    environment = Environment(
        loader=PackageLoader("medgan_pl.evaluate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **options,
    )
    environment.filters |= {function.__name__: function for function in FILTERS}
    environment.globals |= {"GROUPS": GROUPS, "DIRECTIONS": text.DIRECTIONS, "UNKNOWN": text.UNKNOWN}
    return environment


FILTERS = (
    *(digits.number, digits.number_like, digits.spelled, judgement.entry),
    *(text.described, text.file_name, text.image_size, text.minute, text.pretty, text.recorded, text.short_name),
)
HTML = _environment(finalize=shown)
MARKDOWN = _environment(finalize=markdown)
