"""The model card: what a model is, what it may be used for and how good it is, without an image and without a path."""

from medgan_pl.evaluate.report.judgement import Judgement, entry, ordered, pooled
from medgan_pl.evaluate.report.templating import render

COMMANDS = {"checkpoint": "checkpoint=… data.root=…", "folder": "fake=… real=…", "baseline": "baseline=… data.root=…"}


def card(judgement: Judgement) -> str:
    """Return model_card.md, with the sections of Mitchell et al. 2019 (arXiv 1810.03993) and how to reproduce the numbers.

    Facts that nobody recorded are named as not recorded. Paths are left out. Names of classes are not: read them before you share the card.
    """
    rows = pooled(judgement)
    return render(
        "model_card.md.j2",
        judgement=judgement,
        subject=judgement["subject"],
        data=judgement["data"],
        rows=[row for row in rows if entry(row).group != "privacy"],
        by_class=ordered([row for row in judgement["results"] if row["label"] and entry(row).group != "privacy"]),
        privacy=[row for row in rows if entry(row).group == "privacy"],
        command=COMMANDS[judgement["subject"]["kind"]],
    )
