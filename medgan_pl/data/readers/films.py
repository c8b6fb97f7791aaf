"""Choose the films among DICOM files: reports, directories, slices, screenshots and raw copies of a film are none."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from medgan_pl.data.readers.header import EXPOSURE_TAGS, Header
from medgan_pl.data.readers.series import NO_IMAGE, SECONDARY_CAPTURE

# Modalities (DICOM PS3.3 C.7.3.1.1.1) of single projections by X-rays. Some sets are stored as secondary captures of these modalities.
PROJECTIONS = ("CR", "DR", "DX", "IO", "MG", "PX", "RF", "RG", "XA")
# Classes of DX, MG and IO For Processing, of files that state no PresentationIntentType.
FOR_PROCESSING = tuple(f"1.2.840.10008.5.1.4.1.1.1.{kind}.1" for kind in (1, 2, 3))
UNIQUE = EXPOSURE_TAGS.index("IrradiationEventUID")


def no_films(headers: Iterable[Header], others: Sequence[str]) -> dict[Path, str]:
    """Return for each file that is no film the reason why it is passed over. `others`: modalities whose images are no films.

    - A file without an image: DICOMDIR, a report, a presentation state. A file that claims an image and has none is a bad film.
    - An image of several frames: tomosynthesis, fluoroscopy, angiography.
    - A secondary capture beside films: in a study with another film, or of no modality of films. A set of nothing else keeps them.
    - An image for processing, if the set holds the image for presentation of the same exposure.
    """
    reasons, left = {}, []
    for header in headers:
        if not header.has_pixels and not header.claims_image:
            reasons[header.path] = NO_IMAGE
        elif header.modality in others:
            reasons[header.path] = f"images of modality {header.modality}, which are no films"
        elif header.frames > 1:
            reasons[header.path] = "images of several frames (tomosynthesis, fluoroscopy), which are no films"
        else:
            left.append(header)
    captured = [header for header in left if header.sop_class.startswith(SECONDARY_CAPTURE)]
    proper = {header.study for header in left if not header.sop_class.startswith(SECONDARY_CAPTURE)}
    films = bool(proper) or any(header.modality in PROJECTIONS for header in captured)
    for header in captured:
        beside = header.study is not None and header.study in proper
        if beside or (films and header.modality not in PROJECTIONS):
            reasons[header.path] = "secondary captures (reports, screenshots)"
    return reasons | dict.fromkeys(raw_copies(left), "images for processing, beside the same for presentation")


def raw_copies(headers: Sequence[Header]) -> list[Path]:
    """Return the files for processing of which the image for presentation is there."""
    shown: dict[str | None, list[Header]] = {}
    for header in headers:
        if not for_processing(header) and header.intent == "FOR PRESENTATION":
            shown.setdefault(header.study, []).append(header)
    raw = [header for header in headers if for_processing(header) and header.study is not None]
    return [header.path for header in raw if any(same_exposure(header, other) for other in shown.get(header.study, ()))]


def for_processing(header: Header) -> bool:
    return header.intent == "FOR PROCESSING" or (not header.intent and header.sop_class in FOR_PROCESSING)


def same_exposure(one: Header, other: Header) -> bool:
    """Return True unless a fact that both state differs; an equal IrradiationEventUID decides alone."""
    pairs = list(zip(one.exposure, other.exposure, strict=True))
    if all(pairs[UNIQUE]):
        return pairs[UNIQUE][0] == pairs[UNIQUE][1]
    return one.modality == other.modality and all(a == b for a, b in pairs if a and b)
