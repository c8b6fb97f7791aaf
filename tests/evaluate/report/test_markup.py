from medgan_pl.evaluate.report.markup import Markup, element, joined


def test_text_is_escaped_and_markup_is_not() -> None:
    inner = element("b", "<&>")
    assert element("p", inner, " & ", inner, class_="x", data_label='"<') == (
        '<p class="x" data-label="&quot;&lt;"><b>&lt;&amp;&gt;</b> &amp; <b>&lt;&amp;&gt;</b></p>'
    )


def test_what_is_added_to_markup_is_text_again() -> None:
    assert joined(Markup("<b></b>") + "<i>") == "&lt;b&gt;&lt;/b&gt;&lt;i&gt;"


def test_void_elements_are_not_closed_and_none_is_left_out() -> None:
    assert element("img", src="data:,", alt="", width=None) == '<img src="data:," alt="">'
