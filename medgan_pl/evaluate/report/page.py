"""The page: report.html in one file that loads nothing from outside itself."""

from collections.abc import Mapping
from functools import partial

from medgan_pl.evaluate.report import charts
from medgan_pl.evaluate.report.charts import Curve
from medgan_pl.evaluate.report.judgement import Judgement, grouped, pooled, severity_levels
from medgan_pl.evaluate.report.pictures import SHOWN, SHOWN_PAIRS, SHOWN_PER_CLASS, Pictures, closest_pairs, tile_side, tiles
from medgan_pl.evaluate.report.ruler import ruler
from medgan_pl.evaluate.report.templating import render
from medgan_pl.metrics.catalogue import GROUPS


def page(judgement: Judgement, pictures: Pictures, curves: Mapping[str, Curve]) -> str:
    """Return the HTML of the report.

    `judgement` has the containers of metrics.json. `curves` maps a column of metrics.csv to its (images, values).
    """
    side, synthetic = tile_side(pictures), judgement["subject"].get("kind") == "checkpoint"
    levels = severity_levels(judgement["results"]) or list(pictures.ladder)
    groups, drawn = grouped(judgement), charts.curves(curves)
    sections = {  # anchor -> title, template, content; a section without content is left out
        "glance": ("At a glance", "glance", judgement),
        "images": ("Real and generated images", "images", pictures),
        "numbers": ("The numbers", "legend", judgement["results"]),
        **{group: (GROUPS[group], "metrics", metrics) for group, metrics in groups.items()},
        "ladder": ("Sanity ladder", "ladder", levels),
        "pairs": ("The closest pairs", "pairs", closest_pairs(pictures, side, synthetic=synthetic)),
        "curves": ("How training went", "curves", drawn),
        "measured": ("How it was measured", "measured", judgement),
    }
    return render(
        "report.html.j2",
        judgement=judgement,
        subject=judgement["subject"],
        data=judgement["data"],
        pictures=pictures,
        shown={"all": SHOWN, "per_class": SHOWN_PER_CLASS, "pairs": SHOWN_PAIRS},
        synthetic=synthetic,
        sections={anchor: section for anchor, section in sections.items() if section[2]},
        levels=levels,
        ladder=[row for row in pooled(judgement) if row["ladder"]],
        tiles=partial(tiles, side=side),
        ruler=partial(ruler, levels=levels),
        ladder_chart=partial(charts.ladder_chart, levels=levels),
    )
