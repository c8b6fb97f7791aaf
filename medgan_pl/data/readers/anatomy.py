"""Rules that pass over images that are no anatomy, or no slices of a volume: by ImageType, description and number of slices."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from medgan_pl.data.readers.header import Header

# Values of ImageType (DICOM C.8.13.3.1.1, C.7.6.1.1.2 and as vendors write them), in upper case; the first rule that fits gives the reason.
LOCALIZERS = {"LOCALIZER", "LOCALISER", "SCOUT", "SCANOGRAM", "TOPOGRAM", "SURVEY"}
SCREENS = {"SCREEN SAVE", "SCREENSAVE", "CSA REPORT", "DOSE_INFO", "DOSE INFO", "HISTOGRAM"}
PHASES = {"P", "PHASE", "PHASE MAP", "PHASE_MAP", "VELOCITY", "VELOCITY MAP", "R", "REAL", "I", "IMAGINARY", "FIELD_MAP", "B0", "B0 MAP"}
PROJECTIONS = {
    *("MIP", "MINIP", "MNIP", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "MAXIMUM INTENSITY PROJECTION", "MINIMUM INTENSITY PROJECTION"),
    *("VOLREN", "VRT", "VR", "SSD", "3D RENDERING", "VOLUME RENDERING", "CURVED", "CPR", "CURVED_MPR"),
}
MAPS = {
    *("ADC", "ADC MAP", "ADC_MAP", "ADC_UNSPECIFIED", "EADC", "EXP_ADC", "FA", "FA MAP", "DIFFUSION MAP", "COLFA", "TENSOR", "TENSOR_B0"),
    *("CBF", "CBV", "RCBF", "RCBV", "RELCBF", "RELCBV", "MTT", "RELMTT", "TTP", "TMAX", "GBP", "PBP", "TEMP_MAP", "T_TEST"),
    *("T1 MAP", "T1_MAP", "T2 MAP", "T2_MAP", "T2_STAR MAP", "T2* MAP", "T2STAR_MAP", "R2 MAP", "R2_MAP", "R2_STAR MAP", "R2* MAP"),
    *("FAT FRACTION", "FAT_FRACTION", "STIFFNESS MAP", "SUB", "SUBTRACTION", "SUBTRACT"),
}
TYPES = {
    "localizers (scouts, by ImageType)": LOCALIZERS,
    "reports and screens (by ImageType)": SCREENS,
    "projections and renderings (MIP, by ImageType)": PROJECTIONS,
    "maps computed from images (ADC, perfusion, subtraction, by ImageType)": MAPS,
}
PHASE = "phase, real or imaginary images (by ImageType)"
MOSAIC = "MOSAIC images, the slices of a volume tiled into one; dcm2niix converts them to NIfTI"
DERIVED = "derived series beside original ones of the patient (by ImageType)"
OTHER_TYPE = "series of another image type (data.modality.image_type)"
REFORMATTED = {"SECONDARY", "MPR", "REFORMATTED", "RESAMPLED"}
# Words of a SeriesDescription; a name of a person that holds one of them as a word of its own is not known.
DESCRIBED = re.compile(
    r"(?i)(?<![a-z])(locali[sz]ers?|locators?|loc|scouts?|surveys?|(3|three)[-_ ]?plane|topograms?|scanograms?|surview|smart[-_ ]?prep|"
    r"pre[-_ ]?monitoring|monitoring|(care[-_ ]?|test[-_ ]?)?bolus([-_ ]?(tracking|track|timing|tracker))?|timing([-_ ]?(bolus|run))?|"
    r"tracker|dose[-_ ]?(report|info))(?![a-z])"
)
NAMED = "localizers and timing slices (by SeriesDescription, of at most {n} slices)"
PLANES = "localizers (planes that cross in one series)"
ONE_PLACE = "timing slices (several images at one place, and no other place)"
FEW = "series of at most {n} slices beside a longer one of the patient (localizers, timing slices)"
# A localizer or a timing series has no more slices; a longer series beside it has at least as many times as many.
SMALL, FEWEST, TIMES = 40, 5, 4
CROSSED = np.cos(np.radians(45))


@dataclass(frozen=True)
class Choice:
    """The user's choice of DICOM series; None takes all that are anatomy.

    - `series`: a regular expression that must occur in the SeriesDescription.
    - `image_type`: one that must occur in the ImageType, its values joined by a backslash. It replaces our own rules about ImageType.
    - `volume`: which volume of a series or a NIfTI file that holds several: first, all, or a number from 1; None refuses them.

    Raise ValueError for text that is no regular expression, and for another volume.
    """

    series: str | None = None
    image_type: str | None = None
    volume: str | int | None = None

    def __post_init__(self) -> None:
        number = type(self.volume) is int and self.volume >= 1
        if not (number or self.volume in (None, "first", "all")):
            raise ValueError(f"data.modality.volume must be first, all, a number from 1, or null, got {self.volume}")
        for name in ("series", "image_type"):
            text = getattr(self, name)
            try:
                re.compile(text or "")
            except (re.error, TypeError) as error:
                raise ValueError(f"data.modality.{name} must be a regular expression, got {text!r}: {error}") from None


def no_anatomy(header: Header, image_type: str | None = None) -> str | None:
    """Return the reason why one file is no slice of anatomy, by its ImageType, or None; `image_type` as in Choice."""
    if header.tiles > 1 or "MOSAIC" in header.image_type:
        return MOSAIC
    if image_type is not None:
        return None if re.search(image_type, "\\".join(header.image_type)) else OTHER_TYPE
    found = set(header.image_type[2:])  # after ORIGINAL or DERIVED, and PRIMARY or SECONDARY
    if "LOCALIZER" in header.image_type:
        return next(iter(TYPES))
    if header.component in PHASES or (header.modality == "MR" and found & PHASES and "M" not in found):
        return PHASE
    return next((reason for reason, values in TYPES.items() if found & values), None)


def odd_ones(groups: Sequence[Sequence[Header]], choice: Choice) -> dict[int, str]:
    """Return the places of the series (each in order) that are no anatomy by more than one file shows, with the reasons.

    What the user chose by `series` is not judged by its description or its length, nor by `image_type` for being derived.
    """
    found: dict[int, str] = {}

    def mark(reason: str, rule: Callable[[Sequence[Header]], bool]) -> None:
        found.update({i: reason for i, group in enumerate(groups) if i not in found and rule(group)})

    if choice.series is None:
        mark(NAMED.format(n=SMALL), lambda group: slices(group) <= SMALL and bool(DESCRIBED.search(group[0].description)))
        mark(PLANES, lambda group: slices(group) <= SMALL and crossed(group))
        if choice.volume is None:
            mark(ONE_PLACE, one_place)
        longest = largest(groups, {*range(len(groups))} - {*found})
        mark(FEW.format(n=FEWEST), lambda group: slices(group) <= FEWEST and slices(group) * TIMES <= longest[person(group[0])])
    if choice.image_type is None:
        original = {person(g[0]) for i, g in enumerate(groups) if i not in found and g[0].image_type[0] == "ORIGINAL"}
        mark(DERIVED, lambda group: derived(group[0]) and person(group[0]) in original)
    return found


def person(header: Header) -> str | None:
    """Return the patient's identity, or the study if the file names no patient."""
    return header.patient or header.study


def largest(groups: Sequence[Sequence[Header]], places: set[int]) -> Counter[str | None]:
    """Return the number of slices of the longest series of each person."""
    sizes: dict[str | None, int] = defaultdict(int)
    for i in places:
        sizes[person(groups[i][0])] = max(sizes[person(groups[i][0])], slices(groups[i]))
    return Counter(sizes)


def slices(group: Sequence[Header]) -> int:
    return sum(header.frames for header in group)


def derived(header: Header) -> bool:
    return header.image_type[0] == "DERIVED" and bool(REFORMATTED & set(header.image_type[1:])) and not header.synthetic


def crossed(group: Sequence[Header]) -> bool:
    """Return True for planes of which two stand at 45° or more."""
    axes = [np.cross(*np.reshape(header.orientation, (2, 3))) for header in group if header.orientation]
    return any(abs(float(np.dot(axes[0], axis))) < CROSSED for axis in axes)


def one_place(group: Sequence[Header]) -> bool:
    """Return True for at least two files of one frame that all lie at one place."""
    places = {(header.position, header.orientation) for header in group}
    return len(group) > 1 and len(places) == 1 and group[0].position is not None and all(header.frames == 1 for header in group)
