"""Correction of the bias field: the shading of an MRI by its receiving coil."""

from dataclasses import replace
from typing import Any

import numpy as np

from medgan_pl.data.readers.nan import filled
from medgan_pl.data.readers.scan import Scan


def even(scan: Scan) -> Scan:
    """Return the scan divided by its bias field.

    The field is estimated on a grid at most 64 voxels wide within Otsu's foreground; the median there is kept.
    """
    sitk = simple_itk()

    image = sitk.GetImageFromArray(np.ascontiguousarray(scan.pixels))
    image.SetSpacing(scan.spacing_mm[::-1])
    foreground = sitk.OtsuThreshold(image, 0, 1)
    factors = [max(1, round(n / 64)) for n in image.GetSize()]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetMaximumNumberOfIterations([30, 20, 10])
    corrector.Execute(sitk.Shrink(image, factors), sitk.Shrink(foreground, factors))
    field = np.exp(sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)))
    inside = sitk.GetArrayFromImage(foreground) > 0
    pixels = scan.pixels / field
    pixels *= np.median(scan.pixels[inside]) / np.median(pixels[inside])
    return replace(scan, pixels=filled(pixels.astype(np.float32), scan.padding), bits=None)


def simple_itk() -> Any:
    try:
        import SimpleITK
    except ImportError:
        raise ImportError("data.modality.bias_field=true needs SimpleITK; pip install 'medgan_pl[n4]' or SimpleITK") from None
    return SimpleITK
