"""The patients whom the names of files tell: naming schemes of public sets, and doubts where names look like follow-ups."""

import re
from collections import defaultdict
from collections.abc import Sequence
from itertools import chain

from medgan_pl.data.files.names import bare

# With more folders than MANY, and fewer than FEW_EACH images in each, the folders are patients and not classes.
MANY, FEW_EACH = 10, 20
PICTURE, VOLUME, START = r"\.(?:png|jpe?g|tiff?)$", r"\.(?:nii|nii\.gz|nrrd|nhdr|mha|mhd)$", r"(?:^|/)"
# Words for a visit, and what follows them. They end a name of a person only with a number, or as one of the words that need none.
VISIT = r"(?:(?:ses|sess|session|visit|timepoint|tp|follow-?up|fu|week|month|year|scan)[-_]?[a-z]?\d+[a-z]?|baseline|follow-?up)"

# The group of each expression is the patient; the first that occurs in a path below the folders of split and class is taken.
SCHEMES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(expression))
    for name, expression in {
        "BIDS": START + r"(sub-[0-9A-Za-z]+)",
        "OASIS": r"(OAS[12]_\d{4}|OAS[34]\d{4})(?!\d)",
        "ADNI": r"(?<!\d)(\d{3}_S_\d{4,5})(?!\d)",
        "PPMI, AIBL, MIRIAD": START + r"((?:PPMI|AIBL|(?i:miriad))_\d+)(?=_)",
        "NACC": r"(NACC\d{6})(?!\d)",
        "IXI": START + r"(IXI\d{3})(?=-)",
        "HCP": START + r"(HC[ADP]\d{7}|\d{6})(?=_(?:V\d|3T|7T)_)",
        "UK Biobank": START + r"(\d{7})(?=_2\d{4}_\d_\d)",
        "BraTS 2023": r"(?i:(BraTS-[A-Z]+-\d{5})(?=-\d{3}(?!\d)))",
        "BraTS 2020": r"(?i:(BraTS(?:20)?2\d(?:_[A-Z]+)?_\d{3,5})(?=[_/.]))",
        "BraTS 2017": r"(?i:(BraTS1\d_(?:TCIA\d*|CBICA|TMC|UAB|WashU|2013)_[A-Z0-9]+)(?=_\d))",
        "TCGA": r"(TCGA[-_][0-9A-Z]{2}[-_][0-9A-Z]{4})(?![0-9A-Z])",
        "TCIA": START + r"((?:LIDC-IDRI|UPENN-GBM|UCSF-PDGM|(?i:ProstateX)|LUNG1|R01|AMC|QIN-[A-Z-]+|CPTAC-[A-Z-]+)-\d{3,5})(?!\d)",
        "ISBI 2015": START + r"((?:training|test)\d\d)(?=_\d\d[_/.])",
        "PI-CAI": START + r"(\d{5})(?=_\d{7}[_/.])",
        "MIMIC-CXR": r"(?:p1\d/)?(p1\d{7})(?=/s\d+)",
        "CheXpert, MURA": START + r"(patient\d+)(?=[/_-]study)",
        "NIH ChestX-ray14": START + r"(\d{8})(?=_\d{3}" + PICTURE + ")",
        "PadChest": START + r"(\d{30,50})(?=_[^/]+" + PICTURE + ")",
        "Kermany": START + r"(person\d+|(?:NORMAL2-)?IM-\d+(?=-\d+.*" + PICTURE + "))",
        "Kermany, Mendeley": START + r"(?:BACTERIA|VIRUS|NORMAL|CNV|DME|DRUSEN)-(\d+)(?=-\d+" + PICTURE + ")",
        "CBIS-DDSM": r"(?<![A-Za-z])(P_\d{5})(?=_(?:LEFT|RIGHT))",
        "INbreast": START + r"\d{8}_([0-9a-f]{16})(?=_MG_)",
        "GRAZPEDWRI": START + r"(\d{4})(?=_\d{10}_\d\d_)",
        "people": r"(?i:(?:^|[-_ /])((?:patient|subject|subj|person|participant|volunteer|proband|pat|pt)[-_ ]?\d+)(?=[-_ ./]|$))",
        "visits": r"(?i:^([^/]+?)(?=[-_]" + VISIT + r"(?:[-_./]|$)))",
        "nnU-Net": START + r"([^/]+_\d+)(?=_000\d" + VOLUME + ")",
    }.items()
)
STUDIES = "PadChest"  # its names hold the study; the patient stands in its table alone
# The ends that may tell a visit: a date, two fields, one field, one that begins with a letter after a digit.
FIELD = r"[-_. ][^-_. /]+"
DATE = rf"[-_. ]?(?:19|20)\d\d[-_.]?[01]\d[-_.]?[0-3]\d(?:\d{{6}})?(?:{FIELD})*"
ENDS = (DATE, f"{FIELD}{FIELD}", FIELD, r"(?<=\d)[A-Za-z][^-_. /]*")
FILE_END = r"(?:\.nii)?\.[A-Za-z]+$"


