"""Read a DICOM series as a volume: order, check and stack the slices."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom

from medgan_pl.data.readers.dicom import read_frame
from medgan_pl.data.readers.frames import Frames, slices_of
from medgan_pl.data.readers.header import Header, read_header
from medgan_pl.data.readers.scan import MAX_SLANT_DEG, Scan, ScanError, bound, canonical, spacing_of
from medgan_pl.data.readers.stacks import SAME_PLACE_MM, directions, in_order, volumes_of
from medgan_pl.data.readers.straight import RAS, affine_lps, made_straight, near

CALIBRATED = ("CT", "PT")  # HU, Bq/ml: without a rescale the values are raw
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
NO_IMAGE = "no image (a report, a plan, a directory)"
# Headers round positions, commonly to 0.1 mm at worst; slices farther off the even grid are not evenly spaced.
UNEVEN_MM, UNEVEN_SHARE = 0.06, 0.01


class Loose(ScanError):
    """Slices that are on no even, straight grid, or whose thickness is unknown: good one by one, and no volume."""


def slices_in(paths: Sequence[Path], part: int | None = None) -> list[Header]:
    """Return the headers of the slices of a volume in order; each frame of a multi-frame file is a slice. `part` as in `read_series`."""
    slices = slices_of([read_header(path) for path in sorted(paths)])
    return in_order(slices) if part is None else volumes_of(slices)[part]


def read_series(paths: Sequence[Path], part: int | None = None, straighten: bool = False) -> Scan:
    """Return the volume of one series' files (in any order), in HU (CT) or native units, with the axes of scan.canonical.

    Raise ScanError for slices of different kinds, without position, twice at one place, color, MONOCHROME1, CT and PET without a
    rescale; NoDecoder if the decoder for the compression is not installed. `part`: the place of the volume among those of the series
    (`stacks.volumes_of`); None: its only one. A single slice has its depth from SliceThickness, else SpacingBetweenSlices. Messages
    count slices from 1 along the normal. Memory: the volume, one byte a voxel for padding, one slice; the pixels of a multi-frame file.

    Slices of a tilted gantry, at uneven steps (by more than 1 % of the step and 0.06 mm), with a gap, or of unknown thickness are
    `loose`; `straighten` resamples those of a tilted gantry and at uneven steps to a straight grid.
    """
    if not paths:
        raise ScanError("a series must have at least one file, got none")
    headers = slices_in(paths, part)
    try:
        check_alike(headers)
        affine, loose = grid_or_near(headers)
        bound((len(headers), headers[0].rows, headers[0].columns), np.dtype(np.float32).itemsize)
        volume, padding, bits = stack(headers)
    except ScanError as error:  # its place in the order of slices becomes that in the order of `paths`
        place = None if error.file is None else list(paths).index(headers[error.file].path)
        raise ScanError(str(error), place) from None
    notes = () if loose is None else (f"{loose.partition(';')[0]}; in 2-D each slice is used as it is",)
    if loose is not None and straighten and len(headers) > 1:
        volume, padding, affine, notes = made_straight(headers, volume, padding, loose)
        loose = None
    turned, turned_affine = canonical(volume, affine)
    return Scan(
        turned,
        spacing_mm=spacing_of(turned_affine),
        affine=turned_affine,
        padding=None if padding is None else canonical(padding, affine)[0],
        bits=bits,
        synthetic=any(header.synthetic for header in headers),
        notes=notes,
        loose=loose,
        acquired=int(np.abs(np.linalg.solve(affine[:3, :3], turned_affine[:3, :3]))[0].argmax()),
    )


def grid_or_near(headers: Sequence[Header]) -> tuple[np.ndarray, str | None]:
    """Return the affine of `grid` and None; for slices on no even, straight grid one near it, and the reason.

    Raise ScanError for slices that are no volume at all, two at one place.
    """
    try:
        return grid(headers), None
    except Loose as error:
        return RAS @ affine_lps(headers, near(headers)), str(error)


def check_alike(headers: Sequence[Header]) -> None:
    """Raise ScanError unless all are single gray frames of one kind, with a position."""
    total = len(headers)
    for fault, bad in (
        ("a slice must have pixel data, got none in {}", [not h.has_pixels for h in headers]),
        ("a slice must be gray, got color in {}", [h.samples != 1 for h in headers]),
        (
            "a slice must be MONOCHROME2, got another PhotometricInterpretation in {}; it is unknown whether to invert its values: "
            "convert it yourself",
            [h.photometric != "MONOCHROME2" for h in headers],
        ),
        ("slice position (ImagePositionPatient) missing in {}", [h.position is None for h in headers]),
        ("slice orientation (ImageOrientationPatient) missing in {}", [h.orientation is None for h in headers]),
        ("pixel spacing (PixelSpacing) missing in {}", [h.pixel_spacing_mm is None for h in headers]),
    ):
        if any(bad):
            raise ScanError(fault.format(f"{sum(bad)} of {total} files"), None if all(bad) else bad.index(True))
    check_same(headers)


def check_same(headers: Sequence[Header]) -> None:
    """Raise ScanError unless all slices have one patient, modality, size, spacing and orientation."""
    if len({h.patient for h in headers}) > 1:
        raise ScanError("all slices must be of one patient, got several PatientIDs; a series number used twice?")
    for name, kinds in (("modality", {h.modality for h in headers}), ("size in pixels", {(h.rows, h.columns) for h in headers})):
        if len(kinds) > 1:
            raise ScanError(f"all slices must have the same {name}, got {len(kinds)} of them; several series in one?")
    for name, values, tolerance in (
        ("PixelSpacing", np.array([h.pixel_spacing_mm for h in headers]), 1e-4),
        ("orientation", np.array([h.orientation for h in headers]), 1e-3),
    ):
        off = np.abs(values - np.median(values, axis=0)).max(axis=1) > tolerance
        if off.any():
            raise ScanError(
                f"all slices must have the same {name}, got another in {off.sum()} of {len(headers)} files; several series in one?",
                int(off.argmax()),
            )
    norms = np.linalg.norm(np.reshape(headers[0].orientation, (2, 3)), axis=1)
    if np.abs(norms - 1).max() > 0.01:
        raise ScanError("ImageOrientationPatient must be two unit vectors, got others; repair the header")


def grid(headers: Sequence[Header]) -> np.ndarray:
    """Return (slice, row, column) -> RAS mm, (4, 4), of ordered slices; raise ScanError unless they lie on an even, straight grid."""
    normal = directions(headers[0])[2]
    positions = np.array([header.position for header in headers])  # (n, 3)
    if len(headers) == 1:
        depth = headers[0].thickness_mm or headers[0].between_mm
        if depth is None:
            raise Loose("a single slice must state its thickness, got neither SliceThickness nor SpacingBetweenSlices")
        step = normal * depth
    else:
        steps = np.diff(positions @ normal)
        refuse_doubles(headers, steps)
        step = (positions[-1] - positions[0]) / (len(headers) - 1)
        tilt = np.degrees(np.arctan2(np.linalg.norm(step - (step @ normal) * normal), step @ normal))
        if tilt > MAX_SLANT_DEG:
            raise Loose(
                f"slices must be stacked along their normal within {MAX_SLANT_DEG:g}°, got {tilt:.1f}° (a tilted gantry); "
                "set data.modality.straighten=true to resample it in 3-D, or convert it with dcm2niix"
            )
        refuse_gaps(steps)
        off = np.abs(positions - positions[0] - np.arange(len(headers))[:, None] * step).max()
        if off > max(UNEVEN_MM, UNEVEN_SHARE * np.linalg.norm(step)) + 1e-6:
            raise Loose(
                f"slices must be evenly spaced within {UNEVEN_SHARE:.0%} of their distance (or {UNEVEN_MM:g} mm), got distances "
                f"from {steps.min():.4g} to {steps.max():.4g} mm and positions {off:.2g} mm off; "
                "set data.modality.straighten=true to resample it in 3-D, or convert it with dcm2niix"
            )
    return RAS @ affine_lps(headers, step)


def refuse_doubles(headers: Sequence[Header], steps: np.ndarray) -> None:
    double = np.flatnonzero(steps < SAME_PLACE_MM)
    if len(double):
        first = int(double[0])
        one, other = (values for values, *_ in pixels_of(headers[first : first + 2]))
        pixels = (
            "the same pixels: a copy; remove it"
            if np.array_equal(one, other)
            else "other pixels: echoes, times or b-values? choose by data.modality.volume=first, all or a number from 1"
        )
        raise ScanError(
            f"each slice must have its own position, got {len(double)} of {len(headers)} at the position of another "
            f"(slices {first + 1} and {first + 2} have {pixels})",
            first + 1,
        )


def refuse_gaps(steps: np.ndarray) -> None:
    usual = np.median(steps)
    missing = np.round(steps / usual) - 1
    gaps = np.flatnonzero((missing >= 1) & (np.abs(steps / usual - np.round(steps / usual)) < 0.1))
    if len(gaps):
        n, count = int(gaps[0]) + 1, int(missing[gaps[0]])
        more = f"; {len(gaps) - 1} more gaps" if len(gaps) > 1 else ""
        raise Loose(
            f"a gap of {steps[gaps[0]]:.4g} mm between slices {n} and {n + 1} where {usual:.4g} mm is usual: "
            f"{count} slice{'s' if count > 1 else ''} missing{more}",
            n - 1,
        )


def pixels_of(headers: Sequence[Header]) -> Iterator[tuple[np.ndarray, np.ndarray, pydicom.Dataset]]:
    """Yield for each slice what `read_frame` returns; a multi-frame file is opened once. Errors as `read_frame`."""
    opened, path = None, None
    for header in headers:
        if header.frame is None:
            yield read_frame(header.path)
            continue
        if header.path != path:
            opened, path = Frames(header.path), header.path
        yield opened.read(header)


def stack(headers: Sequence[Header]) -> tuple[np.ndarray, np.ndarray | None, int]:
    """Return the volume (D, H, W) float32 with padding at the minimum outside it, the padding (bool; None: nowhere), bits of a value."""
    volume = np.empty((len(headers), headers[0].rows, headers[0].columns), np.float32)
    padding, minimum, bits = None, np.inf, 0
    read = pixels_of(headers)
    for i, header in enumerate(headers):
        try:
            values, outside, found = next(read)
            if header.modality in CALIBRATED and (found.get("RescaleIntercept") is None or found.get("ModalityLUTSequence")):
                raise ScanError(
                    f"{header.modality} must have RescaleSlope and RescaleIntercept, got none; the units of its values are unknown"
                )
            if values.shape != volume.shape[1:]:
                raise ScanError("the file changed while it was read")
        except ScanError as error:
            raise ScanError(f"slice {i + 1} of {len(headers)}: {error}", i) from None
        volume[i] = values
        bits = max(bits, int(found.BitsStored))
        minimum = min(minimum, values.min(where=~outside, initial=np.inf))
        if outside.any():
            padding = np.zeros(volume.shape, bool) if padding is None else padding
            padding[i] = outside
    if not np.isfinite(minimum):
        raise ScanError("a volume must have voxels besides padding, got padding in every voxel")
    if padding is not None:
        volume[padding] = minimum
    return volume, padding, bits
