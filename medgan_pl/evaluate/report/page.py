"""The whole page: report.html in one file that reaches for nothing outside itself."""

from collections.abc import Mapping

from medgan_pl.evaluate.report import measured, panels, plots, steps
from medgan_pl.evaluate.report.judgement import Judgement, called, day, recorded, size_of
from medgan_pl.evaluate.report.markup import Markup, definitions, element, joined, paragraph, section
from medgan_pl.evaluate.report.pictures import Pictures
from medgan_pl.evaluate.report.plots import Curve
from medgan_pl.evaluate.report.style import STYLE
from medgan_pl.evaluate.report.tables import groups, legend
from medgan_pl.metrics.catalogue import GROUPS

# Nothing may be loaded, sent or run, whatever a class or a folder is called.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
MARKS = {"good": "✓ good", "doubtful": "! doubtful", "bad": "✕ bad", "unknown": "? unknown"}

CURVES = (
    "From metrics.csv of the run, over real images shown. The losses of two players say little by themselves: neither may go away or to 0 "
    "for long. The distances are those of the validation patients, with fewer images than this report, so their values differ from it."
)
SHARING = (
    "This file shows images of real patients, of the training set among them. Share it only where those images may go; "
    "model_card.md has the numbers and no image."
)
SIMULATED = (
    "The “real” images here are of simulated patients: the numbers show that the machinery works, not that the same would hold on patients."
)
NUMBERS = (
    "Each number stands beside the same number for held-out real images in place of those judged: its floor. No generator can be expected "
    "to pass the floor, and how far from it a number lies says more than the number itself. The interval of 95 % is what chance alone may "
    "have made of it."
)


def page(judgement: Judgement, pictures: Pictures, curves: Mapping[str, Curve]) -> str:
    """HTML of everything: `judgement` as metrics.json has it, `curves`: column of metrics.csv -> (images, values)."""
    drawn = plots.curves(curves)
    sections = [
        ("glance", "At a glance", glance(judgement)),
        ("images", "Real beside generated", panels.beside(judgement, pictures)),
        ("numbers", "The numbers", joined(paragraph(NUMBERS), legend()) if judgement["results"] else Markup("")),
        *((group, GROUPS[group], content) for group, content in groups(judgement)),
        ("ladder", "Sanity ladder", steps.ladder(judgement, pictures)),
        ("pairs", "The closest pairs", panels.closest(judgement, pictures)),
        ("curves", "How training went", joined(paragraph(CURVES), drawn) if drawn else Markup("")),
        ("measured", "How it was measured", measured.measured(judgement)),
    ]
    kept = [(anchor, title, content) for anchor, title, content in sections if content]
    links = [element("li", element("a", title, href=f"#{anchor}")) for anchor, title, _ in kept]
    contents = element("nav", element("ul", *links), aria_label="Contents")
    head = [
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", f"Judgement of {called(judgement['subject'])}"),
        element("style", Markup(STYLE)),
    ]
    main = element("main", *(section(*content) for content in kept))
    body = element("body", header(judgement, contents), main, footer(judgement))
    return Markup("<!DOCTYPE html>\n") + element("html", element("head", *head), body, lang="en") + "\n"


def header(judgement: Judgement, contents: Markup) -> Markup:
    subject, data = judgement["subject"], judgement["data"]
    against = recorded(data, "title")
    lead = f"Held against {against}." if data.get("title") else "Held against real images; their title was not recorded."
    facts = [
        ("What is judged", f"{recorded(subject, 'kind')} {recorded(subject, 'name')}"),
        *([("Model", recorded(subject, "model"))] if subject.get("kind") == "checkpoint" else []),
        *([("Real images shown in training", recorded(subject, "images_seen"))] if subject.get("kind") == "checkpoint" else []),
        ("Modality", recorded(data, "modality")),
        ("Image size", size_of(data)),
        ("Classes", recorded(data, "classes")),
        ("Images judged", recorded(data.get("counts", {}), "fake")),
        ("Held-out real images", recorded(data.get("counts", {}), "reference")),
        ("Made on", day(recorded(judgement, "created"))),
        ("medgan_pl", recorded(judgement, "version")),
    ]
    return element(
        "header",
        element("span", "Synthetic images inside · not for diagnosis", class_="badge"),
        element("h1", f"How good are the images of {called(subject)}?"),
        paragraph(lead, class_="lead"),
        *([element("div", paragraph("⚠ ", SIMULATED), class_="notes")] if data.get("phantom") else []),
        definitions(facts),
        contents,
    )


def glance(judgement: Judgement) -> Markup:
    """The answers to the questions, and what a reader must know before believing them."""
    items = []
    for group, verdict in sorted(judgement["verdicts"].items(), key=lambda item: list(GROUPS).index(item[0])):
        mark = element("span", MARKS[verdict["mark"]], class_=f"mark {verdict['mark']}")
        items.append(element("li", mark, element("div", element("h3", GROUPS[group]), paragraph(verdict["text"]))))
    parts = [element("ul", *items, class_="verdicts")]
    if judgement["notes"]:
        notes = [element("li", note) for note in judgement["notes"]]
        parts.append(element("div", element("h3", "⚠ Before you rely on this"), element("ul", *notes), class_="notes"))
    if not judgement["data"].get("phantom"):
        parts.append(element("div", paragraph(SHARING), class_="notes quiet"))
    return joined(*parts)


def footer(judgement: Judgement) -> Markup:
    clinical = " Generated images show no patient and no finding of a patient, and nothing here was validated for clinical use."
    made = f"Written by medgan_pl {recorded(judgement, 'version')}, {day(recorded(judgement, 'created'))}. The same numbers stand in "
    return element(
        "footer",
        paragraph(element("strong", "Not for diagnosis."), clinical),
        paragraph(made, element("code", "metrics.json"), ", a summary in ", element("code", "model_card.md"), "."),
    )
