"""The headers of MetaImage and NRRD files."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import BinaryIO

import numpy as np

from medgan_pl.data.readers.scan import ScanError

MAX_HEADER = 2**20

META_TYPES = dict(MET_CHAR="i1", MET_UCHAR="u1", MET_SHORT="i2", MET_USHORT="u2", MET_INT="i4", MET_UINT="u4") | dict(
    MET_LONG_LONG="i8", MET_ULONG_LONG="u8", MET_FLOAT="f4", MET_DOUBLE="f8"
)

NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": "signed char, int8, int8_t",
        "u1": "uchar, unsigned char, uint8, uint8_t",
        "i2": "short, short int, signed short, signed short int, int16, int16_t",
        "u2": "ushort, unsigned short, unsigned short int, uint16, uint16_t",
        "i4": "int, signed int, int32, int32_t",
        "u4": "uint, unsigned int, uint32, uint32_t",
        "i8": "longlong, long long, long long int, signed long long, signed long long int, int64, int64_t",
        "u8": "ulonglong, unsigned long long, unsigned long long int, uint64, uint64_t",
        "f4": "float",
        "f8": "double",
    }.items()
    for name in names.split(", ")
}

NO_DATA_FILE = "the data file that the header names is not in its folder; copy both (lists and patterns are not read)"

# signs of x, y, z that convert the space named in the header to RAS
LPS = (-1.0, -1.0, 1.0)

NRRD_SPACES = {"right-anterior-superior": (1.0, 1.0, 1.0), "left-anterior-superior": (-1.0, 1.0, 1.0), "left-posterior-superior": LPS}


@dataclass(frozen=True)
class Layout:
    """The content of a header: shape (x, y, z), stored type with byte order, compression, place of the data, and affine.

    The affine maps indices (x, y, z) to RAS+ mm. If `data_file` is None, the data follow the header.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    packed: bool
    data_file: str | None
    affine: np.ndarray
    synthetic: bool


def beside(path: Path, name: str) -> Path:
    """Return the file of that name, or ./name, in the folder of `path`. Raise ScanError for a name that leads elsewhere."""
    name = re.sub(r"^(?:\.[/\\]+)+", "", name)
    plain = PureWindowsPath(name).name == name and "\0" not in name and len(os.fsencode(name)) < 256  # handles both kinds of slash
    if not plain or name in ("", ".", "..", path.name):
        raise ScanError("the data file must be given by its name alone and be in the same folder; other files are not opened")
    return path.with_name(name)


def lines_of(file: BinaryIO) -> Iterator[str]:
    """Yield the lines of a text header, without their ends, up to MAX_HEADER bytes or the end of the file."""
    left = MAX_HEADER
    while line := file.readline(left + 1):
        left -= len(line)
        if left < 0:
            raise ScanError(f"a header may have at most {MAX_HEADER:,} bytes, got more; not a NRRD or MetaImage file, or damaged")
        yield os.fsdecode(line).strip()


def meta_fields(file: BinaryIO) -> dict[str, str]:
    """Return key -> value, up to ElementDataFile, the last key before the data."""
    fields: dict[str, str] = {}
    for line in lines_of(file):
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals and line:
            break
        add(fields, key, value)
        if key == "ElementDataFile":
            return fields
    raise ScanError("not a NRRD or MetaImage file, or truncated in its header: every line must be Key = Value, the last ElementDataFile")


def nrrd_fields(file: BinaryIO) -> dict[str, str]:
    """Return field (lower case, no blanks: "spacedirections") -> value, up to the empty line before the data; drop `key:=value`."""
    lines = lines_of(file)
    fields = {"magic": next(lines)}  # NRRD0001 to NRRD0005
    for line in lines:
        if not line:
            break
        name, colon, value = line.partition(":")
        if line.startswith("#") or value.startswith("="):
            continue
        if not colon:
            raise ScanError("every line of a NRRD header must be `field: value`, got another; the file is damaged")
        add(fields, name.lower().replace(" ", ""), value.strip())
    else:
        if "datafile" not in fields:
            raise ScanError("truncated: a NRRD header must end with an empty line; copy the file again")
    return fields


def add(fields: dict[str, str], key: str, value: str) -> None:
    if key in fields:
        raise ScanError("every field of a header must be given once, got one twice; the header is damaged")
    fields[key] = value


