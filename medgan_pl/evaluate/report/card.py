"""model_card.md: what a model is, for what it may be used and how good it is, without an image and without a path."""

from collections.abc import Mapping
from html import escape
from pathlib import PurePath
from typing import Any

from medgan_pl.evaluate.report.digits import spelled
from medgan_pl.evaluate.report.judgement import DIRECTIONS, UNKNOWN, Judgement, Row, called, day, entry, pooled, recorded, size_of
from medgan_pl.metrics.catalogue import CATALOGUE, GROUPS

COMMANDS = {"checkpoint": "checkpoint=… data.root=…", "folder": "fake=… real=…", "baseline": "baseline=… data.root=…"}
SPECIAL = "\\`*[]|~"  # of Markdown; a hash or a dash counts at the start of a line only, where no text from data stands


def card(judgement: Judgement) -> str:
    """Markdown with the sections of Mitchell et al. 2019 (arXiv 1810.03993) and how to make the numbers again; what nobody wrote down
    says so. Paths are left out, names of classes are not: read them before you share it."""
    parts = [
        f"# Model card: {plain(called(judgement['subject']))}",
        *_section("Model details", _details(judgement)),
        *_section("Intended use", USE),
        *_section("Factors", _factors(judgement)),
        *_section("Metrics", METRICS),
        *_section("Evaluation data", _evaluation_data(judgement)),
        *_section("Training data", _training_data(judgement)),
        *_section("Quantitative analyses", _analyses(judgement)),
        *_section("Privacy and ethical considerations", _privacy(judgement)),
        *_section("Limitations, caveats and recommendations", _caveats(judgement)),
        *_section("How to reproduce", _reproduce(judgement)),
    ]
    return "\n\n".join(parts) + "\n"


USE = """\
- Intended: research on generative models of medical images, and teaching. A purpose beyond that: not recorded.
- Out of scope: diagnosis and treatment; passing images off as patients; use as anonymous data unless the section on privacy bears
  that out; populations, scanners and classes other than those of the training data."""

METRICS = """\
Each number comes with its 95 % interval (bootstrap) and, where there is one, its floor: the same number for held-out real images in
place of the generated ones. `metrics.json` has all of them, with the sanity ladder; docs/evaluation.md of medgan_pl has the formulas
and when not to trust them."""

RIGHTS = """\
The weights themselves may remember patients; these numbers are about the images. Consent of the patients and approval of an ethics
board: not recorded."""


def plain(text: str) -> str:
    """Text from data in one line of Markdown: it can neither mark up nor break a table."""
    one_line = " ".join(escape(text, quote=False).split())
    return "".join(f"\\{sign}" if sign in SPECIAL else sign for sign in one_line)


def _section(title: str, content: str) -> list[str]:
    return [f"## {title}", content]


