"""The detail that an image loses on its way through the spacing of training: what is refused, and what is said of the rest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