def meta_layout(fields: dict[str, str]) -> Layout:
    """Return the layout of a MetaImage header. Its space is LPS, as in ITK; AnatomicalOrientation repeats the matrix and is not read."""
    expect(fields, "NDims", {"3"})
    expect(fields, "BinaryData", {"True"})
    expect(fields, "ObjectType", {"Image"}, absent="Image")
    expect(fields, "ElementNumberOfChannels", {"1"}, absent="1")
    expect(fields, "HeaderSize", {"0"}, absent="0")
    expect(fields, "DistanceUnits", {"mm"}, absent="mm")
    expect(fields, "ElementToIntensityFunctionSlope", {"1", "1.0"}, absent="1")  # some programs apply it, ITK does not
    expect(fields, "ElementToIntensityFunctionOffset", {"0", "0.0"}, absent="0")
    expect(fields, "CompressedData", {"True", "False"}, absent="False")
    matrix = (
        numbers(either(fields, "TransformMatrix", "Rotation", "Orientation"), 9).reshape(3, 3).T
    )  # one row for the direction of each index
    spacing = numbers(either(fields, "ElementSpacing"), 3)
    if not np.allclose(np.linalg.norm(matrix, axis=0), 1, atol=1e-3) or not (spacing > 0).all():
        raise ScanError(
            "TransformMatrix must hold directions of length 1 and ElementSpacing be above 0; the position of the voxels is unknown"
        )
    origin = numbers(either(fields, "Offset", "Position", "Origin"), 3)
    msb = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "")).lower()
    return Layout(
        shape=whole(either(fields, "DimSize")),
        dtype=dtype_of(META_TYPES.get(fields.get("ElementType", "")), {"true": ">", "false": "<"}.get(msb)),
        packed=fields.get("CompressedData", "").lower() == "true",
        data_file=None if fields["ElementDataFile"].upper() == "LOCAL" else fields["ElementDataFile"],
        affine=affine_of(matrix * spacing, origin, LPS),
        synthetic=fields.get("Comment", "").startswith("SYNTHETIC"),
    )


def nrrd_layout(fields: dict[str, str]) -> Layout:
    """Return the layout of a NRRD header. A space that does not name left, front and head is refused."""
    expect(fields, "dimension", {"3"})
    expect(fields, "encoding", {"raw", "gzip", "gz"})
    expect(fields, "byteskip", {"0"}, absent="0")
    expect(fields, "lineskip", {"0"}, absent="0")
    if {"oldmin", "oldmax"} & set(fields):
        raise ScanError("a NRRD must hold its original values, got quantized ones (old min, old max); save it as float")
    if not set(fields.get("kinds", "domain").lower().split()) <= {"domain", "space", "???", "none"}:
        raise ScanError("every axis of a NRRD must be spatial, got colors, vectors or times (kinds); extract one volume")
    if not set(fields.get("spaceunits", '"mm"').lower().split()) <= {'"mm"', '""', '"???"'}:
        raise ScanError("space units must be mm; convert the file")
    signs = NRRD_SPACES.get(fields.get("space", "").lower())
    if signs is None or "spacedirections" not in fields or "spaceorigin" not in fields:
        raise ScanError("orientation unknown: space (RAS, LAS or LPS), space directions and space origin must be given; save it anew")
    columns = numbers(fields["spacedirections"], 9).reshape(3, 3).T
    return Layout(
        shape=whole(either(fields, "sizes")),
        dtype=dtype_of(NRRD_TYPES.get(fields.get("type", "").lower()), {"big": ">", "little": "<"}.get(fields.get("endian", "").lower())),
        packed=fields["encoding"].lower() != "raw",
        data_file=fields.get("datafile"),
        affine=affine_of(columns, numbers(fields["spaceorigin"], 3), signs),
        synthetic=fields.get("content", "").startswith("SYNTHETIC"),
    )


def expect(fields: dict[str, str], key: str, accepted: set[str], absent: str = "") -> None:
    """Raise ScanError unless the field, or `absent` if it is missing, is one of `accepted`; case is ignored."""
    if fields.get(key, absent).lower() not in {word.lower() for word in accepted}:
        raise ScanError(f"{key} must be {' or '.join(sorted(accepted))}, got something else or nothing; save the volume anew")


def either(fields: dict[str, str], *keys: str) -> str:
    found = [fields[key] for key in keys if key in fields]
    if len(found) != 1:
        raise ScanError(f"the header must give {' or '.join(keys)} once, got {len(found)}; the position of the voxels must be known")
    return found[0]


def numbers(text: str, count: int) -> np.ndarray:
    """Return `count` numbers, separated by blanks, commas or brackets."""
    try:
        values = np.array([float(word) for word in text.translate(str.maketrans("(),", "   ")).split()])
    except ValueError:
        values = np.empty(0)
    if len(values) != count or not np.isfinite(values).all():
        raise ScanError(f"the position of the voxels must be given by {count} finite numbers; it is unknown")
    return values


def whole(text: str) -> tuple[int, ...]:
    words = text.split()
    if len(words) != 3 or not all(word.isascii() and word.isdigit() and len(word) < 19 for word in words):
        raise ScanError("the sides of a volume must be 3 whole numbers, 1 or more; the header is damaged")
    return tuple(int(word) for word in words)


def dtype_of(code: str | None, order: str | None) -> np.dtype:
    if code is None:
        raise ScanError("voxels must be integers or floats of up to 64 bits, got another type; save it as short or float")
    if order is None and code[1] != "1":
        raise ScanError("the byte order must be given; without it the values are unknown")
    return np.dtype((order or "") + code)


def affine_of(columns: np.ndarray, origin: np.ndarray, signs: tuple[float, float, float]) -> np.ndarray:
    """Return (4, 4), indices -> RAS+ mm; columns (3, 3): the step of each index in the header's space; `signs` convert it to RAS."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin
    affine[:3] *= np.array(signs)[:, None]
    return affine