def _list(pairs: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {plain(value)}" for name, value in pairs.items())


def _details(judgement: Judgement) -> str:
    subject = judgement["subject"]
    return _list(
        {
            "Kind": recorded(subject, "kind"),
            "Model": recorded(subject, "model"),
            "File": PurePath(subject["path"]).name if subject.get("path") else UNKNOWN,
            "SHA-256": recorded(subject, "sha256"),
            "Real images shown in training": recorded(subject, "images_seen"),
            "Judged on": day(recorded(judgement, "created")),
            "medgan_pl": recorded(judgement, "version"),
            "Developed by": UNKNOWN,
            "Licence": UNKNOWN,
            "Questions to": UNKNOWN,
        }
    )


def _factors(judgement: Judgement) -> str:
    data = judgement["data"]
    names = {"Modality": recorded(data, "modality"), "Classes": recorded(data, "classes"), "Image size": size_of(data)}
    return _list({**names, "Age, sex, origin and scanner of the patients": UNKNOWN})


def _evaluation_data(judgement: Judgement) -> str:
    data = judgement["data"]
    counted = {
        "Data": recorded(data, "title"),
        "Reals held against": _counted(data, "reference"),
        "Reals for the floor": _counted(data, "floor"),
        "Images judged": recorded(data.get("counts", {}), "fake"),
        "Split (hash)": recorded(data, "split_hash"),
    }
    by_class = [f"{name} {count:,}" for name, count in (data.get("per_class") or {}).items()]
    return _list(counted | ({"Reals by class": ", ".join(by_class)} if by_class else {})) + _simulated(data)


def _training_data(judgement: Judgement) -> str:
    data = judgement["data"]
    if "train" not in data.get("counts", {}):
        return "Not recorded: no training images were given."
    shown = {"Data": recorded(data, "title"), "Shown in training": _counted(data, "train"), "Unit": recorded(data, "unit")}
    return _list(shown) + _simulated(data)


def _counted(data: Mapping[str, Any], role: str) -> str:
    images, patients = recorded(data.get("counts", {}), role), recorded(data.get("patients", {}), role)
    return f"{images} images, patients: {patients}" if images != UNKNOWN else UNKNOWN


def _simulated(data: Mapping[str, Any]) -> str:
    return "\n- The patients are simulated: the numbers do not carry over to real ones." if data.get("phantom") else ""


def _analyses(judgement: Judgement) -> str:
    """The pooled metrics of all groups but privacy, then those of single classes."""
    every = [row for row in judgement["results"] if entry(row).group != "privacy"]
    parts = [_verdicts(judgement, [group for group in GROUPS if group != "privacy"])]
    parts.append(_table([row for row in pooled(judgement) if row in every]) if every else "No metric was recorded.")
    by_class = [row for row in every if row["label"]]
    return "\n\n".join(parts + (["Class by class:", _table(by_class)] if by_class else []))


def _privacy(judgement: Judgement) -> str:
    rows = [row for row in pooled(judgement) if entry(row).group == "privacy"]
    parts = [_verdicts(judgement, ["privacy"]), _table(rows) if rows else "Whether the images give patients away was not measured."]
    return "\n\n".join([*parts, RIGHTS])


def _verdicts(judgement: Judgement, names: list[str]) -> str:
    found = {name: judgement["verdicts"].get(name) for name in names}
    return "\n".join(
        f"- {GROUPS[name]} **{verdict['mark']}**: {plain(verdict['text'])}" if verdict else f"- {GROUPS[name]} **not judged**"
        for name, verdict in found.items()
    )


def _table(rows: list[Row]) -> str:
    lines = [
        "| metric | name | value | 95 % interval | floor (held-out reals) | direction | judged / real images |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        value, ends = spelled(row["estimate"]) if row["estimate"] else (f"not defined: {row['undefined']}", "")
        floor = "{} ({})".format(*spelled(row["floor"])) if row["floor"] else "—"
        kind = CATALOGUE[row["key"]]
        cells = (kind.title, row["name"], value, ends, floor, DIRECTIONS[kind.better], f"{row['n_fake']:,} / {row['n_real']:,}")
        lines.append("| " + " | ".join(map(plain, cells)) + " |")
    return "\n".join(lines)


def _caveats(judgement: Judgement) -> str:
    flagged = [f"{row['name']}: {row['unordered']}" for row in judgement["results"] if row["unordered"]]
    undefined = [f"{row['name']} is not defined: {row['undefined']}" for row in judgement["results"] if row["estimate"] is None]
    said = [*judgement["notes"], *flagged, *undefined, "Nothing here was validated for clinical use."]
    return "\n".join(f"- {plain(sentence)}" for sentence in said)


def _reproduce(judgement: Judgement) -> str:
    subject = judgement["subject"]
    known = f"the file with SHA-256 {subject['sha256']}" if subject.get("sha256") else "the same images"
    hashed = plain(recorded(judgement["data"], "split_hash"))
    return (
        f"With medgan_pl {plain(recorded(judgement, 'version'))}, {plain(known)}, the data whose split has the hash {hashed}, and the\n"
        "settings in `metrics.json` (`settings`; those of the training under `run`):\n\n"
        f"```\npython -m medgan_pl.evaluate {COMMANDS[subject['kind']]}\n```"
    )
