import pytest
from jinja2 import UndefinedError
from markupsafe import Markup

from medgan_pl.evaluate.report.templating import HTML, MARKDOWN, markdown


def test_every_value_is_escaped_and_markup_is_not() -> None:
    template = '<p title="{{ value }}">{{ value }}{{ ready }}</p>'
    said = HTML.from_string(template).render(value='"<&>', ready=Markup("<b></b>"))
    assert said == '<p title="&#34;&lt;&amp;&gt;">&#34;&lt;&amp;&gt;<b></b></p>'
    assert MARKDOWN.from_string("- {{ value }}").render(value="a|b\n# <c>") == "- a\\|b # &lt;c&gt;"
    assert markdown(markdown("a|b")) == "a\\|b"


def test_text_that_is_added_to_markup_is_escaped_too() -> None:
    assert HTML.from_string("{{ ready ~ value }}").render(value="<i>", ready=Markup("<b></b>")) == "<b></b>&lt;i&gt;"


def test_a_misspelled_name_is_an_error_and_no_gap() -> None:
    with pytest.raises(UndefinedError, match="tilte"):
        HTML.from_string("{{ data.tilte }}").render(data={"title": "films"})
    assert HTML.from_string("{{ data.unit | recorded }}").render(data={}) == "not recorded"