def scheme_of(inner: str) -> tuple[str, re.Match[str]] | None:
    """Return the naming scheme of a path and its match, whose group is the patient; None for a path of no known scheme."""
    return next(((name, found) for name, pattern in SCHEMES if (found := pattern.search(inner))), None)


def person(inner: str) -> str | None:
    """Return the patient whom a path names: by a known scheme, else by its first folder, else None."""
    known = scheme_of(inner)
    folder, slash, _ = inner.partition("/")
    return known[1].group(1) if known else folder if slash else None


def are_people(paths: Sequence[Sequence[str]]) -> bool:
    """Return True if the first folder of most paths (their parts) belongs to the name of a patient in a known scheme."""
    known = [scheme_of("/".join(parts)) for parts in paths]
    return 2 * sum(bool(found) and found[1].start() < len(parts[0]) for found, parts in zip(known, paths, strict=True)) > len(paths)


def doubts(inners: Sequence[str]) -> list[str]:
    """Return a sentence for each reason to believe that these paths are of fewer people than `person` finds. No sentence holds a name."""
    named = [(inner, scheme_of(inner)) for inner in inners]
    free = [inner for inner, known in named if known is None]
    folders = {inner.partition("/")[0] + "/" for inner in free if "/" in inner}
    files = {inner for inner in free if "/" not in inner}
    found = [follow_ups(sorted(folders), "/"), follow_ups(sorted(files), FILE_END)]
    patterns = [pattern for pattern, _, _, _ in filter(None, found)]
    said = [
        f"{ids} patients by their names may be {people} people: groups of names differ only in {what}; if they are, set "
        f"\"data.patient_pattern='{'|'.join(patterns)}'\"; if not, set \"data.patient_pattern='^[^/]+(?=/)'\""
        for _, ids, people, what in filter(None, found)
    ]
    if studies := sum(known is not None and known[0] == STUDIES for _, known in named):
        said.append(f"{studies} names of {STUDIES} hold a study, not the patient; list them in a CSV with the columns image and patient")
    return said


def follow_ups(names: Sequence[str], end: str) -> tuple[str, int, int, str] | None:
    """Return the pattern that joins different names to the fewest people, the numbers of names and people, and the kind of end; or None.

    A pattern joins where several groups differ only in their ends: people are many and each has few names, and the same ends come again.
    So classes (two beginnings, hundreds of numbers each) and hashes (no end twice) are left alone.
    """
    found = [joining for tail in ENDS if (joining := joined_without(tail, names, end))]
    return min(found, key=lambda joining: (joining[2], len(joining[0])), default=None)


def joined_without(tail: str, names: Sequence[str], end: str) -> tuple[str, int, int, str] | None:
    """Return what `follow_ups` does, for the names without this tail."""
    pattern = rf"^[^/]+?(?=(?:{tail})?{end})"
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        if match := re.search(pattern, name):
            groups[match.group(0)].append(bare(name[match.end() :]).rstrip("/"))
    members, people = sum(map(len, groups.values())), len(groups)
    tails = [rest for rest in chain(*groups.values()) if rest]
    few = members < people * people or (tail in ENDS[2:] and people > MANY and members < FEW_EACH * people)
    again = tail == DATE or 2 * len(set(tails)) <= len(tails)
    if not (few and again and sum(len(group) > 1 for group in groups.values()) > 1):
        return None
    number = all(rest.strip("-_. ").isdigit() for rest in tails)
    return pattern, members, people, "a last date" if tail == DATE else "a last number" if number else "their last words"
