"""Tell by its values whether a CT can be in HU: air at -1000, soft tissue near 0, and little as dense as cortical bone."""

import math
from collections.abc import Mapping

import numpy as np

AIR_HU, DENSE_HU, VOID_HU, SOFT_HU = -200, (850, 1250), -1500, (-200, 300)
SAMPLE = 2**18  # voxels that are looked at, about
# Shares of the voxels above the least value. Scans of heads and bodies have 0 to 3 % as dense as cortical bone, soft tissue that was
# shifted by 1000 or 1024 makes 9 to 90 %. Only a field inside the body has no air.
NO_AIR, TOO_DENSE, TOO_LOW, NO_TISSUE = 0.01, 0.08, 0.1, 0.05


def shares(pixels: np.ndarray) -> dict[str, float]:
    """Return the shares of the voxels that are air, dense, soft and lower than air; pixels (D, H, W).

    The least value is left out, as padding or the background, and the first three are shares of what is not lower than air.
    """
    step = math.ceil((pixels.size / SAMPLE) ** (1 / 3))
    some = pixels[::step, ::step, ::step]
    some = some[some > pixels.min()]
    void = float(np.mean(some < VOID_HU)) if some.size else 0.0
    body = some[some >= VOID_HU]
    within = {"air": (VOID_HU, AIR_HU), "dense": DENSE_HU, "soft": SOFT_HU} if body.size else {}
    found = {name: float(np.mean((body >= low) & (body < high))) for name, (low, high) in within.items()}
    return {"air": 0.0, "dense": 0.0, "soft": 0.0, **found, "void": void}


def no_hu(found: Mapping[str, float]) -> str | None:
    """Return the reason why a scan of these `shares` cannot be in HU, or None."""
    if found["air"] < NO_AIR and found["dense"] > TOO_DENSE:
        return (
            f"{found['dense']:.0%} of its values lie from {DENSE_HU[0]} to {DENSE_HU[1]}, and {found['air']:.1%} are air: 1000 or 1024 was "
            "added, or RescaleIntercept is 0 by mistake"
        )
    if found["void"] > TOO_LOW and found["soft"] < NO_TISSUE:
        return f"{found['void']:.0%} of its values lie below {VOID_HU}, and {found['soft']:.1%} are soft tissue: 1024 was subtracted twice"
    return None
