"""How a judgement was made: counts, split, rules of the spaces, settings."""

from collections.abc import Mapping
from typing import Any

from medgan_pl.evaluate.report.judgement import Judgement, recorded, size_of
from medgan_pl.evaluate.report.markup import Markup, definitions, details, element, joined, paragraph, row, table

ROLES = {
    "train": "Real, shown in training",
    "reference": "Real, held out: what the images are held against",
    "floor": "Real, held out: in place of the images, for the floor",
    "fake": "Judged",
}
NO_PATIENTS = ("fake",)


def measured(judgement: Judgement) -> Markup:
    data, subject = judgement["data"], judgement["subject"]
    facts = [
        ("Data", recorded(data, "title")),
        ("Split (hash)", element("code", recorded(data, "split_hash"))),
        ("Image size", size_of(data)),
        ("Channels", recorded(data, "channels")),
        ("Unit of the stored images", recorded(data, "unit")),
        ("Simulated patients", recorded(data, "phantom")),
        ("What is judged lies in", element("code", recorded(subject, "path"))),
        ("Its SHA-256", element("code", recorded(subject, "sha256"))),
    ]
    parts = [definitions(facts), _counts(data)]
    if data.get("per_class"):
        lines = [row(str(name), recorded(data["per_class"], name)) for name in data["per_class"]]
        parts.append(table("Held-out reference images by class", ("Class", "Images"), element("tbody", *lines)))
    parts += [element("h3", "The spaces in which images were compared"), _spaces(judgement["spaces"])]
    parts.append(details("Settings of this judgement", element("pre", pretty(judgement["settings"]))))
    parts.append(details("Configuration of the training", element("pre", pretty(judgement["run"]) if judgement["run"] else "not recorded")))
    return joined(*parts)


def _counts(data: Mapping[str, Any]) -> Markup:
    counts, patients = data.get("counts", {}), data.get("patients", {})
    lines = [row(said, recorded(counts, role), "—" if role in NO_PATIENTS else recorded(patients, role)) for role, said in ROLES.items()]
    return table("Images and patients", ("Images of which kind", "Images", "Patients"), element("tbody", *lines))


def _spaces(spaces: Mapping[str, Mapping[str, Any]]) -> Markup:
    """The rules of each space: values under other rules must not be compared with these."""
    if not spaces:
        return paragraph("No extractor was used.")
    rules = list(dict.fromkeys(rule for space in spaces.values() for rule in space))
    lines = [row(name, *(_said(space.get(rule, "—")) for rule in rules)) for name, space in spaces.items()]
    caption = "Rules of each extractor; numbers under other rules must not be compared"
    return table(caption, ("Extractor", *rules), element("tbody", *lines), class_="plain rules")


def _said(value: Any) -> str:
    return "; ".join(pretty(value).splitlines()) if isinstance(value, (Mapping, list, tuple)) else str(value)


def pretty(value: Any, indent: int = 0) -> str:
    """Plain containers as indented lines, in the manner of YAML; for reading, not for reading back."""
    space = "  " * indent
    if isinstance(value, Mapping):
        lines = []
        for key, inner in value.items():
            own = f"\n{pretty(inner, indent + 1)}" if _has_lines(inner) else f" {pretty(inner)}"
            lines.append(f"{space}{key}:{own}")
        return "\n".join(lines) or "{}"
    if _has_lines(value):
        return "\n".join(f"{space}- {pretty(part, indent + 1).lstrip()}" for part in value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(pretty, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def _has_lines(value: Any) -> bool:
    """Whether it needs lines of its own: a mapping that holds something, a list of containers."""
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, (list, tuple)) and any(isinstance(part, (Mapping, list, tuple)) for part in value)
