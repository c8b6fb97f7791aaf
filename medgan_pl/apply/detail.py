"""The losses of an image on its way: the detail through the spacing of training, and the values outside the intensity window."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medgan_pl.data.intensity import Levels
from medgan_pl.data.prepare.layouts import Layout
from medgan_pl.data.readers.scan import Scan

# The largest factor by which resolution may fall unless the user asks for more: about one step of a pixel size, as 0.7 to 1 mm.
MAX_COARSENING = 1.5


@dataclass(frozen=True)
class Loss:
    """The resolution that a scan had and that its result has, along each axis of an image: `before` and `after`, in `unit`.

    `unit` is "mm" for the side of a pixel, or "pixels" for the number of them in a film without a spacing. `factor`: of the axis that
    loses most.
    """

    unit: str
    before: tuple[float, ...]
    after: tuple[float, ...]
    factor: float

    @classmethod
    def of(cls, scan: Scan, layout: Layout, scales: Sequence[float] | None) -> "Loss | None":
        """Return the loss of a scan whose pixels become `scales` times as wide, None if no axis becomes coarser."""
        if scales is None or max(scales) <= 1 + 1e-6:
            return None
        layout = layout.of(scan)
        coarser = [max(1.0, scale) for scale in scales]
        if scan.spacing_mm is not None:
            before = layout.within(scan.spacing_mm)
            return cls("mm", tuple(before), tuple(mm * by for mm, by in zip(before, coarser, strict=True)), max(coarser))
        before = layout.within(scan.pixels.shape)
        return cls("pixels", tuple(before), tuple(round(n / by) for n, by in zip(before, coarser, strict=True)), max(coarser))

    def __str__(self) -> str:
        form = ".3g" if self.unit == "mm" else "d"
        before, after = (" × ".join(f"{value:{form}}" for value in side) for side in (self.before, self.after))
        return f"detail of {before} {self.unit} becomes detail of {after} {self.unit}, {self.factor:.3g} times as coarse, on the old grid"

    def plain(self) -> dict[str, Any]:
        """Return the loss for the sidecar."""
        return {"unit": self.unit, "before": list(self.before), "after": list(self.after), "factor": self.factor}


@dataclass(frozen=True)
class Clipped:
    """The values of a scan that come back at the end of the intensity window: `voxels` of `of`, its padding not counted.

    `lowest` and `highest`: of all its values. `windows`: the levels of the scan, in `unit`; a value in one of them is kept.
    """

    voxels: int
    of: int
    lowest: float
    highest: float
    windows: Levels
    unit: str

    @classmethod
    def among(cls, scan: Scan, levels: Levels, unit: str) -> "Clipped | None":
        """Return the values of a scan that lie in none of the windows, None if all lie in one."""
        values = scan.pixels if scan.padding is None else scan.pixels[~scan.padding]
        kept = np.zeros(values.shape, bool)
        for low, high in levels:
            kept |= (values >= low) & (values <= high)
        voxels = int(kept.size - kept.sum())
        return cls(voxels, kept.size, float(values.min()), float(values.max()), levels, unit) if voxels else None

    @property
    def share(self) -> float:
        return self.voxels / self.of

    def __str__(self) -> str:
        windows = " and ".join(f"{low:.6g} to {high:.6g}" for low, high in self.windows)
        return (
            f"{self.voxels:,} of {self.of:,} values ({self.share:.2%}) lie outside the window {windows} {self.unit}, "
            f"as they reach from {self.lowest:.6g} to {self.highest:.6g}, and were set to its end"
        )

    def plain(self) -> dict[str, Any]:
        """Return the count for the sidecar."""
        return asdict(self) | {"windows": [list(window) for window in self.windows]}


def clipping(clipped: Mapping[str, Clipped], count: int) -> str:
    """Return what to say of `count` images, some of which have values outside the window; those by their name."""
    name = max(clipped, key=lambda each: clipped[each].share)
    return (
        f"{len(clipped)} of {count} have values outside the intensity window, the most {name}: {clipped[name]}; the sidecars count "
        "them (`clipped`); to keep them, train with wider levels (data.intensity)"
    )


def check_loss(loss: Loss | None, *, enlarged: bool, coarser: bool) -> None:
    """Raise ValueError for an image that is to be `enlarged` and would first be shrunk, and for a larger loss that is not asked for."""
    if loss is not None and enlarged:
        raise ValueError(
            f"a generator that enlarges must take the image as it is, and resample=true would shrink it first: {loss}; force=true without "
            "resample takes it unchanged; for the right sharpness train on sources of its resolution (data.patches)"
        )
    if loss is not None and loss.factor > MAX_COARSENING * (1 + 1e-6) and not coarser:
        raise ValueError(
            f"resample=true may lose a factor of {MAX_COARSENING:g} of resolution, and here {loss}; train at its resolution "
            "(data.patches), or accept the loss with coarser=true"
        )


def ways_out(loss: Loss | None, *, enlarged: bool) -> str:
    """Return what to do with an image of another spacing than that of training."""
    unchanged = "force=true uses it unchanged"
    if loss is not None and enlarged:
        return f"{unchanged}; to shrink what is to be enlarged would lose its detail"
    if loss is not None and loss.factor > MAX_COARSENING * (1 + 1e-6):
        return f"{unchanged}; resample=true coarser=true resamples it there and the result back, and {loss}"
    return f"resample=true resamples it there and the result back, {unchanged}"
