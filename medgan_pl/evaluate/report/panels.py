"""The parts of the page that show images: grids, the rungs of the ladder, the closest pairs."""

from collections.abc import Sequence

from torch import Tensor

from medgan_pl.evaluate.report.digits import number
from medgan_pl.evaluate.report.judgement import Judgement
from medgan_pl.evaluate.report.markup import Markup, element, joined, paragraph
from medgan_pl.evaluate.report.pictures import SHOWN, SHOWN_PAIRS, SHOWN_PER_CLASS, Pairs, Pictures, tile_side, tiles

# Of the smallest distance among strangers, below which a pair is marked: among more images the nearest is somewhat nearer by chance.
TOO_NEAR = 0.5
MADE = {"checkpoint": "Generated", "folder": "Judged", "baseline": "Baseline"}
PAIRS = (
    "In each pair: on the left one of the images that come nearest to the training set, on the right the training image it comes near to. "
    "Below them the same for real images of patients who were never shown in training: as near as strangers come. If the upper pairs look "
    "more alike than the lower ones, patients are repeated. Alike in posture and contrast is not alike in person: look at ribs, vessels "
    "and devices."
)


def beside(judgement: Judgement, pictures: Pictures) -> Markup:
    """Reals and fakes, as they came and not chosen; then class by class; then image by image those of a paired task."""
    made, synthetic, real = _words(judgement)
    side = tile_side(pictures)
    volumes = " Of each volume its middle slice is shown." if pictures.real.ndim == 5 else ""
    parts = [
        paragraph("Taken as they come, not chosen." + volumes),
        _two(pictures.real[:SHOWN], pictures.fake[:SHOWN], real, made, side, synthetic),
    ]
    for name, (fake, reference) in pictures.per_class.items():
        parts.append(element("h3", f"Class: {name}"))
        parts.append(_two(reference[:SHOWN_PER_CLASS], fake[:SHOWN_PER_CLASS], real, made, side, synthetic))
    if pictures.paired:
        columns = [_grid(tiles(images[:SHOWN_PAIRS], side), name, "in one order") for name, images in pictures.paired.items()]
        parts += [element("h3", "Image by image"), element("div", *columns, class_="paired")]
    return joined(*parts)


def _words(judgement: Judgement) -> tuple[str, bool, str]:
    """What the fakes are called, whether they are known to be synthetic, what the reals are called."""
    kind = judgement["subject"].get("kind")
    return MADE.get(kind, "Judged"), kind == "checkpoint", "Simulated patients" if judgement["data"].get("phantom") else "Real"


def _two(real: Tensor, fake: Tensor, real_name: str, made: str, side: int, synthetic: bool) -> Markup:
    left = _grid(tiles(real, side), real_name, "held out from training")
    right = _grid(tiles(fake, side, synthetic=synthetic), made, "synthetic" if synthetic else "what is judged")
    return element("div", left, right, class_="beside")


def _grid(uris: Sequence[str], name: str, said: str) -> Markup:
    pictures = [element("img", src=uri, alt=f"{name} image {n} of {len(uris)}") for n, uri in enumerate(uris, 1)]
    content = (
        element("div", *pictures, class_="tiles few" if len(uris) <= SHOWN_PER_CLASS else "tiles")
        if pictures
        else paragraph("No image to show.")
    )
    return element("figure", element("figcaption", element("strong", name), f" · {said}"), content)


def rungs(pictures: Pictures, names: Sequence[str]) -> Markup:
    """The example images of the ladder: of each rung by its number, before them those that are no rung."""
    numbers = {name: f"{n}. " for n, name in enumerate(names, 1)}
    shown = [name for name in pictures.ladder if name not in numbers] + [name for name in names if name in pictures.ladder]
    figures = []
    for name in shown:
        (uri,) = tiles(pictures.ladder[name][None], tile_side(pictures))
        picture = element("img", src=uri, alt=f"The example image, {name}")
        figures.append(element("figure", picture, element("figcaption", element("strong", numbers.get(name, "")), name)))
    return element("div", *figures, class_="strip") if figures else Markup("")


def closest(judgement: Judgement, pictures: Pictures) -> Markup:
    """The closest pairs in each space, and beside them how near strangers come."""
    if not pictures.pairs:
        return Markup("")
    made, synthetic, _ = _words(judgement)
    side = tile_side(pictures)
    parts = [paragraph(PAIRS)]
    for pairs in pictures.pairs:
        strangers = next((other for other in pictures.held_out_pairs if other.space == pairs.space), None)
        nearest = float(strangers.distance.min()) if strangers is not None and len(strangers.distance) else None
        parts.append(element("h3", f"Measured in: {pairs.space}"))
        parts.append(_list(pairs, f"{made} and its nearest training image", side, synthetic, nearest))
        if strangers is not None:
            parts.append(_list(strangers, "Held-out patient and the nearest training image: strangers", side, False, None))
    return joined(*parts)


def _list(pairs: Pairs, caption: str, side: int, synthetic: bool, nearest: float | None) -> Markup:
    """The nearest first; `nearest`: the smallest distance among strangers; a pair much nearer is marked."""
    order = pairs.distance.argsort()[:SHOWN_PAIRS]
    left, right = tiles(pairs.images[order], side, synthetic=synthetic), tiles(pairs.train[order], side)
    shown = []
    for n, (one, two, distance) in enumerate(zip(left, right, pairs.distance[order].tolist(), strict=True), 1):
        first = element("img", src=one, alt=f"{caption}, pair {n}: the image")
        second = element("img", src=two, alt=f"{caption}, pair {n}: the training image")
        near = nearest is not None and distance < TOO_NEAR * nearest
        warning = joined(" ", element("span", "⚠ far nearer than any stranger", class_="near")) if near else Markup("")
        text = element("figcaption", f"{n}. distance {number(distance)}", warning)
        shown.append(element("figure", element("div", first, second), text, class_="pair"))
    content = element("div", *shown, class_="pairs") if shown else paragraph("No pair to show.")
    return joined(element("h4", caption), content)
